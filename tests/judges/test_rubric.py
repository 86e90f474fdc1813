"""Rubrics: weights, pitfalls and hard rules; where the rubric comes from; no criterion without a verdict."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Scripted

from judges.rubric import Config, Criterion, given_rubric, judge, parse, read_all, read_one, score
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import Choice, TokenLogprob
from rlhf_eval.records import Completion, Prompt

RUBRIC = [
    {"criterion": "says four", "weight": 3},
    {"description": "is brief", "weight": 1},
    {"text": "is rude", "weight": -2},
]
PROMPT = Prompt.of("2+2?", metadata={"rubric": RUBRIC})


def answer(text: str = "four") -> Completion:
    return Completion.of(prompt_id=PROMPT.id, model="m", text=text, origin=text)


def check(prompt: Prompt, *replies: str, **settings: Any):
    model = Scripted(*replies)
    return asyncio.run(judge(prompt, (answer(),), model, Config(**settings))), model


@pytest.mark.parametrize(
    ("met", "total"),
    [((1, 1, 0), 1.0), ((1, 0, 0), 0.75), ((1, 1, 1), 0.5), ((0, 0, 1), 0.0), ((0, 0, 0), 0.0), ((0.5, 0.5, 0), 0.5)],
)
def test_weights_add_up_and_pitfalls_take_away(met: tuple[float, ...], total: float) -> None:
    assert score(parse(RUBRIC, "r"), met) == pytest.approx(total)


@given(st.lists(st.tuples(st.floats(-3, 5).filter(lambda w: abs(w) > 0.1), st.floats(0, 1)), min_size=1, max_size=8))
def test_a_score_lies_within_bounds_and_rises_with_what_is_met(rows: list[tuple[float, float]]) -> None:
    criteria = [Criterion(criterion="base", weight=1.0), *(Criterion(criterion="x", weight=w) for w, _ in rows)]
    met = [0.5, *(m for _, m in rows)]
    assert 0 <= score(criteria, met) <= 1
    assert score(criteria, [1.0, *met[1:]]) >= score(criteria, met)


def test_a_broken_hard_rule_is_worth_nothing() -> None:
    criteria = parse(
        [{"criterion": "[Hard Rule] in English", "weight": 1}, "kind", {"text": "lies", "weight": -1, "hard": True}],
        "r",
    )
    assert [c.hard for c in criteria] == [True, False, True]
    assert score(criteria, (1, 1, 0)) == 1
    assert score(criteria, (0, 1, 0)) == 0
    assert score(criteria, (1, 1, 1)) == 0


def test_every_criterion_is_kept_with_its_verdict() -> None:
    verdict, model = check(PROMPT, "Four. [[1: yes]] short [[2: no]] [[2: yes]] polite [[3: no]]")
    assert verdict.scores == (1.0,)
    assert [(c["criterion"], c["weight"], c["met"]) for c in verdict.metadata["criteria"]] == [
        ("says four", 3.0, 1.0), ("is brief", 1.0, 1.0), ("is rude", -2.0, 0.0),
    ]  # fmt: skip
    assert "1. says four\n2. is brief\n3. is rude" in model.requests[0].messages[1].content


@pytest.mark.parametrize(
    "reply", ["", "[[1: yes]] [[2: no]]", "[[1: yes]] [[2: no]] [[3: maybe]]", "1: yes 2: yes 3: no"]
)
def test_a_criterion_without_a_verdict_fails_the_judgment(reply: str) -> None:
    verdict, _ = check(PROMPT, reply)
    assert verdict.scores == ()
    assert verdict.error == "unparsed: not every one of 3 criteria has a yes or no"
    assert verdict.rationale == reply


def test_criteria_can_be_asked_about_one_by_one() -> None:
    verdict, model = check(PROMPT, "[[yes]]", "[[no]]", "[[no]]", separate=True)
    assert verdict.scores == (0.75,)
    assert len(model.requests) == 3
    assert read_all(Choice(text="[[1: Yes]]"), 1) == [1.0]
    assert check(PROMPT, "[[yes]]", "hm", "[[no]]", separate=True)[0].error is not None


def test_one_criterion_is_soft_where_it_can_be() -> None:
    top = (("yes", math.log(0.6)), ("no", math.log(0.2)), ("Yes", math.log(0.1)))
    tokens = (TokenLogprob("[[", 0.0), TokenLogprob("yes", math.log(0.6), top), TokenLogprob("]]", 0.0))
    assert read_one(Choice(text="[[yes]]", logprobs=tokens)) == pytest.approx(0.7 / 0.9)
    assert read_one(Choice(text="[[NO]]")) == 0
    assert read_one(Choice(text="yes")) is None


def test_a_rubric_is_written_once_for_all_answers_of_a_prompt() -> None:
    bare = Prompt.of("2+2?")
    written = json.dumps([{"criterion": "says four", "weight": 5}, {"criterion": "is wrong", "weight": -2}])
    model = Scripted(f"<think>[</think>Here it is:\n{written}", "[[1: yes]] [[2: no]]", "[[1: no]] [[2: yes]]")

    async def both():
        config = Config(generate=True)
        return await asyncio.gather(*(judge(bare, (answer(t),), model, config) for t in ("four", "five")))

    first, second = asyncio.run(both())
    assert (first.scores, second.scores) == ((1.0,), (0.0,))
    assert first.metadata["generated"] is True
    assert len(model.requests) == 3


def test_a_reply_that_is_no_rubric_is_a_failure() -> None:
    verdict, _ = check(Prompt.of("3+3?"), "I would look for correctness.", generate=True)
    assert verdict.error is not None
    assert verdict.error.startswith("unparsed: the reply is no rubric")
    assert verdict.rationale == "I would look for correctness."


def test_a_rubric_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("- is polite\n- {criterion: is true, weight: 4}\n")
    config = Config(rubric=str(tmp_path / "r.yaml"))
    assert [c.weight for c in given_rubric(Prompt.of("x"), config) or ()] == [1, 4]
    assert [c.weight for c in given_rubric(PROMPT, config) or ()] == [3, 1, -2]


@pytest.mark.parametrize(
    ("rubric", "message"),
    [([], "at least one item"), ("be good", "a list of criteria"), ([{"weight": 1}], "criterion 1: it needs a text"),
     (["a", 7], "criterion 2: a text or a table"), ([{"text": "a", "weight": 0}], "a weight other than 0"),
     ([{"text": "a", "weight": -1}], "no criterion has a positive weight")],
)  # fmt: skip
def test_a_list_that_is_no_rubric_says_why(rubric: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(rubric, "r")


def test_a_prompt_without_a_rubric_says_what_can_be_done() -> None:
    with pytest.raises(UserError, match=r"--set generate=true"):
        check(Prompt.of("x"), "")
