"""A reward model's score of a whole answer, and of its steps put together."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.reward_model import Config, aggregated, judge, prefixes, sigmoid
from rlhf_eval.models.base import Conversation
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Message, Prompt

PROMPT = Prompt.of([Message("user", "hi"), Message("assistant", "hello"), Message("user", "2+2?")])


class Scorer(MockModel):
    """Scores a conversation by the digits of its last message: the last digit is the score."""

    def __init__(self) -> None:
        super().__init__("echo")
        self.seen: list[Conversation] = []

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        self.seen.extend(conversations)
        return [float([c for c in conversation[-1].content if c.isdigit()][-1]) for conversation in conversations]


def score(text: str, **settings):
    model = Scorer()
    answer = Completion.of(prompt_id=PROMPT.id, model="m", text=text)
    return asyncio.run(judge(PROMPT, (answer,), model, Config(**settings))), model


def test_an_answer_is_scored_after_its_whole_conversation() -> None:
    verdict, model = score("it is 4")
    assert verdict.scores == (4.0,)
    assert verdict.metadata == {}
    assert model.seen == [(*PROMPT.messages, Message("assistant", "it is 4"))]


@pytest.mark.parametrize(("how", "total"), [("last", 2.0), ("min", 1.0), ("mean", 2.0)])
def test_steps_are_scored_each_given_those_before(how, total: float) -> None:
    verdict, model = score("step 3\n\nstep 1\n\n\nstep 2\n\n", steps="paragraphs", aggregate=how)
    assert verdict.scores == (total,)
    assert verdict.metadata == {"steps": [3.0, 1.0, 2.0]}
    assert [c[-1].content for c in model.seen] == ["step 3", "step 3\n\nstep 1", "step 3\n\nstep 1\n\n\nstep 2\n\n"]


def test_log_odds_become_probabilities_before_they_are_multiplied() -> None:
    verdict, _ = score("1\n3", steps="lines", aggregate="product", probability=True)
    assert verdict.scores[0] == pytest.approx(sigmoid(1) * sigmoid(3))
    with pytest.raises(ValueError, match="set probability=true"):
        Config(aggregate="product")


@given(st.text(st.sampled_from([*"ab \n"]), max_size=30), st.sampled_from(["whole", "paragraphs", "lines"]))
def test_prefixes_grow_to_the_whole_text(text: str, steps: str) -> None:
    found = prefixes(text, steps)
    assert found[-1] == text
    assert all(longer.startswith(shorter) and longer != shorter for shorter, longer in itertools.pairwise(found))
    if steps == "lines":
        assert len(found) == max(1, sum(bool(line.strip()) for line in text.split("\n")))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_aggregates_keep_their_order(scores: list[float]) -> None:
    product, low, mean = (aggregated(scores, how) for how in ("product", "min", "mean"))
    assert product <= low + 1e-12
    assert low <= mean + 1e-12 <= max(scores) + 2e-12
    assert aggregated(scores, "last") == scores[-1]


@given(st.floats(-800, 800))
def test_the_logistic_function_never_overflows(x: float) -> None:
    assert sigmoid(x) + sigmoid(-x) == pytest.approx(1)
    assert math.isfinite(sigmoid(x))
