"""How many requests may be in flight, how fast they may start, and how much they may spend.

One ``Limiter`` stands before an endpoint: it hands out slots first come, first served, shrinks when the server pushes back
and grows with every success, as TCP does; but a server that fails now and then, whatever its load, is not slowed down for
it. One ``Budget`` stands before all
endpoints of a run: it reserves the most a request can cost before it starts, so that a limit is never overrun.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from rlhf_eval.errors import BudgetExceeded, RlhfEvalError
from rlhf_eval.records import Usage

T = TypeVar("T")

RECENT = 50
"""Answers by which a server is judged."""
OVERLOADED = 0.2
"""Share of pushback among them from which on it is the load that the server objects to."""
FEW = 4
"""Refusals that it takes at least, unless there is nothing but refusals."""
GROWTH = 0.05
"""Share of the limit by which it grows in a round trip: one slot more each time would take hours from 10 to 1,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one endpoint may be asked."""

    concurrency: int = 64
    """Most requests in flight; the adaptive limit moves below it."""
    rpm: float = 0.0
    """Most requests a minute; 0 sets no limit."""
    tpm: float = 0.0
    """Most tokens a minute (estimated before, corrected after each reply); 0 sets no limit."""
    retries: int = 6
    """Further attempts after a failure that may pass: timeout, connection, 429, 5xx, malformed reply."""
    patience: float = 60.0
    """Seconds without any success after which connection failures count as a dead server."""


class Held(Generic[T]):
    """An async context manager out of two plain functions: a generator would cost as much as all else that they do."""

    __slots__ = ("_enter", "_leave")

    def __init__(self, enter: Callable[[], Awaitable[T]], leave: Callable[[], None]) -> None:
        self._enter, self._leave = enter, leave

    async def __aenter__(self) -> T:
        return await self._enter()

    async def __aexit__(self, *_: object) -> None:
        self._leave()


class Limiter:
    """Slots for requests in flight: fair, adaptive, with optional rates."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self.limit = float(limits.concurrency)
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._open_at = 0.0
        self._last_cut = float("-inf")
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._refused = 0
        """How many of the recent answers were pushback."""
        self._requests = _Bucket(limits.rpm / 60, clock)
        self._tokens = _Bucket(limits.tpm / 60, clock)

    def slot(self, tokens: float, *, again: bool = False) -> Held[None]:
        """Hold one place in flight for a request of about ``tokens`` tokens, as an async context manager.

        A request that is sent ``again`` has stood in the line before: it goes to its head.
        """
        return Held(partial(self._enter, tokens, again), self._leave)

    def success(self, tokens_expected: float = 0.0, tokens_used: float = 0.0) -> None:
        """A reply came: grow by a twentieth a round trip, by one slot at least, and settle the token rate."""
        self._note(refused=False)
        self.limit = min(self._limits.concurrency, self.limit + max(1 / self.limit, GROWTH))
        self._tokens.settle(tokens_used - tokens_expected)
        self._wake()

    def pushback(self, retry_after: float | None) -> None:
        """The server refused, failed or timed out.

        If it often does, cut, once a second at most, and let nobody start before ``retry_after`` seconds; if it seldom
        does, that request alone waits.
        """
        self._note(refused=True)
        answers = len(self._recent)
        if self._refused < max(OVERLOADED * answers, min(answers, FEW)):
            return
        now = self._clock()
        if now - self._last_cut >= 1.0:
            self.limit = max(1.0, self.limit * 0.7)
            self._last_cut = now
        if retry_after:
            self._open_at = max(self._open_at, now + retry_after)

    def _note(self, *, refused: bool) -> None:
        if len(self._recent) == RECENT:
            self._refused -= self._recent[0]
        self._recent.append(refused)
        self._refused += refused

    async def _enter(self, tokens: float, again: bool) -> None:
        await self._acquire(again)
        try:
            await self._wait_for_rates(tokens)
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self.in_flight -= 1
        self._wake()

    async def _acquire(self, again: bool) -> None:
        if not self._waiting and self.in_flight < int(self.limit):
            self.in_flight += 1
            return
        turn = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if again else self._waiting.append)(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.in_flight -= 1
                self._wake()
            elif turn in self._waiting:  # else _wake has passed over it between the cancellation and this line
                self._waiting.remove(turn)
            raise

    def _wake(self) -> None:
        while self._waiting and self.in_flight < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)

    async def _wait_for_rates(self, tokens: float) -> None:
        pause = max(self._open_at - self._clock(), self._requests.take(1.0), self._tokens.take(tokens))
        while pause > 0:
            await asyncio.sleep(pause)
            pause = self._open_at - self._clock()


class _Bucket:
    """A token bucket that never says no: ``take`` returns how long to wait."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._free_at = clock()

    def take(self, amount: float) -> float:
        if self._rate <= 0:
            return 0.0
        now = self._clock()
        start = max(self._free_at, now)
        self._free_at = start + amount / self._rate
        return start - now

    def settle(self, difference: float) -> None:
        if self._rate > 0:
            self._free_at += difference / self._rate


class Budget:
    """Dollars and tokens that a run may spend, over all its endpoints."""

    def __init__(self, max_cost: float | None = None, max_tokens: int | None = None) -> None:
        self.max_cost = max_cost
        self.max_tokens = max_tokens
        self.spent = Usage()
        self._reserved = Usage()
        self._holders = 0
        self._changed = asyncio.Event()
        self._halted: RlhfEvalError | None = None

    def halt(self, reason: RlhfEvalError) -> None:
        """Let no further request start: each will raise ``reason``; those in flight may finish."""
        self._halted = self._halted or reason
        self._changed.set()

    @property
    def limited(self) -> bool:
        """Whether there is any limit to reserve against."""
        return self.max_cost is not None or self.max_tokens is not None

    def reserve(self, most: Usage) -> Held[Callable[[Usage], None]]:
        """Set ``most`` aside while a request runs; the caller reports what it really used to what it is given.

        Waits while other requests hold what this one needs; raises BudgetExceeded when even an idle budget is too small.
        """
        return Held(partial(self._take, most), partial(self._give, most))

    async def _take(self, most: Usage) -> Callable[[Usage], None]:
        while not self._fits(most):
            if self._holders == 0:
                raise BudgetExceeded(self._words())
            self._changed.clear()
            await self._changed.wait()
        self._holders += 1
        if self.limited:
            self._reserved = self._reserved + most
        return self._book

    def _give(self, most: Usage) -> None:
        self._holders -= 1
        if self.limited:
            self._reserved = self._reserved - most if self._holders else Usage()
            self._changed.set()

    def _book(self, used: Usage) -> None:
        self.spent = self.spent + used

    def _fits(self, more: Usage) -> bool:
        if self._halted is not None:
            raise self._halted
        if not self.limited:
            return True
        total = self.spent + self._reserved + more
        within_cost = self.max_cost is None or total.cost <= self.max_cost + 1e-12
        tokens = total.prompt_tokens + total.completion_tokens
        return within_cost and (self.max_tokens is None or tokens <= self.max_tokens)

    def _words(self) -> str:
        tokens = self.spent.prompt_tokens + self.spent.completion_tokens
        limits = [f"--max-cost {self.max_cost}"] if self.max_cost is not None else []
        limits += [f"--max-tokens {self.max_tokens}"] if self.max_tokens is not None else []
        return (
            f"stopped by {' and '.join(limits)}: ${self.spent.cost:.4f} and {tokens:,} tokens are spent, and the next "
            "request could overrun the limit; what is done is kept"
        )
