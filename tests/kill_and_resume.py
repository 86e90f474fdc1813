"""Runs a recipe in forked children, kills them with SIGKILL at drawn moments, resumes them, and reports what happened.

Forking from a process that has imported everything makes a start cost milliseconds, so that thirty kills fit in a test;
what is killed is a process like any other. Every call of a model is logged before it is made, and every reply after the
cache has acknowledged it, so that the log says which calls were in flight when the end came.

Every other kill comes at a drawn moment of the clock, anywhere from start-up to the sealing of tables. The others come at a
drawn call, which gets no reply and is in flight for sure: without them a fast machine might show no repeat to bound.

    python -P tests/kill_and_resume.py FOLDER --seed 0 --kills 50
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet  # noqa: F401  # what a child would import is imported once

import judges.pairwise  # noqa: F401
from rlhf_eval.cli import commands, main  # noqa: F401
from rlhf_eval.models.base import ChatRequest, Reply
from rlhf_eval.models.door import Door
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import TABLES, to_row
from rlhf_eval.store.cache import ResponseCache
from rlhf_eval.store.runs import Store

PROMPTS = 200
CALLS = 3 * PROMPTS
"""One for both completions of a prompt, two for the judge's two orders."""
PATIENCE = 120.0
"""Seconds after which a child that was to be killed at a call is killed wherever it is."""
CONCURRENCY = 16
RECIPE = """\
load: {source: jsonl, path: prompts.jsonl}
generate: {model: "mock:writer?latency=0.02", n: 2}
judge: {judge_model: "mock:judge?latency=0.02&bias=0.5"}
pairs: {rule: best_worst}
"""


@dataclass(slots=True)
class Home:
    """A folder in which one run is killed and resumed until it is done."""

    path: Path
    kills: int = 0
    held: int = 0
    """Kills that came at a call, which was in flight."""


def log_calls(path: Path, last: int) -> None:
    """Note each call before it is made, by the cache key of its first sample, and each reply once it is kept.

    Call number ``last`` and those after it get no reply, if it is not 0.
    """
    made = itertools.count(1)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    chat, put = MockModel.chat, ResponseCache.put

    async def noted_chat(model: MockModel, request: ChatRequest) -> Reply:
        key = Door._key(model, "chat", request, request.first_sample)  # type: ignore[arg-type]
        number = next(made)
        os.write(log, f"asked {os.getpid()} {key}\n".encode())
        if 0 < last <= number:
            await asyncio.Event().wait()
        return await chat(model, request)

    def noted_put(cache: ResponseCache, items: Mapping[str, bytes]) -> None:
        put(cache, items)
        os.write(log, f"kept {os.getpid()} {' '.join(items)}\n".encode())

    MockModel.chat, ResponseCache.put = noted_chat, noted_put  # type: ignore[method-assign]


def start(home: Path, last: int = 0) -> int:
    """A child that runs the recipe in ``home``, and stalls at call number ``last`` if given; returns its process id."""
    home.mkdir(exist_ok=True)
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.chdir(home)
        (home / "prompts.jsonl").write_text("".join(f'{{"prompt": "Question {k}?"}}\n' for k in range(PROMPTS)))
        (home / "line.yaml").write_text(RECIPE)
        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        log_calls(home / "calls.txt", last)
        code = main(["run", "line.yaml", "--concurrency", str(CONCURRENCY), "--json"])
    finally:
        os._exit(code)


def ended(child: int, home: Path, *, wait: bool) -> bool:
    """Whether the child has ended by itself; raises with its last words if it did not end well."""
    pid, status = os.waitpid(child, 0 if wait else os.WNOHANG)
    if pid and status:
        raise RuntimeError(f"a child ended with status {status}: {(home / 'output.txt').read_text()[-2000:]}")
    return bool(pid)


def calls_of(child: int, home: Path) -> int:
    """How many calls a child has made so far."""
    log = home / "calls.txt"
    return log.read_text().count(f"asked {child} ") if log.exists() else 0


