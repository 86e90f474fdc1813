"""The one door to inference: cache, retries, adaptive concurrency, budget and accounts around any model.

Every stage and plugin sees a ``Door`` and nothing else. A reply that was paid for is stored before it is returned, so a
killed run repeats at most the requests in flight.

    door = Door(open_model("sandbox:policy"), cache=cache)
    reply = await door.chat(ChatRequest(messages=(Message("user", "hi"),), n=4))
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import msgspec

from rlhf_eval.errors import ModelUnavailable, RequestFailed
from rlhf_eval.models.base import ChatRequest, Choice, Conversation, Model, Probes, Reply, reads
from rlhf_eval.models.limits import Budget, Limiter, Limits
from rlhf_eval.models.prices import Prices
from rlhf_eval.records import NOTHING, Usage, fingerprint

PASSING = frozenset({"timeout", "connection", "rate_limit", "server", "malformed"})
"""Failures that another attempt may cure."""

_TOGETHER = 0.001
"""Seconds within which replies are stored in one transaction."""

_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)


@runtime_checkable
class Bounded(Protocol):
    """A model that draws only so many samples in one request.

    Its ``chat`` may answer with fewer samples than were asked for, the first ones; the door asks for the rest.
    """

    def most_samples(self, request: ChatRequest) -> int:
        """Most samples that one request like this one gets, at least 1."""
        ...


class Cache(Protocol):
    """Where replies are kept: ``store.cache.ResponseCache``, or anything like it."""

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The stored values of those keys that are known."""
        ...

    def put(self, items: Mapping[str, bytes]) -> None:
        """Keep the items; durable when it returns."""
        ...


@dataclass(slots=True)
class Meter:
    """What the calls made inside one ``metered`` block used."""

    usage: Usage = field(default_factory=Usage)
    calls: int = 0
    cached: int = 0


@contextmanager
def metered() -> Iterator[Meter]:
    """Count every call made inside this block, in this task and the tasks it starts."""
    meter = Meter()
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)


@dataclass(slots=True)
class Traffic:
    """What went through a door since it opened; read by the progress line."""

    requests: int = 0
    samples: int = 0
    cached: int = 0
    retried: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)


