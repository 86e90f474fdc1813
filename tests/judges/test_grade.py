"""Grades: strict on the scale, weighted by probability only where every grade is one token."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.grade import Config, ask, judge, read_verdict
from rlhf_eval.models.base import ChatRequest, Choice, Reply, TokenLogprob
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Prompt

PROMPT = Prompt.of("2+2?", reference="It is 4.")


def reply(*tokens: str, at: int = 1, top: dict[str, float]) -> Choice:
    """A reply of these tokens, with the probabilities of the alternatives at one of them."""
    rows = [TokenLogprob(token, 0.0) for token in tokens]
    alternatives = tuple((name, math.log(p)) for name, p in top.items())
    rows[at] = TokenLogprob(tokens[at], math.log(top.get(tokens[at], 1e-9)), alternatives)
    return Choice(text="".join(tokens), logprobs=tuple(rows))


@given(st.dictionaries(st.integers(1, 9), st.floats(0.01, 1), min_size=1))
def test_the_grade_is_the_mean_under_the_tokens_probabilities(weights: dict[int, float]) -> None:
    grade = max(weights, key=lambda g: weights[g])
    verdict = read_verdict(reply("[[", str(grade), "]]", top={str(g): p for g, p in weights.items()}), Config(high=9))
    assert verdict.scores[0] == pytest.approx(sum(g * p for g, p in weights.items()) / sum(weights.values()))
    assert min(weights) - 1e-9 <= verdict.scores[0] <= max(weights) + 1e-9
    assert verdict.metadata == {"verdict": grade}


def test_a_ten_that_is_one_token_is_weighed_with_the_others() -> None:
    verdict = read_verdict(reply("[[", "9", "]]", top={"9": 0.5, "10": 0.25, "1": 0.25}), Config())
    assert verdict.scores[0] == pytest.approx(0.5 * 9 + 0.25 * 10 + 0.25 * 1)


def test_a_word_among_the_alternatives_has_no_grade() -> None:
    verdict = read_verdict(reply("[[", "8", "]]", top={"8": 0.6, "eight": 0.3, "7": 0.1}), Config(high=9))
    assert verdict.scores[0] == pytest.approx((8 * 0.6 + 7 * 0.1) / 0.7)


@pytest.mark.parametrize(
    ("choice", "settings", "grade"),
    [
        (reply("[[", "1", "0", "]]", top={"1": 0.9, "9": 0.1}), {}, 10),  # "10" of two tokens
        (reply("[[", "9", "]]", top={"9": 0.8, "1": 0.2}), {}, 9),  # the 1 may have meant 10
        (reply("[[", "8", "]]", top={"8": 0.8, "7": 0.2}), {"high": 100}, 8),  # the 7 may have meant 70
        (reply("[[", "7", "]]", top={"7": 0.5, "6": 0.5}), {"soft": False}, 7),
        (Choice(text="[[7]]"), {}, 7),
    ],
)
def test_where_a_digit_may_be_half_a_grade_the_grade_is_taken_as_written(
    choice: Choice, settings: dict[str, Any], grade: int
) -> None:
    assert read_verdict(choice, Config(**settings)).scores == (float(grade),)


def test_a_grade_whose_own_probability_underflows_is_taken_as_written() -> None:
    row = TokenLogprob("7", -9999.0, (("7", -9999.0), ("8", -9999.0)))
    choice = Choice(text="[[7]]", logprobs=(TokenLogprob("[[", 0.0), row, TokenLogprob("]]", 0.0)))
    assert read_verdict(choice, Config()).scores == (7.0,)


@pytest.mark.parametrize("text", ["", "Seven.", "[[0]]", "[[11]]", "[[7.5]]", "[[3]]? No, [[12]]", "7/10"])
def test_what_is_not_on_the_scale_is_a_failure_and_never_a_score(text: str) -> None:
    verdict = read_verdict(Choice(text=text, finish_reason="length"), Config())
    assert verdict.scores == ()
    assert verdict.error == (
        "unparsed: no [[number]] from 1 to 10 at the end of the reply, which was cut off at max_tokens"
    )


@given(st.text(max_size=60))
def test_the_answer_stands_in_the_question_letter_for_letter(text: str) -> None:
    _, user = ask(PROMPT, text, Config())
    assert user.content == f"Question:\n2+2?\n\nAnswer:\n{text}\n\nWhat is its grade?"


def test_the_scale_is_told_and_must_rise() -> None:
    system, user = ask(PROMPT, "4", Config(low=0, high=5, reference=True))
    assert "from 0 (worst) to 5 (best)" in system.content
    assert "It is 4." in user.content
    for low, high in ((5, 5), (6, 5), (-1, 5), (0, 101)):
        with pytest.raises(ValueError, match="must rise"):
            Config(low=low, high=high)


def test_a_judge_is_asked_once_about_one_answer() -> None:
    class Grader(MockModel):
        async def chat(self, request: ChatRequest) -> Reply:
            assert request.top_logprobs == 20
            return Reply(choices=(Choice(text="[[4]]"),))

    answer = Completion.of(prompt_id=PROMPT.id, model="m", text="4")
    assert asyncio.run(judge(PROMPT, (answer,), Grader("echo"), Config())).scores == (4.0,)
