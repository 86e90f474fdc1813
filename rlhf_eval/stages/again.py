"""A question put again: the same model, asked for samples that it has not given yet.

The cache knows a sample by its number, and would answer a repeat with what was said the first time.

    again(model, 2)   # its sample 0 is the model's sample 2048
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rlhf_eval.models.base import ChatRequest, Conversation, Model, Reply, reads

STRIDE = 1024
"""Samples set aside for one repeat: further than any judge that takes several samples reaches."""


class Again:
    """A model, its samples numbered on behind those of the repeats before."""

    def __init__(self, model: Model, repeat: int) -> None:
        self.name = model.name
        self.id = model.id
        self.model = model
        self.repeat = repeat

    async def chat(self, request: ChatRequest) -> Reply:
        """The samples of this repeat."""
        return await self.model.chat(replace(request, first_sample=request.first_sample + STRIDE * self.repeat))

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """The scores, which do not change."""
        return await self.model.score(conversations)

    async def logprobs(self, conversations: Sequence[Conversation]) -> list[float]:
        """The log-probabilities, which do not change either."""
        return await reads(self.model).logprobs(conversations)

    async def close(self) -> None:
        """The model is closed by whoever opened it."""


def again(model: Model | Mapping[str, Model] | None, repeat: int) -> Model | Mapping[str, Model] | None:
    """What a judge asks, a model or its members by spec, as repeat number ``repeat`` asks it; 0 is the first time."""
    if not repeat or model is None:
        return model
    if isinstance(model, Mapping):
        return {spec: Again(one, repeat) for spec, one in model.items()}
    return Again(model, repeat)
