"""Two processes under ``accelerate launch`` take the steps that one takes."""

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


def launch(trainer: str, folder: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Train in two processes on this machine's CPU; the rows of metrics."""
    (folder / "settings.yaml").write_text(write_yaml(settings), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machine = {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "use_cpu": True, "num_machines": 1,
        "num_processes": 2, "machine_rank": 0, "mixed_precision": "no", "main_process_port": port,
    }  # fmt: skip
    (folder / "machine.yaml").write_text(write_yaml(machine), encoding="utf-8")
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(folder / "machine.yaml"),
        "-m", f"trainers.{trainer}", "--config", str(folder / "settings.yaml"),
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOME)}
    done = subprocess.run(command, cwd=HOME, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    out = Path(settings["out"])
    assert (out / "checkpoint" / "model.safetensors").is_file()
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("trainer", [pytest.param(sft, marks=pytest.mark.slow), dpo])
def test_two_processes_take_the_steps_that_one_takes(trainer: ModuleType, tmp_path: Path) -> None:
    name = trainer.__name__.rpartition(".")[2]
    base, data = checkpoint(tmp_path / "base"), tmp_path / "data.jsonl"
    trl.write(pairs(24, 0.8) if name == "dpo" else demonstrations(24), data)
    settings = {"learning_rate": 0.01, "batch_size": 8, "warmup": 0.0, "log_every": 1}
    one: list[Any] = []
    job = Job(model=str(base), log=one.append)
    trainer.train(read_file(data), tmp_path / "one", trainer.Config(**settings), job)
    two = launch(name, tmp_path, {**settings, "model": str(base), "data": str(data), "out": str(tmp_path / "two")})
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert (a["step"], a["tokens"]) == (b["step"], b["tokens"])
        assert b["loss"] == pytest.approx(a["loss"], abs=2e-5)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
