"""Work on many items at once, stop cleanly, account for every one.

One continuous pool: a new item starts the moment another ends, no batch waits for its slowest member, and memory holds
only the items in flight. A fatal error or Ctrl-C stops the feed, lets what is in flight finish for a few seconds, and then
says what stopped it.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from rlhf_eval.errors import Interrupted, RlhfEvalError, TooManyFailures
from rlhf_eval.records import Outcome, Record

T = TypeVar("T")

TICK = 0.25
"""Seconds between looks at progress and Ctrl-C."""

AT_ONCE = 16
"""Items begun before the first of them gets a turn: thousands at once would keep the network waiting."""

GRACE = 4.0
"""Seconds that requests in flight are given after Ctrl-C or a fatal error."""


class Sink(Protocol):
    """Where a stage writes: a run of the store, or a list in a test."""

    def ids(self, table: str) -> set[str]:
        """Ids that are already written."""
        ...

    def append(self, table: str, record: Record) -> None:
        """Write one record; durable when it returns."""
        ...


class Halt(Protocol):
    """Something that can refuse all further requests: the budget."""

    def halt(self, reason: RlhfEvalError) -> None:
        """Refuse from now on."""
        ...


@dataclass(slots=True)
class Tally:
    """The account of a stage: done, failed and skipped sum to the items that went in."""

    total: int = 0
    status: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count one item."""
        self.status[outcome.status] += 1
        if outcome.reason:
            self.reasons[f"{outcome.status}: {outcome.reason[:120]}"] += 1

    @property
    def ended(self) -> int:
        """Items that have an outcome."""
        return self.status.total()

    def counts(self) -> dict[str, int]:
        """Plain numbers for the run's record."""
        return {"total": self.total, **{name: self.status[name] for name in ("done", "failed", "skipped")}}


async def drive(
    items: Iterable[T],
    work: Callable[[T], Awaitable[Outcome]],
    *,
    tally: Tally,
    halt: Halt,
    width: int,
    at_once: int = AT_ONCE,
    max_errors: int | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Tally:
    """Do ``work`` on every item, ``width`` at a time, of which ``at_once`` are begun before the first gets a turn.

    Raises what stopped it: Interrupted, TooManyFailures, or a fatal error of the work (BudgetExceeded, ModelUnavailable).
    """
    feed = iter(items)
    stops: list[RlhfEvalError] = []

    async def worker() -> None:
        # All workers share one feed: whoever is free takes the next item, and nothing waits for the slowest.
        for item in feed:
            tally.add(await work(item))
            if max_errors is not None and tally.status["failed"] > max_errors:
                raise _too_many(tally, max_errors)
            if stops:
                return

    with _rare_collections(), _on_interrupt(halt) as interrupted:
        workers: set[asyncio.Task[None]] = set()
        try:
            await _begin(workers, worker, width, at_once)
            running = workers
            while running and not stops:
                done, running = await asyncio.wait(running, timeout=TICK, return_when=asyncio.FIRST_EXCEPTION)
                for error in filter(None, (ended.exception() for ended in done)):
                    if not isinstance(error, RlhfEvalError):
                        raise error
                    stops.append(error)
                if interrupted.is_set():
                    stops.append(Interrupted("interrupted"))
                progress()
            if stops:
                halt.halt(stops[0])
                if running:
                    await asyncio.wait(running, timeout=GRACE)
                raise stops[0]
        finally:  # no task may outlive the run that it writes into
            await _cancel(workers)
    return tally


def _too_many(tally: Tally, max_errors: int) -> TooManyFailures:
    worst = ", ".join(f"{reason} ({n})" for reason, n in tally.reasons.most_common(3))
    return TooManyFailures(f"{tally.status['failed']} items failed, more than --max-errors {max_errors}: {worst}")


async def _begin(
    workers: set[asyncio.Task[None]], worker: Callable[[], Coroutine[Any, Any, None]], width: int, at_once: int
) -> None:
    for count in range(1, width + 1):
        workers.add(asyncio.create_task(worker()))
        if count % at_once == 0:
            await asyncio.sleep(0)


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for garbage less often: thousands of requests in flight make each look long, and leave few cycles to find.

    With Python's own thresholds a third of all CPU time went there, at 400 requests in flight.
    """
    before = gc.get_threshold()
    gc.set_threshold(20_000, 20, 1_000)  # and through everything that the process ever made, hardly at all
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _on_interrupt(halt: Halt) -> Iterator[asyncio.Event]:
    """Turn the first Ctrl-C into an event; the second one ends the program as usual."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def stop() -> None:
        event.set()
        halt.halt(Interrupted("interrupted"))
        loop.remove_signal_handler(signal.SIGINT)

    try:
        loop.add_signal_handler(signal.SIGINT, stop)
    except (NotImplementedError, RuntimeError, ValueError):
        # Only the main thread of a Unix process can catch the signal; elsewhere Ctrl-C keeps its usual meaning.
        yield event
        return
    try:
        yield event
    finally:
        loop.remove_signal_handler(signal.SIGINT)
