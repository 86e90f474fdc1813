"""What the grading judge can do beyond one to ten: yes or no, decimals, samples, thoughts."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from scripted import Scripted

from judges.grade import Config, ask, judge, read_verdict
from rlhf_eval.models.base import Choice, TokenLogprob
from rlhf_eval.records import Completion, Prompt

PROMPT = Prompt.of("2+2?", reference="4")
ANSWER = Completion.of(prompt_id=PROMPT.id, model="m", text="4")
YES_NO = Config(scale="yes_no")


def test_yes_and_no_are_one_and_zero_or_the_chance_of_yes() -> None:
    assert read_verdict(Choice(text="Well. [[Yes]]"), YES_NO).scores == (1.0,)
    assert read_verdict(Choice(text="[[yes]]? [[no]]"), YES_NO).scores == (0.0,)
    top = (("no", math.log(0.5)), ("yes", math.log(0.2)), ("Yes", math.log(0.1)))
    tokens = (TokenLogprob("[[", 0.0), TokenLogprob("no", math.log(0.5), top), TokenLogprob("]]", 0.0))
    assert read_verdict(Choice(text="[[no]]", logprobs=tokens), YES_NO).scores[0] == pytest.approx(0.3 / 0.8)
    assert read_verdict(Choice(text="yes"), YES_NO).error == "unparsed: no [[yes]] or [[no]] at the end of the reply"


def test_the_question_is_asked_for_yes_or_no() -> None:
    system, user = ask(PROMPT, "4", YES_NO)
    assert "[[yes]] or [[no]]" in system.content
    assert user.content.endswith("Is it a good answer?")
    assert "Reference answer:\n4\n" in ask(PROMPT, "4", Config(scale="yes_no", reference=True))[1].content


@pytest.mark.parametrize(
    ("text", "grade"), [("[[8.5]]", 8.5), ("[[8]]", 8.0), ("[[3]], rather [[ 7.25 ]]", 7.25), ("[[10]]", 10.0)]
)
def test_decimals_are_taken_as_they_are_written(text: str, grade: float) -> None:
    assert read_verdict(Choice(text=text), Config(decimals=True)).scores == (grade,)


@pytest.mark.parametrize("text", ["[[11]]", "[[0.5]]", "[[-1]]", "[[8,5]]", "8.5", "[[8]] [[99]]"])
def test_a_decimal_off_the_scale_is_a_failure(text: str) -> None:
    assert read_verdict(Choice(text=text), Config(decimals=True)).scores == ()


def graded(*texts: str, **settings: Any):
    return asyncio.run(judge(PROMPT, (ANSWER,), Scripted(*texts), Config(**settings)))


def test_several_replies_are_averaged() -> None:
    verdict = graded("[[7]]", "[[9]]", "no idea", samples=3, temperature=1.0)
    assert verdict.scores == (8.0,)
    assert verdict.metadata == {"verdicts": [7, 9], "unparsed": 1}


def test_a_thought_holds_no_grade() -> None:
    assert graded("<think>[[9]]</think>[[4]]").scores == (4.0,)
    assert graded("<think>[[9]]").error is not None
    with pytest.raises(ValueError, match="temperature above 0"):
        Config(samples=2)
