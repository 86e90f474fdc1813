"""The line that shows long work: done, failed, cached, in flight, rate, tokens a second, dollars, time left.

On a terminal one line is redrawn; elsewhere a line is printed every ten seconds. It goes to standard error, so that
results on standard output stay clean.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from rlhf_eval.models.door import Door
from rlhf_eval.stages.drive import Tally


@dataclass(slots=True)
class Progress:
    """Draws the state of a tally and its doors when called."""

    verb: str
    tally: Tally
    doors: Sequence[Door] = ()
    quiet: bool = False
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    started: float = field(default_factory=time.monotonic)
    resumed: int = 0
    """Items that an earlier process had finished; they do not count in the rate."""
    _drawn: float = 0.0
    _width: int = 0

    def __call__(self) -> None:
        """Draw if it is time to."""
        if self.quiet:
            return
        now = time.monotonic()
        terminal = self.stream.isatty()
        if now - self._drawn < (0.2 if terminal else 10.0):
            return
        if not terminal and self._drawn == 0.0 and now - self.started < 10.0:
            return
        self._drawn = now
        self._write(self.line(now - self.started), terminal)

    def close(self) -> None:
        """Leave the last state standing on a terminal."""
        if not self.quiet and self.stream.isatty() and self._width:
            self._write(self.line(time.monotonic() - self.started), terminal=True)
            self.stream.write("\n")
            self.stream.flush()

    def line(self, seconds: float) -> str:
        """The state after ``seconds`` of work."""
        ended, total = self.tally.ended, self.tally.total
        rate = (ended - self.resumed) / seconds if seconds > 0 else 0.0
        left = f"{(total - ended) / rate:,.0f} s left" if rate > 0 and total > ended else ""
        cached = sum(door.traffic.cached for door in self.doors)
        flying = sum(limiter.in_flight for limiter in {id(door.limiter): door.limiter for door in self.doors}.values())
        tokens = sum(door.traffic.usage.completion_tokens for door in self.doors)
        cost = sum(door.traffic.usage.cost for door in self.doors)
        parts = [
            f"{self.verb} {ended:,}/{total:,} prompts",
            f"{self.tally.status['failed']} failed" if self.tally.status["failed"] else "",
            f"{cached:,} cached" if cached else "",
            f"{flying} in flight" if flying else "",
            f"{rate:,.1f}/s",
            f"{tokens / seconds:,.0f} tok/s" if tokens and seconds > 0 else "",
            f"${cost:.4f}" if cost else "",
            left,
        ]
        return " · ".join(part for part in parts if part)

    def _write(self, text: str, terminal: bool) -> None:
        if terminal:
            self.stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()
