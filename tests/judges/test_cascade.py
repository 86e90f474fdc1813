"""A cascade asks the strong judge on a known random part, and its corrected mean is that of the strong judge."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from judges.cascade import Config, chance, corrected, estimate, judge, lot, models
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import ChatRequest, Choice, Reply
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Judgment, Prompt


class Says(MockModel):
    """Answers what is written in the question under its own name, ``cheap=A``."""

    def __init__(self, name: str) -> None:
        super().__init__("echo", name=name)
        self.calls = 0

    async def chat(self, request: ChatRequest) -> Reply:
        self.calls += 1
        said = re.search(rf"{self.name}=(\w+)", request.messages[-1].content)
        return Reply(choices=(Choice(text=f"[[{said.group(1)}]]" if said else "hm"),))


CHEAP, STRONG = {"model": "cheap"}, {"model": "strong"}


def run(prompts: list[Prompt], **settings: Any) -> tuple[list[Judgment], dict[str, Says]]:
    doors = {"cheap": Says("cheap"), "strong": Says("strong")}
    config = Config(cheap=CHEAP, strong=STRONG, **settings)
    judgments = []
    for prompt in prompts:
        pair = [Completion.of(prompt_id=prompt.id, model=m, text=m) for m in "ab"]
        verdict = asyncio.run(judge(prompt, pair, doors, config))
        judgments.append(
            Judgment.of(
                prompt_id=prompt.id, completion_ids=(pair[0].id, pair[1].id), judge="cascade", scores=verdict.scores,
                error=verdict.error, metadata=verdict.metadata,
            )
        )  # fmt: skip
    return judgments, doors


def test_the_corrected_mean_is_the_strong_judges_and_the_mean_of_what_was_kept_is_not() -> None:
    """The cheap judge prefers A on 80 % of the pairs, the strong one on 40 %."""
    prompts = [Prompt.of(f"{k}: cheap={'A' if k % 5 else 'B'} strong={'A' if k % 5 < 2 else 'B'}") for k in range(1000)]
    judgments, doors = run(prompts, rate=0.3, floor=0.3)
    found = estimate(judgments)
    assert found.low < 0.4 < found.high
    assert found.value == pytest.approx(0.4, abs=0.08)
    kept = sum(j.scores[0] for j in judgments) / len(judgments)
    assert kept == pytest.approx(0.7 * 0.8 + 0.3 * 0.4, abs=0.05)
    assert doors["cheap"].calls == 1000
    assert doors["strong"].calls == pytest.approx(300, abs=50)


def test_the_same_pairs_are_drawn_in_both_orders_and_by_the_seed() -> None:
    prompt = Prompt.of("x")
    pair = [Completion.of(prompt_id=prompt.id, model=m, text=m) for m in "ab"]
    assert lot(prompt, pair, Config()) == lot(prompt, pair[::-1], Config())
    assert lot(prompt, pair, Config()) != lot(prompt, pair, Config(seed=1))


def test_the_unsure_are_asked_about_more_often_and_the_sure_not_never() -> None:
    config = Config(rate=0.4, floor=0.05)
    assert chance(0.5, config) == pytest.approx(0.4)
    assert chance(0.9, config) == pytest.approx(0.4 * 0.6)
    assert chance(1.0, config) == chance(0.0, config) == 0.05
    with pytest.raises(ValueError, match="floor <= rate"):
        Config(floor=0.5, rate=0.2)


def test_what_the_cheap_judge_cannot_read_goes_to_the_strong_one() -> None:
    (judgment,), _ = run([Prompt.of("strong=B")], rate=0.01, floor=0.01)
    assert judgment.metadata == {"cheap": None, "chance": 1.0, "strong": 0.0}
    assert corrected(judgment.metadata) == 0.0
    (failed,), _ = run([Prompt.of("nothing")], rate=0.01, floor=0.01)
    assert failed.error is not None


def test_models_and_mistakes() -> None:
    assert models(Config(cheap=CHEAP, strong=STRONG)) == ("cheap", "strong")
    assert models(Config()) == ()
    plain = Judgment.of(prompt_id="p", completion_ids=("a", "b"), judge="pairwise", scores=(1.0, 0.0))
    with pytest.raises(UserError, match="not of a cascade"):
        estimate([plain])
    with pytest.raises(UserError, match="no readable judgment"):
        estimate([])
