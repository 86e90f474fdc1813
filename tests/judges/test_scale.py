"""Grades of one or several tokens: their probabilities are those of the digit tree that wrote them."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.grade import Config, judge
from judges.scale import Grades, ask_splits, read_grades
from rlhf_eval.models.base import ChatRequest, Choice, Reply, TokenLogprob
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Message, Prompt, Sampling

PROMPT = Prompt.of("2+2?")


def token(written: str, top: dict[str, float]) -> TokenLogprob:
    return TokenLogprob(written, math.log(top[written]), tuple((t, math.log(p)) for t, p in top.items()))


def digits(written: str, first: dict[str, float], second: dict[str, float]) -> Choice:
    """A reply ``[[written]]`` of single-digit tokens with the alternatives at its first digit and after it."""
    tail = "]]" if len(written) == 1 else written[1]
    rows = [TokenLogprob("[[", 0.0), token(written[0], first), token(tail, second)]
    rows += [TokenLogprob("]]", 0.0)] if len(written) == 2 else []
    return Choice(text=f"[[{written}]]", logprobs=tuple(rows))


@given(st.floats(0.01, 0.98), st.floats(0.01, 0.99), st.booleans())
def test_ten_of_two_tokens_is_split_by_the_next_token(one: float, zero: float, ten: bool) -> None:
    choice = digits("10" if ten else "1", {"1": one, "9": 1 - one}, {"0": zero, "]]": 1 - zero})
    grades = read_grades(choice, 2, low=1, high=10)
    assert grades.known
    assert grades.mass == pytest.approx({1: one * (1 - zero), 10: one * zero, 9: 1 - one})
    assert grades.mean == pytest.approx(one * (10 * zero + 1 - zero) + 9 * (1 - one))


def test_a_split_that_the_reply_does_not_show_is_not_known() -> None:
    grades = read_grades(digits("9", {"1": 0.3, "9": 0.7}, {"]]": 1.0}), 2, low=1, high=10)
    assert not grades.known
    assert grades.unsplit == pytest.approx({"1": 0.3})
    assert read_grades(digits("9", {"1": 0.001, "9": 0.999}, {"]]": 1.0}), 2, low=1, high=10).known


def test_hundred_is_three_tokens_deep() -> None:
    rows = (token("1", {"1": 0.5, "9": 0.5}), token("0", {"0": 0.6, "]]": 0.4}), token("0", {"0": 0.9, "]]": 0.1}))
    choice = Choice(text="[[100]]", logprobs=(TokenLogprob("[[", 0.0), *rows, TokenLogprob("]]", 0.0)))
    grades = read_grades(choice, 2, low=0, high=100)
    assert grades.mass == pytest.approx({1: 0.5 * 0.4, 10: 0.5 * 0.6 * 0.1, 100: 0.5 * 0.6 * 0.9})
    assert grades.unsplit == pytest.approx({"9": 0.5})


def test_a_tokenizer_that_joins_digits_writes_no_half_grades() -> None:
    choice = Choice(text="[[9]]", logprobs=(TokenLogprob("[[", 0.0), token("9", {"9": 0.5, "10": 0.3, "1": 0.2})))
    assert read_grades(choice, 2, low=1, high=10).mass == {}  # the tokens do not spell the text
    spelled = Choice(text="[[9", logprobs=choice.logprobs)
    assert read_grades(spelled, 2, low=1, high=10).mass == pytest.approx({9: 0.5, 10: 0.3, 1: 0.2})


class Digits(MockModel):
    """Grades 9 unconstrained; held to 1 and 10 it shows how it would split them."""

    def __init__(self, *, obeys: bool = True) -> None:
        super().__init__("echo")
        self.requests: list[ChatRequest] = []
        self._obeys = obeys

    async def chat(self, request: ChatRequest) -> Reply:
        self.requests.append(request)
        if request.choices and self._obeys:
            return Reply(choices=(digits("10", {"1": 1.0}, {"0": 0.75, "]]": 0.25}),))
        return Reply(choices=(digits("9", {"1": 0.4, "9": 0.6}, {"]]": 1.0}),))


def test_the_grade_judge_asks_how_a_one_splits() -> None:
    model = Digits()
    answer = Completion.of(prompt_id=PROMPT.id, model="m", text="4")
    verdict = asyncio.run(judge(PROMPT, (answer,), model, Config()))
    assert [request.choices for request in model.requests] == [(), ("[[1]]", "[[10]]")]
    assert verdict.scores[0] == pytest.approx(0.4 * (0.75 * 10 + 0.25 * 1) + 0.6 * 9)
    deaf = Digits(obeys=False)
    assert asyncio.run(judge(PROMPT, (answer,), deaf, Config())).scores == (9.0,)


def test_where_the_reply_ends_with_the_digit_draws_tell() -> None:
    class Ends(MockModel):
        """Held to 1 and 10 it writes 1 and ends, greedily; of its draws a quarter are 10."""

        async def chat(self, request: ChatRequest) -> Reply:
            assert request.choices == ("1", "10")
            if request.sampling.temperature == 0:
                return Reply(choices=(Choice(text="1", logprobs=(token("1", {"1": 1.0}),)),))
            return Reply(choices=tuple(Choice(text="1" if k % 4 else "10") for k in range(request.n)))

    request = ChatRequest(messages=(Message("user", "?"),), sampling=Sampling(temperature=0.0))
    grades = Grades({8: 0.6}, {"1": 0.4})
    split = asyncio.run(ask_splits(Ends("echo"), request, grades, "{}", low=1, high=10))
    assert split.mass == pytest.approx({8: 0.6, 1: 0.3, 10: 0.1})
    assert split.known


def test_too_many_doubtful_digits_are_not_asked_about() -> None:
    model = Digits()
    request = ChatRequest(messages=(Message("user", "?"),))
    grades = read_grades(
        digits("5", {"5": 0.4, "6": 0.2, "7": 0.2, "8": 0.2}, {"]]": 0.9, "0": 0.1}), 2, low=0, high=100
    )
    assert asyncio.run(ask_splits(model, request, grades, "[[{}]]", low=0, high=100)) is grades
    assert model.requests == []
