"""Aspects are rated together, one call each; the score is their mean, and nothing is rated by default."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from judges.aspects import Config, ask, judge
from rlhf_eval.models.base import ChatRequest, Choice, Reply
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Prompt

PROMPT = Prompt.of("2+2?")
ANSWERS = [Completion.of(prompt_id=PROMPT.id, model="m", text=t, origin=t) for t in ("four", "five")]
SAID = {
    "instruction following": "[[1: 5]] [[2: 4]]",
    "honesty": "Fine. [[1: 4]] Less so. [[2: 2]]",
    "truthfulness": "[[1: 5]] [[2: 3]] no: [[2: 1]]",
    "helpfulness": "[[1: 5]] [[2: 1]]",
}


class Rater(MockModel):
    def __init__(self, said: dict[str, str]) -> None:
        super().__init__("echo")
        self.said = said
        self.calls = 0

    async def chat(self, request: ChatRequest) -> Reply:
        self.calls += 1
        text = next(reply for aspect, reply in self.said.items() if f"Aspect: {aspect}" in request.messages[1].content)
        return Reply(choices=(Choice(text=text),))


def rate(said: dict[str, str], **settings: Any):
    model = Rater(said)
    return asyncio.run(judge(PROMPT, ANSWERS, model, Config(**settings))), model


def test_the_score_is_the_mean_of_the_aspects() -> None:
    verdict, model = rate(SAID)
    assert verdict.scores == ((5 + 4 + 5 + 5) / 4, (4 + 2 + 1 + 1) / 4)
    assert verdict.metadata["aspects"] == {
        "instruction_following": [5, 4], "honesty": [4, 2], "truthfulness": [5, 1], "helpfulness": [5, 1],
    }  # fmt: skip
    assert model.calls == 4
    assert "honesty: Fine." in verdict.rationale


def test_answers_can_be_rated_alone() -> None:
    verdict, model = rate({"honesty": "[[1: 3]]"}, aspects=("honesty",), together=False)
    assert verdict.scores == (3.0, 3.0)
    assert model.calls == 2


@pytest.mark.parametrize("reply", ["", "[[1: 5]]", "[[1: 5]] [[2: 6]]", "[[1: 5]] [[2: N]]", "Rating: 5, 4"])
def test_an_answer_without_a_rating_fails_the_judgment(reply: str) -> None:
    verdict, _ = rate({**SAID, "honesty": reply})
    assert verdict.scores == ()
    assert verdict.error == "unparsed: not every answer has a rating from 1 to 5 on honesty"
    assert "truthfulness" in verdict.rationale


def test_each_aspect_has_a_scale_of_its_own() -> None:
    texts = {ask(PROMPT, ["4"], aspect, Config())[1].content for aspect in Config().aspects}
    assert len(texts) == 4
    assert all(f"\n{grade}: " in text for text in texts for grade in range(1, 6))
    with pytest.raises(ValueError, match="none of them twice"):
        Config(aspects=("honesty", "honesty"))