def killed(child: int, home: Path, last: int, seconds: float) -> bool:
    """Kill a child at its call number ``last``, or after so many seconds if that is 0; False if it ended before."""
    deadline = time.monotonic() + (seconds if not last else PATIENCE)
    while time.monotonic() < deadline and (not last or calls_of(child, home) < last):
        if ended(child, home, wait=False):
            return False
        time.sleep(0.001 if not last else 0.01)
    if ended(child, home, wait=False):
        return False
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def interrupted(folder: Path, rng: random.Random, kills: int, seconds: float) -> list[Home]:
    """Run the recipe again and again, each time in a new home, until ``kills`` children have been killed."""
    homes: list[Home] = []
    count = 0
    while count < kills:
        home = Home(folder / f"killed-{len(homes)}")
        homes.append(home)
        done = False
        while not done and count < kills:
            last = rng.randint(1, CALLS // 4) if count % 2 else 0
            moment = rng.uniform(0, seconds) * rng.choice((0.2, 0.6, 1.0))
            done = not killed(start(home.path, last), home.path, last, moment)
            if not done:
                count += 1
                home.kills += 1
                home.held += bool(last)
        if not done:
            ended(start(home.path), home.path, wait=True)
    return homes


def tables(home: Path) -> tuple[dict[str, dict[str, Any]], list[str], list[tuple[str, str, dict[str, int]]]]:
    """What a store holds: records by table and id without what they cost, problems met, and how each run stands."""
    store = Store(home / "rlhf-eval-store")
    held: dict[str, dict[str, Any]] = {}
    for table, kind in TABLES.items():
        rows = (to_row(record) for record in store.records(kind))
        held[table] = {row["id"]: {k: v for k, v in row.items() if k != "usage"} for row in rows if "id" in row}
    runs = [(run.verb, run.status, dict(run.counts)) for run in store.runs()]
    leftovers = [str(path) for path in home.rglob("*.tmp")] + [str(path) for path in home.rglob("log/*.jsonl")]
    return held, store.problems + leftovers, runs


def audit(home: Path) -> dict[str, int]:
    """From the log of calls: how many there were, repeats, those in flight at a kill, and repeats of what was kept."""
    asked: list[str] = []
    flying: dict[str, set[str]] = {}
    kept: set[str] = set()
    again = most = 0
    for line in (home / "calls.txt").read_text().splitlines():
        what, process, *keys = line.split()
        mine = flying.setdefault(process, set())
        if what == "asked":
            again += keys[0] in kept
            asked.append(keys[0])
            mine.add(keys[0])
            most = max(most, len(mine))
        else:
            kept.update(keys)
            mine.difference_update(keys)
    return {
        "calls": len(set(asked)),
        "repeated": len(asked) - len(set(asked)),
        "in_flight": sum(map(len, flying.values())),
        "most_in_flight": most,
        "repeated_though_kept": again,
    }


def report(folder: Path, seed: int, kills: int) -> dict[str, Any]:
    """An uninterrupted run and the killed ones beside it."""
    whole = folder / "whole"
    started = time.monotonic()
    ended(start(whole), whole, wait=True)
    seconds = time.monotonic() - started
    homes = interrupted(folder, random.Random(seed), kills, seconds)
    # Only now, when nothing is forked any more, are the stores read: reading starts threads.
    wanted = tables(whole)
    different = []
    for home in homes:
        found = tables(home.path)
        names = [name for name in TABLES if found[0][name] != wanted[0][name]]
        names += ["problems"] * (found[1] != []) + ["runs"] * (found[2] != wanted[2])
        different += [f"{home.path.name}: {name}: {found[1]} {found[2]}" for name in names]
    return {
        "seconds": seconds,
        "kills": sum(home.kills for home in homes),
        "runs": len(homes),
        "rows": {name: len(rows) for name, rows in wanted[0].items()},
        "different": different,
        "whole": audit(whole),
        "killed": [{"kills": home.kills, "held": home.held, **audit(home.path)} for home in homes],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=15)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(json.dumps(report(given.folder.resolve(), given.seed, given.kills)))
