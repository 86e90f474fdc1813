"""Tournaments find the best answer of a clear order in few matches, and keep every match."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judges.tournament import Config, judge, knockout, models, paired, swiss
from rlhf_eval.models.base import ChatRequest, Choice, Reply
from rlhf_eval.models.mock import Config as MockConfig
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Prompt

PROMPT = Prompt.of("2+2?")


def by_strength(strength: list[int], played: list[tuple[int, int]]):
    async def play(match: tuple[int, int]) -> float:
        played.append(match)
        a, b = match
        return 0.5 if strength[a] == strength[b] else float(strength[a] > strength[b])

    return play


@given(st.integers(1, 17).flatmap(lambda n: st.permutations(range(n))))
def test_the_strongest_wins_a_knockout_in_n_minus_one_matches(strength: list[int]) -> None:
    played: list[tuple[int, int]] = []
    scores = asyncio.run(knockout(len(strength), by_strength(strength, played)))
    assert scores.index(max(scores)) == strength.index(max(strength))
    assert scores.count(1.0) == 1
    assert len(played) == len(strength) - 1
    assert all(0 <= score <= 1 for score in scores)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 13).flatmap(lambda n: st.permutations(range(n))))
def test_the_strongest_is_first_in_a_swiss_and_nobody_meets_twice(strength: list[int]) -> None:
    played: list[tuple[int, int]] = []
    rounds = math.ceil(math.log2(len(strength)))
    scores = asyncio.run(swiss(len(strength), rounds, by_strength(strength, played)))
    assert scores[strength.index(max(strength))] == max(scores) == 1.0
    assert len(played) == rounds * (len(strength) // 2)
    assert len({frozenset(match) for match in played}) == len(played)
    assert sum(scores) * rounds == pytest.approx(rounds * (len(strength) // 2 + len(strength) % 2))


def test_the_lowest_without_a_bye_sits_out() -> None:
    matches, idle = paired([2, 1, 0], {frozenset((0, 1))}, set())
    assert (matches, idle) == ([(0, 1)], [2])
    assert paired([2, 1, 0], set(), {2})[1] == [1]
    assert paired([1, 1, 1, 1], {frozenset((0, 1))}, set())[0] == [(0, 2), (1, 3)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 9999), min_size=2, max_size=9, unique=True), st.sampled_from(["knockout", "swiss"]))
def test_the_best_answer_wins_with_an_unbiased_or_a_biased_judge(qualities: list[int], system: Any) -> None:
    answers = [
        Completion.of(prompt_id=PROMPT.id, model="m", text=f"{k} quality={q / 1e4:.4f}", sample=k)
        for k, q in enumerate(qualities)
    ]
    model = MockModel("judge", config=MockConfig(sharpness=40, bias=1.0))
    verdict = asyncio.run(judge(PROMPT, answers, model, Config(system=system)))
    assert verdict.scores[qualities.index(max(qualities))] == max(verdict.scores)
    assert all(0 <= share <= 1 for _, _, share in verdict.metadata["matches"])


def test_equal_words_need_no_match_and_an_unreadable_match_is_a_failure() -> None:
    class Mute(MockModel):
        async def chat(self, request: ChatRequest) -> Reply:
            return Reply(choices=(Choice(text="hm"),))

    same = [Completion.of(prompt_id=PROMPT.id, model="m", text="4", sample=k) for k in range(2)]
    verdict = asyncio.run(judge(PROMPT, same, Mute("echo"), Config()))
    assert verdict.scores == (1.0, 0.0)
    assert verdict.metadata["matches"] == [[0, 1, 0.5]]
    other = [*same[:1], Completion.of(prompt_id=PROMPT.id, model="m", text="5")]
    failed = asyncio.run(judge(PROMPT, other, Mute("echo"), Config()))
    assert failed.scores == ()
    assert failed.error is not None
    assert failed.error.startswith("unparsed: the match of answers 1 and 2 has no readable verdict")


def test_settings() -> None:
    assert models(Config(member={"model": "m"})) == ("m",)
    assert models(Config()) == ()
    with pytest.raises(ValueError, match="leave it out"):
        Config(rounds=3)
