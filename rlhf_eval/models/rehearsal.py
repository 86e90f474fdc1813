"""A dry run: the line is walked with models that answer nothing and charge nothing, and the calls are counted.

Whatever plugin asks, through whatever stage, the forecast is what it would have asked. Replies that are in the cache are
used, so that what is already paid for is not forecast again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rlhf_eval.models.base import ChatRequest, Choice, Conversation, Model, Reply, reads
from rlhf_eval.models.door import Bounded, Cache, Door
from rlhf_eval.records import Usage

TYPICAL = 0.25
"""Share of ``max_tokens`` that an answer is expected to use where nothing is known about the model's answers."""


@runtime_checkable
class CountsTokens(Protocol):
    """A model whose tokenizer is at hand."""

    def count_tokens(self, conversation: Conversation) -> int:
        """Tokens of the rendered conversation."""
        ...


@dataclass(slots=True)
class Rehearsed:
    """What the rehearsed calls would have used."""

    requests: int = 0
    samples: int = 0
    prompt_tokens: int = 0
    least: int = 0
    """Completion tokens if every answer were one token."""
    most: int = 0
    """Completion tokens if every answer were as long as allowed."""
    exact: bool = True
    """Whether prompt tokens were counted, not estimated at four characters a token."""


class Rehearsal:
    """Stands in for a model, under its name and identity."""

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.id = model.id
        self.forecast = Rehearsed()
        self._model = model

    async def chat(self, request: ChatRequest) -> Reply:
        """Count the request; the placeholder answers differ, so that nothing downstream takes them for a tie."""
        seen = self.forecast
        seen.requests += 1
        seen.samples += request.n
        prompt_tokens = self._count(request.messages)
        seen.prompt_tokens += prompt_tokens
        seen.least += request.n
        seen.most += request.n * request.sampling.max_tokens
        texts = (f"[rehearsal {self.name} {request.first_sample + k}]" for k in range(request.n))
        expected = round(request.n * request.sampling.max_tokens * TYPICAL)
        usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=expected)
        return Reply(choices=tuple(Choice(text=text) for text in texts), usage=usage)

    def most_samples(self, request: ChatRequest) -> int:
        """As many as the model that is stood in for."""
        return self._model.most_samples(request) if isinstance(self._model, Bounded) else request.n

    async def logprobs(self, conversations: Sequence[Conversation]) -> list[float]:
        """Count the conversations; raises UserError where the model that is stood in for cannot read."""
        reads(self._model)
        return await self.score(conversations)

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """Count the conversations; every reward is 0."""
        self.forecast.requests += 1
        self.forecast.samples += len(conversations)
        self.forecast.prompt_tokens += sum(self._count(c) for c in conversations)
        return [0.0] * len(conversations)

    async def close(self) -> None:
        """Close the model that was stood in for."""
        await self._model.close()

    def _count(self, conversation: Conversation) -> int:
        if isinstance(self._model, CountsTokens):
            return self._model.count_tokens(conversation)
        self.forecast.exact = False
        return sum(len(message.content) for message in conversation) // 4 + 4 * len(conversation)


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """A cache that is looked into and never added to."""

    cache: Cache

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The stored values of those keys that are known."""
        return self.cache.get(keys)

    def put(self, items: Mapping[str, bytes]) -> None:
        """Keep nothing: a rehearsed reply is no reply."""


def stand_in(door: Door) -> tuple[Door, Rehearsal]:
    """A door to a rehearsal of what lies behind ``door``, with its cache to look into."""
    rehearsal = Rehearsal(door.model)
    return Door(rehearsal, cache=ReadOnly(door.cache) if door.cache is not None else None), rehearsal
