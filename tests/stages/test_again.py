"""Repeats are new samples, numbered behind those that the cache may know."""

from __future__ import annotations

import asyncio
from typing import Any

from rlhf_eval.models.base import ChatRequest, Reply
from rlhf_eval.stages.again import STRIDE, Again, again


class Spy:
    name = id = "spy"

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def chat(self, request: ChatRequest) -> Reply:
        self.asked.append(request.first_sample)
        return Reply(choices=())


def test_a_repeat_is_a_new_sample_and_not_the_cached_one() -> None:
    spy: Any = Spy()
    asyncio.run(Again(spy, 3).chat(ChatRequest(messages=(), first_sample=2)))
    assert spy.asked == [3 * STRIDE + 2]
    assert (Again(spy, 3).name, Again(spy, 3).id) == ("spy", "spy")


def test_the_first_time_is_the_model_itself_and_members_are_asked_again_one_by_one() -> None:
    model: Any = Spy()
    assert again(model, 0) is model
    assert again(None, 3) is None
    members = again({"a": model, "b": model}, 2)
    assert isinstance(members, dict)
    assert {name: (one.model, one.repeat) for name, one in members.items()} == {"a": (model, 2), "b": (model, 2)}
