"""Panels and tastes: many labelers who disagree, one grade, and what exaggeration does to it."""

from __future__ import annotations

import asyncio
from statistics import correlation, fmean, pstdev
from typing import Any

import pytest

from judges import jury, panel, taste
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion
from rlhf_eval.sandbox.gold import reward
from rlhf_eval.sandbox.world import prompts

PROMPT = next(p for p in prompts(limit=40) if p.metadata["constraint"])
LOUD = {"judge": "taste", "settings": {"correct": 0, "followed": 0, "brief": 1, "scale": 10}, "name": "loud"}
FAIR = [{"judge": "taste", "name": "one"}, {"judge": "taste", "name": "two", "settings": {"correct": 0.5}}]


def answer(text: str, sample: int = 0) -> Completion:
    return Completion.of(prompt_id=PROMPT.id, model="m", text=text, sample=sample)


def said(**settings: Any) -> float:
    (score,) = asyncio.run(taste.judge(PROMPT, (answer("one two 7"),), None, taste.Config(**settings))).scores
    return score


def graded(method: Any, *members: dict[str, Any]) -> float:
    config = panel.Config(members=members, method=method)
    return asyncio.run(panel.judge(PROMPT, (answer("one two 7"),), None, config)).scores[0]


def test_the_taste_as_it_stands_is_gold() -> None:
    assert said() == pytest.approx(reward(PROMPT, "one two 7").reward)
    assert said(correct=0, followed=0, brief=1, scale=3) == pytest.approx(3 * reward(PROMPT, "one two 7").brief)


def test_errors_have_their_size_and_are_shared_as_told() -> None:
    def errors(seed: int, shared: float) -> list[float]:
        config = taste.Config(correct=0, followed=0, brief=0, noise=2, shared=shared, seed=seed)
        answers = [answer("7", k) for k in range(800)]
        return [asyncio.run(taste.judge(PROMPT, (a,), None, config)).scores[0] for a in answers]

    one, other, joined = errors(1, 0), errors(2, 0), (errors(1, 0.5), errors(2, 0.5))
    assert one == errors(1, 0)
    assert fmean(one) == pytest.approx(0, abs=0.2)
    assert pstdev(joined[0]) == pytest.approx(2, abs=0.2)
    assert correlation(one, other) == pytest.approx(0, abs=0.1)
    assert correlation(*joined) == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match="shared"):
        taste.Config(shared=1.5)


def test_planted_causes_of_over_optimization() -> None:
    assert said(words=0.5) == pytest.approx(said() + 0.5 * 3)

    def largest(tail: Any) -> tuple[float, float]:
        config = taste.Config(correct=0, followed=0, brief=0, noise=1, tail=tail)
        errors = [asyncio.run(taste.judge(PROMPT, (answer("7", k),), None, config)).scores[0] for k in range(2000)]
        return max(errors), pstdev(errors)

    (normal, one), (heavy, same) = largest("normal"), largest("heavy")
    assert (one, same) == pytest.approx((1, 1), abs=0.25)
    assert heavy > 1.7 * normal


def test_the_loud_one_moves_the_mean_and_not_the_median() -> None:
    quiet = {**LOUD, "settings": {**LOUD["settings"], "scale": 1}}
    assert graded("mean", *FAIR, LOUD) > graded("mean", *FAIR, quiet) + 1
    calm, strained = graded("low_median", *FAIR, quiet), graded("low_median", *FAIR, LOUD)
    own = [said(), said(correct=0.5)]
    assert min(own) <= calm <= strained <= max(own)


def test_a_panel_grades_and_asks_no_model_that_no_member_asks() -> None:
    assert not panel.needs_model(panel.Config(members=(*FAIR, LOUD)))
    assert not jury.needs_model(jury.Config(members=(*FAIR, LOUD)))
    assert panel.needs_model(panel.Config())
    with pytest.raises(UserError, match="the member pairwise compares answers"):
        graded("mean", {"judge": "pairwise"}, LOUD)
    with pytest.raises(ValueError, match="at least two"):
        panel.Config(members=(LOUD,))
