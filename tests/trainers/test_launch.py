"""Two processes take the steps that one takes; ``make test-slow`` starts them with ``accelerate launch``."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from accelerate.state import AcceleratorState
from tiny import checkpoint, demonstrations, forked, pairs

from rlhf_eval.config import as_settings, write_yaml
from rlhf_eval.interop import trl
from rlhf_eval.interop.files import content_of
from rlhf_eval.stages.training import Job
from rlhf_eval.stages.training_files import read_file
from trainers import dpo, sft
from trainers.launch import main

HOME = Path(__file__).resolve().parent.parent.parent


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def by_fork(trainer: ModuleType, command: list[str]) -> None:
    """Two ranks as accelerate starts them, but forks of this process, which has imported everything."""
    machine = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}

    def rank(number: int) -> int:
        signal.alarm(120)  # it would wait for ever for one that is gone
        os.environ.update(machine, RANK=str(number), LOCAL_RANK=str(number), ACCELERATE_USE_CPU="true")
        AcceleratorState._reset_state(reset_partial_state=True)  # this process has trained by itself
        sys.argv[1:] = command
        return main(trainer.Config, trainer.train)

    ranks = [forked(partial(rank, number)) for number in range(2)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ranks] == [0, 0]


def by_accelerate(trainer: ModuleType, command: list[str]) -> None:
    """``accelerate launch`` of two processes on this machine's CPU."""
    machine = {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "use_cpu": True, "num_machines": 1,
        "num_processes": 2, "machine_rank": 0, "mixed_precision": "no", "main_process_port": free_port(),
    }  # fmt: skip
    file = Path(command[-1]).with_name("machine.yaml")
    file.write_text(write_yaml(machine), encoding="utf-8")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOME)}
    start = [*launch, "-m", trainer.__name__, *command]
    done = subprocess.run(start, cwd=HOME, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("trainer", "start"),
    [
        (dpo, by_fork),
        pytest.param(dpo, by_accelerate, marks=pytest.mark.slow),
        pytest.param(sft, by_accelerate, marks=pytest.mark.slow),
    ],
)
def test_two_processes_take_the_steps_that_one_takes(
    trainer: ModuleType, start: Callable[[ModuleType, list[str]], None], tmp_path: Path
) -> None:
    base, data = checkpoint(tmp_path / "base"), tmp_path / "data.jsonl"
    trl.write(pairs(24, 0.8) if trainer is dpo else demonstrations(24), data)
    settings = {"learning_rate": 0.01, "batch_size": 8, "warmup": 0.0, "log_every": 1}
    one: list[Any] = []
    job = Job(model=str(base), log=one.append)
    trainer.train(read_file(data), tmp_path / "one", trainer.Config(**settings), job)
    table = {**settings, "model": str(base), "data": str(data), "out": str(tmp_path / "two")}
    (tmp_path / "settings.yaml").write_text(write_yaml(table), encoding="utf-8")
    command = ["--config", str(tmp_path / "settings.yaml")]
    start(trainer, command)
    assert (tmp_path / "two/checkpoint/model.safetensors").is_file()
    two = [json.loads(line) for line in (tmp_path / "two/metrics.jsonl").read_text("utf-8").splitlines()]
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert (a["step"], a["tokens"]) == (b["step"], b["tokens"])
        assert b["loss"] == pytest.approx(a["loss"], abs=2e-5)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"out": ""}, "settings.yaml: out must be named"),
        ({"out": "data.jsonl"}, "data.jsonl: nothing can be kept here"),
        ({"data": 3}, "settings.yaml: Expected `str`, got `int` - at `data`"),
        ({"seed": "first"}, "settings.yaml: Expected `int`, got `str` - at `seed`"),
        ({"seed": -1}, "settings.yaml: seed is -1; it must be a whole number from 0 to"),
        ({"beta": 0.5, "seed": 1}, "out/steps: the state of a training with another beta, seed; remove it, or name"),
        ({}, "hf:base: no such folder"),
    ],
)
def test_a_mistake_in_the_settings_is_one_line(
    settings: dict[str, Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.jsonl").write_text("")
    trl.write(pairs(2), Path("pairs.jsonl"))
    state = Path("out/steps/checkpoint-1")  # of a training that was stopped
    state.mkdir(parents=True)
    (state / "trainer_state.json").write_text('{"global_step": 1}')
    about = {**as_settings(dpo.Config()), "model": "base", "data": content_of(Path("pairs.jsonl")), "seed": 0}
    Path("out/settings.json").write_text(json.dumps(about))
    table = {"model": "base", "data": "pairs.jsonl", "out": "out", **settings}
    Path("settings.yaml").write_text(write_yaml(table), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["dpo.py", "--config", "settings.yaml"])
    assert main(dpo.Config, dpo.train) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
