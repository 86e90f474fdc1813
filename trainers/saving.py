"""When a training keeps a state to resume from: by the clock, so that a kill loses minutes, and never at much of a cost.

clock = SaveClock(minutes=1.0)
if clock.due():
    with clock.saving():
        ...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHARE = 20
"""Saving takes at most one part in so many of the time: states of large models are slow to write."""


class SaveClock:
    """Tells when a state is due: ``minutes`` after the last, later where the last took long to write."""

    def __init__(self, minutes: float, now: Callable[[], float] = time.monotonic) -> None:
        self._wait, self._now = 60 * minutes, now
        self._last, self._took = now(), 0.0

    def due(self) -> bool:
        """Whether it is time."""
        return self._now() - self._last >= max(self._wait, SHARE * self._took)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Around the writing of a state."""
        start = self._now()
        yield
        self._last = self._now()
        self._took = self._last - start
