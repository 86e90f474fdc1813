"""Fixtures shared by all rooms."""

from __future__ import annotations

import asyncio
import csv
import gc
import json
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples every time, and no clock: a loaded machine is no reason to fail.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without the garbage collector, and leave to it only what comes after.

    Four thousand tests and all that they import stay until the end: looking through them took a quarter of the collection.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """After each file, leave to the garbage collector only what comes after.

    What is alive then mostly stays. Accelerate collects garbage at the start of every training, which took up to a second.
    """
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path != item.path:
            gc.collect()
            gc.freeze()


@pytest.fixture(scope="session")
def groundtruth() -> Path:
    """The folder of published judgments, by environment variable; tests that need it skip where it is absent."""
    place = os.environ.get("RLHF_EVAL_GROUNDTRUTH", "")
    if not place or not Path(place).is_dir():
        pytest.skip("RLHF_EVAL_GROUNDTRUTH names no folder of published judgments")
    return Path(place)


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write a file below ``tmp_path``: text as it is, else by its name's ending rows of a CSV, JSON lines or JSON."""

    def write(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            if isinstance(content, str):
                file.write(content)
            elif path.suffix == ".csv":
                rows = csv.DictWriter(file, list(content[0]))
                rows.writeheader()
                rows.writerows(content)
            elif path.suffix == ".jsonl":
                file.writelines(json.dumps(row) + "\n" for row in content)
            else:
                json.dump(content, file)
        return path

    return write


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next deadline: an hour of waiting takes no time, and always ends the same."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._poll = self._selector.select
        self._selector.select = self._jump

    def time(self) -> float:
        return self._now

    def _jump(self, timeout: float | None = None) -> Any:
        ready = self._poll(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits, and nothing will ever happen")
        if not ready:
            self._now += timeout or 0.0
        return ready


@pytest.fixture(scope="session")
def simulate() -> Callable[[Callable[[Callable[[], float]], Coroutine[Any, Any, Any]]], Any]:
    """Run ``work(clock)`` in simulated time; a deadlock is an error."""

    def run(work: Callable[[Callable[[], float]], Coroutine[Any, Any, Any]]) -> Any:
        loop = SimulatedLoop()
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(work(loop.time))

    return run