class Door:
    """A model behind cache, retries, concurrency and budget; itself a model."""

    def __init__(
        self,
        model: Model,
        *,
        cache: Cache | None = None,
        limits: Limits | None = None,
        limiter: Limiter | None = None,
        budget: Budget | None = None,
        prices: Prices | None = None,
        seed: int = 0,
    ) -> None:
        self.name = model.name
        self.id = model.id
        self.limits = limits or Limits()
        self.limiter = limiter or Limiter(self.limits)
        self.traffic = Traffic()
        self.model = model
        self.cache = cache
        self._budget = budget or Budget()
        self._price = prices.of(model.id) if prices else None
        self._jitter = random.Random(seed)
        self._silent_since: float | None = None
        self._mean_tokens = 0.0
        self._probes = model if isinstance(model, Probes) else None
        self._bounds = model if isinstance(model, Bounded) else None
        self._probe: asyncio.Task[None] | None = None
        self._commits = _GroupCommit()

    async def chat(self, request: ChatRequest) -> Reply:
        """The samples of ``request``: from the cache where they are, from the model where they are not."""
        keys = self._keys("chat", request)
        choices = {key: msgspec.json.decode(raw, type=Choice) for key, raw in self._recall(keys).items()}
        parts = _missing(request, [key in choices for key in keys])
        bought = sum(part.n for part in parts)
        used = NOTHING
        if parts:
            fresh, used = await self._buy_all(parts, dict(zip(_indices(request), keys, strict=True)))
            choices.update(fresh)
        self._count(samples=request.n, cached=request.n - bought)
        return Reply(choices=tuple(choices[key] for key in keys), usage=used, cached=request.n - bought)

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """One reward a conversation: from the cache where it is known, from the model where it is not."""
        return await self._numbers("score", self.model.score, conversations)

    async def logprobs(self, conversations: Sequence[Conversation]) -> list[float]:
        """The log-probability of each last turn, cached like rewards; raises UserError for a model that has none."""
        return await self._numbers("logprobs", reads(self.model).logprobs, conversations)

    def price_of(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Dollars for so many tokens; None where no price is known."""
        if self._price is None:
            return None
        return self._price.cost(Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens))

    async def close(self) -> None:
        """Store the replies that have just come, whoever still waits for them, and close the model behind."""
        await self._commits.settle()
        await self.model.close()

    async def _numbers(
        self,
        what: str,
        ask: Callable[[Sequence[Conversation]], Awaitable[list[float]]],
        conversations: Sequence[Conversation],
    ) -> list[float]:
        """One number a conversation: from the cache where it is known, by ``ask`` where it is not."""
        keys = [fingerprint(what, self.id, conversation) for conversation in conversations]
        found = {key: msgspec.json.decode(raw, type=float) for key, raw in self._recall(keys).items()}
        unknown = {key: c for key, c in zip(keys, conversations, strict=True) if key not in found}
        if unknown:
            async with self.limiter.slot(0.0):
                fresh = await ask(list(unknown.values()))
            new = dict(zip(unknown, fresh, strict=True))
            await self._keep({key: msgspec.json.encode(number) for key, number in new.items()})
            found.update(new)
        self._count(samples=len(keys), cached=len(keys) - len(unknown))
        return [found[key] for key in keys]

    def _key(self, what: str, request: ChatRequest, index: int) -> str:
        return fingerprint(
            what, self.id, request.messages, request.sampling, request.top_logprobs, request.choices, index
        )

    def _keys(self, what: str, request: ChatRequest) -> list[str]:
        """``_key`` of every sample, with what they share encoded once: they differ in their last part only."""
        same = (what, self.id, request.messages, request.sampling, request.top_logprobs, request.choices)
        begun = hashlib.blake2b(msgspec.json.encode(same, order="deterministic")[:-1], digest_size=10)
        keys = []
        for index in _indices(request):
            whole = begun.copy()
            whole.update(b",%d]" % index)
            keys.append(whole.hexdigest())
        return keys

    def _recall(self, keys: Sequence[str]) -> dict[str, bytes]:
        return self.cache.get(keys) if self.cache is not None else {}

    async def _keep(self, items: Mapping[str, bytes]) -> None:
        if self.cache is not None:
            await self._commits.put(self.cache, items)

    def _count(self, *, samples: int, cached: int) -> None:
        self.traffic.samples += samples
        self.traffic.cached += cached
        meter = _meter.get()
        if meter is not None:
            meter.calls += 1
            meter.cached += cached

    async def _buy_all(self, parts: Sequence[ChatRequest], keys: Mapping[int, str]) -> tuple[dict[str, Choice], Usage]:
        """Buy all parts at once, none with more samples than the model gives in one request."""
        pieces = [piece for part in parts for piece in self._pieces(part)]
        if len(pieces) == 1:
            return await self._buy(pieces[0], keys)
        # Wait for all of them: what one piece paid for is not thrown away while another fails.
        ends = await asyncio.gather(*(self._buy(piece, keys) for piece in pieces), return_exceptions=True)
        choices, used = {}, NOTHING
        for end in ends:
            if isinstance(end, BaseException):
                raise end
            choices.update(end[0])
            used = used + end[1]
        return choices, used

    async def _buy(self, request: ChatRequest, keys: Mapping[int, str]) -> tuple[dict[str, Choice], Usage]:
        """Buy the samples of one request and keep them; what a short reply lacks is bought after it."""
        reply = await self._attempts(request)
        bought = {keys[index]: choice for index, choice in zip(_indices(request), reply.choices, strict=False)}
        await self._keep({key: msgspec.json.encode(choice) for key, choice in bought.items()})
        got = len(reply.choices)
        if got >= request.n:
            return bought, reply.usage
        rest = replace(request, first_sample=request.first_sample + got, n=request.n - got)
        more, used = await self._buy_all([rest], keys)
        return bought | more, reply.usage + used

    def _pieces(self, request: ChatRequest) -> list[ChatRequest]:
        most = self._bounds.most_samples(request) if self._bounds is not None else request.n
        if request.n <= most:
            return [request]
        first, n = request.first_sample, request.n
        return [replace(request, first_sample=first + k, n=min(most, n - k)) for k in range(0, n, most)]

    async def _attempts(self, request: ChatRequest) -> Reply:
        """Ask until a reply comes, the failure is one that no repetition cures, or the retries are used up."""
        await self._ready()
        for attempt in range(self.limits.retries + 1):
            begun = time.monotonic()
            try:
                return await self._once(request, again=attempt > 0)
            except RequestFailed as failure:
                self._note(failure)
                if failure.kind not in PASSING or attempt == self.limits.retries:
                    raise
                self.traffic.retried += 1
                await asyncio.sleep(self._pause(attempt, failure, time.monotonic() - begun))
        raise AssertionError("unreachable")

    async def _once(self, request: ChatRequest, *, again: bool) -> Reply:
        expected = _characters(request) / 3 + request.n * self._mean_tokens
        async with self.limiter.slot(expected, again=again), self._budget.reserve(self._most(request)) as book:
            started = time.monotonic()
            reply = await self.model.chat(request)
            used = self._settled(reply.usage, time.monotonic() - started)
            book(used)
        if not reply.choices:
            raise RequestFailed("malformed", f"{self.name} answered without any choice")
        self._mean_tokens += 0.05 * (used.completion_tokens / len(reply.choices) - self._mean_tokens)
        self._silent_since = None
        self.limiter.success(expected, used.prompt_tokens + used.completion_tokens)
        self.traffic.requests += 1
        self.traffic.usage = self.traffic.usage + used
        meter = _meter.get()
        if meter is not None:
            meter.usage = meter.usage + used
        return Reply(choices=reply.choices, usage=used)

    async def _ready(self) -> None:
        """Before the first request is bought, find out whether anybody is there; all callers wait for the one answer."""
        if self._probes is not None:
            if self._probe is None:
                self._probe = asyncio.ensure_future(self._probes.probe())
            if self._probe.done():
                self._probe.result()
            else:
                await asyncio.shield(self._probe)

    def _most(self, request: ChatRequest) -> Usage:
        """The most that a request can use; nothing where nobody limits it."""
        if not self._budget.limited:
            return NOTHING
        longest = request.n * request.sampling.max_tokens
        return self._settled(Usage(prompt_tokens=_most_tokens(request), completion_tokens=longest), 0.0)

    def _settled(self, usage: Usage, seconds: float) -> Usage:
        """``usage`` with its price and its time, where the model did not say them."""
        cost = usage.cost or (self._price.cost(usage) if self._price is not None else 0.0)
        return Usage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost=cost,
            seconds=usage.seconds or seconds,
            cached_tokens=usage.cached_tokens,
        )

    def _note(self, failure: RequestFailed) -> None:
        counts = self.traffic.failures
        counts[failure.kind] = counts.get(failure.kind, 0) + 1
        if failure.kind in ("rate_limit", "timeout", "server"):
            self.limiter.pushback(failure.retry_after)
        if failure.kind != "connection":
            return
        # Counted from the first refused connection: a door that nobody used for an hour is not silent.
        now = time.monotonic()
        self._silent_since = now if self._silent_since is None else self._silent_since
        silence = now - self._silent_since
        if silence > self.limits.patience:
            raise ModelUnavailable(
                f"{self.name} has not answered for {silence:.0f} s ({failure}); "
                "start the server and run the same command again: it resumes"
            ) from failure

    def _pause(self, attempt: int, failure: RequestFailed, waited: float) -> float:
        """Seconds until the next attempt: what the server says, or twice as long each time, less what this one took."""
        if failure.retry_after is not None:
            return failure.retry_after * (1 + 0.1 * self._jitter.random())
        pause: float = min(30.0, 0.25 * 2**attempt) * (0.5 + self._jitter.random())
        return max(0.0, pause - waited)


class _GroupCommit:
    """Replies that arrive together are stored in one transaction: at a thousand a second, commits are what costs."""

    def __init__(self) -> None:
        self._pending: dict[str, bytes] = {}
        self._waiting: list[asyncio.Future[None]] = []

    async def put(self, cache: Cache, items: Mapping[str, bytes]) -> None:
        """Return when the items are durable; they become so even if the caller is cancelled."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(_TOGETHER, self._commit, cache)
        self._pending.update(items)
        stored = loop.create_future()
        self._waiting.append(stored)
        await stored

    async def settle(self) -> None:
        """Return when nothing is pending."""
        while self._waiting:
            await asyncio.sleep(_TOGETHER)

    def _commit(self, cache: Cache) -> None:
        items, self._pending = self._pending, {}
        waiting, self._waiting = self._waiting, []
        failed: Exception | None = None
        try:
            cache.put(items)
        except Exception as error:  # noqa: BLE001  whoever waits must hear of it, whatever it is
            failed = error
        for stored in waiting:
            if stored.done():  # its asker is gone
                continue
            if failed is None:
                stored.set_result(None)
            else:
                stored.set_exception(failed)


def _indices(request: ChatRequest) -> range:
    return range(request.first_sample, request.first_sample + request.n)


def _characters(request: ChatRequest) -> int:
    return sum(len(message.content) for message in request.messages)


def _most_tokens(request: ChatRequest) -> int:
    """More tokens than a prompt can have: no tokenizer makes more than one of a byte, and a chat template adds a few."""
    return sum(len(message.content.encode("utf-8", "replace")) + 16 for message in request.messages) + 16


def _missing(request: ChatRequest, known: Sequence[bool]) -> list[ChatRequest]:
    """The parts of ``request`` that must be bought: one request for each unbroken stretch of unknown samples."""
    if not any(known):  # the usual case
        return [request]
    parts: list[ChatRequest] = []
    start: int | None = None
    for offset, have in enumerate([*known, True]):
        if not have and start is None:
            start = offset
        elif have and start is not None:
            parts.append(replace(request, first_sample=request.first_sample + start, n=offset - start))
            start = None
    return parts
