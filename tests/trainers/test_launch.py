"""Two processes take the steps that one takes; ``make test-slow`` starts them with ``accelerate launch``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny import checkpoint, demonstrations, pairs

from rlhf_eval.config import write_yaml
from rlhf_eval.interop import trl
from rlhf_eval.stages.training import Job
from rlhf_eval.stages.training_files import read_file
from trainers import dpo, sft

HOME = Path(__file__).resolve().parent.parent.parent


FORKED = """
import os
import signal

import peft
from transformers import LlamaForCausalLM, Trainer

from trainers import dpo
from trainers.launch import main

left = set()
for rank in range(2):
    child = os.fork()
    if not child:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        code = 70
        try:
            code = main(dpo.Config, dpo.train)
        finally:
            os._exit(code)
    left.add(child)
failed = False
while left:
    child, status = os.wait()
    left.discard(child)
    if status and not failed:
        failed = True
        for other in left:
            os.kill(other, signal.SIGKILL)  # it would wait for the one that is gone
raise SystemExit(failed)
"""
"""Two ranks as accelerate starts them, but forked from one process that has imported everything: a third of the time."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def forked() -> tuple[list[str], dict[str, str]]:
    """A command that starts two ranks of DPO, and its environment."""
    machine = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return ["-c", FORKED], {**machine, "ACCELERATE_USE_CPU": "true"}


def launched(trainer: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """``accelerate launch`` of two processes on this machine's CPU."""
    machine = {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "use_cpu": True, "num_machines": 1,
        "num_processes": 2, "machine_rank": 0, "mixed_precision": "no", "main_process_port": free_port(),
    }  # fmt: skip
    (folder / "machine.yaml").write_text(write_yaml(machine), encoding="utf-8")
    return ["-m", "accelerate.commands.launch", "--config_file", str(folder / "machine.yaml"), "-m", trainer], {}


def trained(start: tuple[list[str], dict[str, str]], folder: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Train in two processes; the rows of metrics."""
    (folder / "settings.yaml").write_text(write_yaml(settings), encoding="utf-8")
    command, machine = [sys.executable, *start[0], "--config", str(folder / "settings.yaml")], start[1]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOME), **machine}
    done = subprocess.run(command, cwd=HOME, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    out = Path(settings["out"])
    assert (out / "checkpoint" / "model.safetensors").is_file()
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("trainer", "by_accelerate"),
    [
        (dpo, False),
        pytest.param(dpo, True, marks=pytest.mark.slow),
        pytest.param(sft, True, marks=pytest.mark.slow),
    ],
)
def test_two_processes_take_the_steps_that_one_takes(trainer: ModuleType, by_accelerate: bool, tmp_path: Path) -> None:
    base, data = checkpoint(tmp_path / "base"), tmp_path / "data.jsonl"
    trl.write(pairs(24, 0.8) if trainer is dpo else demonstrations(24), data)
    settings = {"learning_rate": 0.01, "batch_size": 8, "warmup": 0.0, "log_every": 1}
    one: list[Any] = []
    job = Job(model=str(base), log=one.append)
    trainer.train(read_file(data), tmp_path / "one", trainer.Config(**settings), job)
    start = launched(trainer.__name__, tmp_path) if by_accelerate else forked()
    two = trained(start, tmp_path, {**settings, "model": str(base), "data": str(data), "out": str(tmp_path / "two")})
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert (a["step"], a["tokens"]) == (b["step"], b["tokens"])
        assert b["loss"] == pytest.approx(a["loss"], abs=2e-5)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
