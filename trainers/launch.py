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
from pathlib import Path
from typing import Any

from rlhf_eval.config import apply_sets, build, read_yaml
from rlhf_eval.errors import Interrupted, RlhfEvalError, UserError
from rlhf_eval.stages.training import Data, Job, Metrics
from rlhf_eval.stages.training_files import read_file
from trainers.engine import state_of

Train = Callable[[Data, Path, Any, Job], Metrics]


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
    missing = [name for name in ("model", "data", "out") if not table.get(name)]
    if missing:
        raise UserError(f"{where}: {' and '.join(missing)} must be named")
    model, data, out = str(table.pop("model")), Path(table.pop("data")), Path(table.pop("out"))
    seed = int(table.pop("seed", 0))
    config: Any = build(config_kind, table, where=where)
    out.mkdir(parents=True, exist_ok=True)
    first = os.environ.get("RANK", "0") == "0"
    if first and state_of(out) is None:
        (out / "metrics.jsonl").unlink(missing_ok=True)  # of an earlier training, which this one replaces
    stopping: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: stopping.append(number))

    def log(row: Mapping[str, Any]) -> None:
        with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        _say(" ".join(f"{name} {_short(value)}" for name, value in row.items()))

    job = Job(model=model, seed=seed, stopping=lambda: bool(stopping), cache=out / "cache", say=_say)
    if first:
        job = Job(model=model, seed=seed, stopping=job.stopping, cache=job.cache, say=_say, log=log)
    metrics = train(read_file(data), out, config, job)
    if metrics.stopped:
        raise Interrupted(f"stopped at step {metrics.steps:,}; run the same command to go on")
    if first:
        shutil.rmtree(out / "steps", ignore_errors=True)
        result = {"checkpoint": str(out / "checkpoint"), "steps": metrics.steps, **metrics.final}
        sys.stdout.write(json.dumps(result) + "\n")
    return 0


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _say(words: str) -> None:
    sys.stderr.write(words + "\n")
