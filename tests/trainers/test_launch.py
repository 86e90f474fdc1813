"""Two processes under ``accelerate launch`` take the steps that one takes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import checkpoint, demonstrations, pairs

from rlhf_eval.config import write_yaml
from rlhf_eval.interop import trl

HOME = Path(__file__).resolve().parent.parent.parent


def launch(trainer: str, processes: int, folder: Path, *, data: Path) -> list[dict[str, float]]:
    out = folder / f"{trainer}{processes}"
    settings = {
        "model": str(folder / "base"), "data": str(data), "out": str(out), "learning_rate": 0.01, "batch_size": 8,
        "warmup": 0.0, "log_every": 1, "eval_share": 0.2,
    }  # fmt: skip
    (folder / f"{trainer}{processes}.yaml").write_text(write_yaml(settings), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machine = {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU" if processes > 1 else "NO", "use_cpu": True,
        "num_machines": 1, "num_processes": processes, "machine_rank": 0, "mixed_precision": "no",
        "main_process_port": port,
    }  # fmt: skip
    (folder / f"machine{processes}.yaml").write_text(write_yaml(machine), encoding="utf-8")
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(folder / f"machine{processes}.yaml"),
        "-m", f"trainers.{trainer}", "--config", str(folder / f"{trainer}{processes}.yaml"),
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOME)}
    done = subprocess.run(command, cwd=HOME, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (out / "checkpoint" / "model.safetensors").is_file()
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("trainer", ["sft", "dpo"])
def test_two_processes_take_the_steps_that_one_takes(trainer: str, tmp_path: Path) -> None:
    checkpoint(tmp_path / "base")
    data = tmp_path / "data.jsonl"
    trl.write(pairs(24, 0.8) if trainer == "dpo" else demonstrations(24), data)
    one, two = (launch(trainer, processes, tmp_path, data=data) for processes in (1, 2))
    assert len(one) == len(two) > 3
    for a, b in zip(one, two, strict=True):
        assert (a["step"], a["split"], a["tokens"]) == (b["step"], b["split"], b["tokens"])
        assert b["loss"] == pytest.approx(a["loss"], abs=2e-5)
