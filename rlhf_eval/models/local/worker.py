"""One thread that owns a model, and the requests of any number of coroutines that wait for it.

worker = Worker(engine, wait=0.002)
drawn = await worker.ask(task)
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from rlhf_eval.errors import ModelUnavailable, RequestFailed
from rlhf_eval.models.local.checkpoints import first_line

T = TypeVar("T")


class Engine(Protocol):
    """What a worker drives."""

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        ...

    def add(self, tasks: Sequence[Any]) -> None:
        """Queue tasks, each of which has a ``future``."""
        ...

    def step(self) -> None:
        """Do the next piece of work and settle the futures that it completes."""
        ...

    def fail(self, error: Exception) -> None:
        """Give up everything in hand, telling each asker why."""
        ...


class Worker:
    """The one thread that touches the model."""

    def __init__(self, engine: Engine, wait: float) -> None:
        self._engine, self._wait = engine, wait
        self._arrived: list[Any] = []
        self._closed = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="hf-model", daemon=True)
        self._thread.start()

    async def ask(self, task: Any) -> Any:
        """Queue ``task`` and await its future; cancelling the awaiter drops the task."""
        with self._news:
            if self._closed:
                raise ModelUnavailable("this model is closed")
            self._arrived.append(task)
            self._news.notify()
        return await asyncio.wrap_future(task.future)

    def stop(self) -> None:
        """End the thread after the step in hand."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            self._engine.add(self._collect())
            try:
                self._engine.step()
            except Exception as error:  # noqa: BLE001  whatever breaks a step, its askers must hear of it
                self._engine.fail(_failure(error))
        self._engine.add(self._arrived)
        self._engine.fail(ModelUnavailable("this model was closed while it worked"))
        del self._engine

    def _collect(self) -> list[Any]:
        """What has come in; an idle model waits for a first request, and then while more keep coming."""
        with self._news:
            if not self._engine.busy:
                while not (self._arrived or self._closed):
                    self._news.wait()
                until = time.monotonic() + 10 * self._wait
                while not self._closed and time.monotonic() < until and self._news.wait(self._wait):
                    pass
            arrived, self._arrived = self._arrived, []
        return arrived


class Home:
    """A thread with an event loop for the engine, so that callers may come from any loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> Any:
        """Start ``work`` there; returns its concurrent future."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self, last: Any = lambda: None) -> None:
        """Call ``last`` there, and end the thread."""

        async def finish() -> None:
            last()

        self.run(finish()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def settle(future: Future[T], outcome: T | Exception) -> None:
    """Give a waiting asker the result or the error, unless it has gone away meanwhile."""
    with suppress(InvalidStateError):
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _failure(error: Exception) -> RequestFailed:
    if "out of memory" in str(error):
        return RequestFailed("server", f"out of memory; lower batch_size or max_batch_tokens ({first_line(error)})")
    return RequestFailed("server", f"{type(error).__name__}: {first_line(error)}")
