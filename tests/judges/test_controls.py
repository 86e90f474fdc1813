"""The control arms: length measures length, and random is noise that comes out the same every time."""

from __future__ import annotations

import asyncio
import statistics

import pytest

from judges import length, random
from rlhf_eval.records import Completion, Prompt

PROMPT = Prompt.of("question")


def answer(text: str, sample: int = 0) -> Completion:
    return Completion.of(prompt_id=PROMPT.id, model="m", text=text, sample=sample)


@pytest.mark.parametrize(
    ("settings", "score"),
    [
        ({}, 7.0),
        ({"prefer": "shorter"}, -7.0),
        ({"unit": "words"}, 2.0),
        ({"unit": "words", "prefer": "shorter"}, -2.0),
    ],
)
def test_length_is_counted_as_it_is_told(settings: dict, score: float) -> None:
    assert asyncio.run(length.judge(PROMPT, (answer("one two"),), None, length.Config(**settings))).scores == (score,)


def noise(seed: int) -> list[float]:
    config = random.Config(seed=seed)
    return [asyncio.run(random.judge(PROMPT, (answer("x", k),), None, config)).scores[0] for k in range(400)]


def test_random_scores_are_uniform_and_the_same_again() -> None:
    draws = noise(0)
    assert draws == noise(0)
    assert draws != noise(1)
    assert len(set(draws)) == 400
    assert all(0 <= x < 1 for x in draws)
    assert statistics.mean(draws) == pytest.approx(0.5, abs=0.06)
    assert statistics.pstdev(draws) == pytest.approx(12**-0.5, abs=0.03)
    assert abs(statistics.correlation(draws, noise(1))) < 0.15
