"""A trainer as a program of its own, for several processes: data from a file, results in a folder, no store.

    accelerate launch --num_processes 8 -m trainers.dpo --config dpo.yaml

    # dpo.yaml
    model: Qwen/Qwen3-0.6B        # a folder or a hub name
    data: preferences.jsonl       # records of ours, or any of TRL's formats
    out: out/
    beta: 0.1                     # and any other setting of the trainer

The checkpoint lies in ``out/checkpoint``, the metrics in ``out/metrics.jsonl``. Ctrl-C saves, a kill loses about a minute;
the same command goes on. The steps are those of one process, but where an epoch's last batch is short: its missing rows are
then taken from the epoch's first, so that every process has as many.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlhf_eval.config import SEEDS, apply_sets, as_settings, build, read_yaml
from rlhf_eval.errors import Interrupted, RlhfEvalError, UserError
from rlhf_eval.interop.files import content_of
from rlhf_eval.stages.training import Data, Job, Metrics
from rlhf_eval.stages.training_files import read_file
from trainers.engine import state_of

Train = Callable[[Data, Path, Any, Job], Metrics]

ABOUT = "settings.json"
"""What a training in ``out`` was told, by which its state is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the file says beside the trainer's own settings."""

    model: str = ""
    """A folder or a hub name."""
    data: str = ""
    """A file of what the trainer reads."""
    out: str = ""
    """The folder for the checkpoint, the metrics and the states."""
    seed: int = 0
    """Of everything random."""

    def __post_init__(self) -> None:
        if self.seed not in SEEDS:
            raise ValueError(f"seed is {self.seed}; it must be a whole number from 0 to {SEEDS[-1]}")


def main(config_kind: type, train: Train) -> int:
    """Read the settings, train, and report; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True, metavar="FILE", help="settings in YAML")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, as in the file")
    options = parser.parse_args()
    try:
        table = apply_sets(read_yaml(Path(options.config)), options.set)
        return _train(table, options.config, config_kind, train)
    except RlhfEvalError as error:
        _say(f"{parser.prog}: {error}")
        return error.exit_code


def _train(table: dict[str, Any], where: str, config_kind: type, train: Train) -> int:
    given = {name: table.pop(name) for name in Settings.__dataclass_fields__ if name in table}
    settings = build(Settings, given, where=where)
    missing = [name for name in ("model", "data", "out") if not getattr(settings, name)]
    if missing:
        raise UserError(f"{where}: {' and '.join(missing)} must be named")
    config: Any = build(config_kind, table, where=where)
    out = Path(settings.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: nothing can be kept here: {error.strerror}") from error
    data = read_file(Path(settings.data))
    first = os.environ.get("RANK", "0") == "0"
    about = {
        **as_settings(config),
        "model": settings.model,
        "data": content_of(Path(settings.data)),
        "seed": settings.seed,
    }
    if state_of(out) is not None:
        _refuse_others(about, out)
    elif first:
        (out / "metrics.jsonl").unlink(missing_ok=True)  # of an earlier training, which this one replaces
        (out / ABOUT).write_text(json.dumps(about, indent=2), encoding="utf-8")
    stopping: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: stopping.append(number))

    def log(row: Mapping[str, Any]) -> None:
        with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        _say(" ".join(f"{name} {_short(value)}" for name, value in row.items()))

    job = Job(
        model=settings.model, seed=settings.seed, stopping=lambda: bool(stopping), cache=out / "cache", say=_say
    )  # fmt: skip
    job = replace(job, log=log) if first else job
    metrics = train(data, out, config, job)
    if metrics.stopped:
        raise Interrupted(f"stopped at step {metrics.steps:,}; run the same command to go on")
    if first:
        shutil.rmtree(out / "steps", ignore_errors=True)
        result = {"checkpoint": str(out / "checkpoint"), "steps": metrics.steps, **metrics.final}
        sys.stdout.write(json.dumps(result) + "\n")
    return 0


def _refuse_others(about: Mapping[str, Any], out: Path) -> None:
    """Raise UserError where the state in ``out`` is of another training than this one."""
    try:
        earlier = json.loads((out / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = {}
    now = json.loads(json.dumps(about))  # as a file gives it back
    changed = sorted(name for name in now if name not in earlier or now[name] != earlier[name])
    if changed:
        raise UserError(
            f"{out / 'steps'}: the state of a training with another {', '.join(changed)}; remove it, or name another out"
        )


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _say(words: str) -> None:
    sys.stderr.write(words + "\n")
