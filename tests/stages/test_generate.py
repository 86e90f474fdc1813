"""The stage stores what is new, books what was paid, and ends every prompt with an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from generators.sample import Config, generate
from rlhf_eval.errors import ModelUnavailable, RequestFailed
from rlhf_eval.models.base import Model
from rlhf_eval.models.door import Door
from rlhf_eval.models.mock import Config as MockConfig
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Prompt, Usage
from rlhf_eval.stages.generate import Writer, complete


def writer(*doors: Door, n: int = 3) -> Writer:
    return Writer(generate=generate, config=Config(n=n), models=doors)


def test_completions_are_stored_with_what_they_cost(sink: Any, prompts: list[Prompt]) -> None:
    one, two = (Door(MockModel("writer", name=name, config=MockConfig(price=1.0))) for name in ("one", "two"))
    completions, outcome = asyncio.run(complete(prompts[0], writer(one, two), sink, set()))
    assert [(c.model, c.sample) for c in completions] == [(m, k) for m in ("one", "two") for k in range(3)]
    assert sink.tables["completions"] == completions
    assert (outcome.status, outcome.records, outcome.verb) == ("done", 6, "generate")
    # The tokens of one request that drew three samples stand on its first.
    assert sum((c.usage for c in completions), Usage()).cost == pytest.approx(
        one.traffic.usage.cost + two.traffic.usage.cost
    )
    assert [c.usage.prompt_tokens > 0 for c in completions] == [True, False, False] * 2


def test_prompts_that_run_at_once_pay_each_for_its_own(sink: Any, prompts: list[Prompt]) -> None:
    async def work() -> None:
        door = Door(MockModel("writer", config=MockConfig(latency=0.01)))
        await asyncio.gather(*(complete(prompt, writer(door), sink, set()) for prompt in prompts))
        booked = sum((c.usage for c in sink.tables["completions"]), Usage())
        assert booked.completion_tokens == door.traffic.usage.completion_tokens
        assert booked.prompt_tokens == door.traffic.usage.prompt_tokens

    asyncio.run(work())


def test_what_is_known_is_handed_on_and_not_stored_again(sink: Any, prompts: list[Prompt]) -> None:
    door = Door(MockModel("writer"))
    first, _ = asyncio.run(complete(prompts[0], writer(door), sink, set()))
    known = {first[0].id, first[2].id}
    again, outcome = asyncio.run(complete(prompts[0], writer(door), sink, known))
    assert [c.text for c in again] == [c.text for c in first]
    assert [c.id for c in sink.tables["completions"]] == [*(c.id for c in first), first[1].id]
    assert outcome.records == 3


def test_a_failed_request_keeps_what_came_before_it_and_its_words(sink: Any, prompts: list[Prompt]) -> None:
    doors = Door(MockModel("writer", name="good")), Door(MockModel("writer", config=MockConfig(fail=1.0)))
    completions, outcome = asyncio.run(complete(prompts[0], writer(*doors), sink, set()))
    assert [c.model for c in completions] == ["good"] * 3
    assert len(sink.tables["completions"]) == 3
    assert (outcome.status, outcome.records) == ("failed", 3)
    assert outcome.reason.startswith("bad_request: the mock refuses")


def test_what_refuses_everybody_is_no_outcome(sink: Any, prompts: list[Prompt]) -> None:
    class Gone(MockModel):
        async def chat(self, request: Any) -> Any:
            raise ModelUnavailable("401")

    with pytest.raises(ModelUnavailable):
        asyncio.run(complete(prompts[0], writer(Door(Gone("echo"))), sink, set()))
    assert not sink.tables


def test_a_generator_may_write_prompts(sink: Any, prompts: list[Prompt]) -> None:
    async def evolve(
        given: Sequence[Prompt], models: Sequence[Model], config: Any
    ) -> AsyncIterator[Completion | Prompt]:
        for prompt in given:
            yield Prompt.of(f"{prompt.text} And why?")
            yield replace(Prompt.of(f"{prompt.text} Briefly."), category="short")

    plan = Writer(generate=evolve, config=None, models=())
    completions, outcome = asyncio.run(complete(prompts[0], plan, sink, set()))
    assert completions == []
    assert [p.text for p in sink.tables["prompts"]] == ["Question 0? And why?", "Question 0? Briefly."]
    assert (outcome.status, outcome.records) == ("done", 2)


def test_the_plugin_says_why_and_the_stage_does_not_guess(sink: Any, prompts: list[Prompt]) -> None:
    async def broken(*_: Any) -> AsyncIterator[Completion]:
        raise RequestFailed("context_overflow", "too long")
        yield

    _, outcome = asyncio.run(complete(prompts[0], Writer(generate=broken, config=None, models=()), sink, set()))
    assert (outcome.status, outcome.reason, outcome.records) == ("failed", "context_overflow: too long", 0)
