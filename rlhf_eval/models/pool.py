"""Several endpoints of one model as one: ``openai:NAME@URL1,URL2,...``.

A request goes to the endpoint with the fewest in flight. One that cannot be reached sits out for a while, and its requests
are retried elsewhere by the door. The pool has one identity: which replica answered changes neither cache keys nor records.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from rlhf_eval.errors import ModelUnavailable, RequestFailed
from rlhf_eval.models.base import ChatRequest, Conversation, Model, Probes, Reply
from rlhf_eval.models.door import Bounded

REST = 5.0
"""Seconds that an endpoint sits out after a connection failure, unless all of them do."""


class Pool:
    """Replicas behind one name."""

    def __init__(self, replicas: Sequence[Model], *, name: str, identity: str) -> None:
        self.name = name
        self.id = identity
        self._replicas = list(replicas)
        self._in_flight = [0] * len(replicas)
        self._rests_until = [0.0] * len(replicas)

    async def chat(self, request: ChatRequest) -> Reply:
        """Answer at the least busy replica; raises like the replica."""
        async with self._replica() as replica:
            return await replica.chat(request)

    def most_samples(self, request: ChatRequest) -> int:
        """What every replica gives in one request."""
        bounds = [replica.most_samples(request) for replica in self._replicas if isinstance(replica, Bounded)]
        return min(bounds, default=request.n)

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """Score at the least busy replica; raises like the replica."""
        async with self._replica() as replica:
            return await replica.score(conversations)

    async def probe(self) -> None:
        """Return if any replica is there, and let the others rest; raises ModelUnavailable if none is."""
        probed = [replica.probe() for replica in self._replicas if isinstance(replica, Probes)]
        ends = await asyncio.gather(*probed, return_exceptions=True)
        failures = [end for end in ends if isinstance(end, BaseException)]
        if failures and len(failures) == len(self._replicas):
            raise failures[0]
        for index, end in enumerate(ends):
            if isinstance(end, ModelUnavailable):
                self._rests_until[index] = time.monotonic() + REST
            elif isinstance(end, BaseException):
                raise end

    async def close(self) -> None:
        """Close every replica."""
        await asyncio.gather(*(replica.close() for replica in self._replicas))

    @asynccontextmanager
    async def _replica(self) -> AsyncIterator[Model]:
        now = time.monotonic()
        order = sorted(range(len(self._replicas)), key=lambda i: (self._rests_until[i] > now, self._in_flight[i]))
        chosen = order[0]
        self._in_flight[chosen] += 1
        try:
            yield self._replicas[chosen]
        except RequestFailed as failure:
            if failure.kind == "connection":
                self._rests_until[chosen] = time.monotonic() + REST
            raise
        finally:
            self._in_flight[chosen] -= 1
