"""Direct scores: the ends and the middle of the scale, and a ten of two tokens."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.d_rlaif import Config, ask, find, judge, read_verdict, reward
from rlhf_eval.models.base import ChatRequest, Choice, Reply, TokenLogprob
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Prompt

PROMPT = Prompt.of("2+2?")
ANSWER = Completion.of(prompt_id=PROMPT.id, model="m", text="4")


def test_the_middle_and_the_ends_of_the_scale() -> None:
    uniform = dict.fromkeys(range(1, 11), 0.1)
    assert reward(uniform, Config()) == pytest.approx(0, abs=1e-12)
    assert reward({10: 0.3}, Config()) == 1
    assert reward({1: 0.3}, Config()) == -1
    assert reward({7: 1.0}, Config(normalize=False)) == 7


@given(st.dictionaries(st.integers(1, 9), st.floats(0.01, 1), min_size=1))
def test_one_grade_more_is_one_step_more(mass: dict[int, float]) -> None:
    shifted = {grade + 1: p for grade, p in mass.items()}
    assert reward(shifted, Config()) - reward(mass, Config()) == pytest.approx(1 / 4.5)
    assert -1 <= reward(mass, Config()) <= 1


class Scorer(MockModel):
    """Writes 8; held to 1 and 10 it writes 10 with three quarters."""

    def __init__(self) -> None:
        super().__init__("echo")
        self.requests: list[ChatRequest] = []

    async def chat(self, request: ChatRequest) -> Reply:
        self.requests.append(request)

        def token(written: str, **top: float) -> TokenLogprob:
            return TokenLogprob(written, math.log(top[written]), tuple((t, math.log(p)) for t, p in top.items()))

        if request.choices:
            tokens = (token("1", **{"1": 1.0}), token("0", **{"0": 0.75, "<end>": 0.25}))
        else:
            tokens = (token("8", **{"8": 0.5, "1": 0.5}),)
        return Reply(choices=(Choice(text="".join(t.token for t in tokens), logprobs=tokens),))


def test_the_judge_finds_out_what_a_one_stands_for() -> None:
    model = Scorer()
    verdict = asyncio.run(judge(PROMPT, (ANSWER,), model, Config()))
    assert [request.choices for request in model.requests] == [(), ("1", "10")]
    mean = 0.5 * 8 + 0.5 * (0.75 * 10 + 0.25)
    assert verdict.scores[0] == pytest.approx((mean - 5.5) / 4.5)
    assert verdict.metadata == {"verdict": 8, "soft": True}


@pytest.mark.parametrize(("text", "score"), [("7", 7), ("SCORE: 10", 10), (" **3**/10", 3), ("<think>9</think>2", 2)])
def test_a_number_in_front_is_the_score(text: str, score: int) -> None:
    found = find(Choice(text=text), Config())
    assert found is not None
    assert found[0] == score
    assert read_verdict(Choice(text=text), Config()).scores[0] == pytest.approx((score - 5.5) / 4.5)


@pytest.mark.parametrize("text", ["", "0", "11", "7.5", "seven", "I give it 7", "<think>7"])
def test_what_begins_with_no_number_is_a_failure(text: str) -> None:
    verdict = read_verdict(Choice(text=text), Config())
    assert verdict.scores == ()
    assert verdict.error == "unparsed: the reply begins with no number from 1 to 10"


def test_the_scale_is_told() -> None:
    assert "a score from 0 to 9" in ask(PROMPT, "4", Config(low=0, high=9))[0].content
    with pytest.raises(ValueError, match="must rise"):
        Config(low=3, high=3)
