"""Mocks are functions of the request: deterministic, sample by sample, with the planted qualities that judges read."""

from __future__ import annotations

import asyncio
import math

import pytest

from judges import grade, pairwise
from rlhf_eval.errors import RequestFailed, UserError
from rlhf_eval.models import open_model
from rlhf_eval.models.base import ChatRequest, Choice, Reply
from rlhf_eval.models.mock import Config, MockModel
from rlhf_eval.records import Message, Prompt, Sampling


def say(model: MockModel, text: str = "hello there", **changes: object) -> Reply:
    return asyncio.run(model.chat(ChatRequest(messages=(Message("user", text),), **changes)))  # type: ignore[arg-type]


def compare(model: MockModel, first: str, second: str) -> Choice:
    messages = pairwise.ask(Prompt.of("2+2?"), (first, second), pairwise.Config())
    return asyncio.run(model.chat(ChatRequest(messages=messages, top_logprobs=5))).choices[0]


def share(model: MockModel, first: str, second: str) -> float:
    return pairwise.read_verdict(compare(model, first, second), pairwise.Config()).scores[0]


@pytest.mark.parametrize("kind", ["writer", "echo"])
def test_a_sample_does_not_depend_on_how_many_are_asked_for(kind: str) -> None:
    model = MockModel(kind)
    whole = say(model, n=8).choices
    assert say(MockModel(kind), n=3, first_sample=5).choices == whole[5:]
    assert say(model, n=1).choices == whole[:1]


def test_a_writer_varies_with_words_sample_and_seeds() -> None:
    texts = {c.text for c in say(MockModel("writer"), n=50).choices}
    assert len(texts) == 50
    first = say(MockModel("writer")).choices[0].text
    for other in (
        say(MockModel("writer"), "other"),
        say(MockModel("writer", config=Config(seed=1))),
        say(MockModel("writer"), sampling=Sampling(seed=1)),
    ):
        assert other.choices[0].text != first


def test_settings_are_part_of_the_identity_and_a_name_is_not() -> None:
    assert open_model("tonight=mock:writer").id == open_model("mock:writer").id
    assert open_model("mock:writer?seed=1").id != open_model("mock:writer").id
    assert open_model("tonight=mock:writer?seed=1").name == "tonight"


def test_a_judge_prefers_the_planted_quality_as_sharply_as_it_is_told() -> None:
    better, worse = "amber quality=0.9000", "basin quality=0.4000"
    assert share(MockModel("judge"), better, worse) == pytest.approx(1 / (1 + math.exp(-6 * 0.5)))
    assert share(MockModel("judge"), worse, better) == pytest.approx(1 / (1 + math.exp(6 * 0.5)))
    assert compare(MockModel("judge"), better, worse).text == "[[A]]"
    assert compare(MockModel("judge"), worse, better).text == "[[B]]"
    assert share(MockModel("judge", config=Config(sharpness=0)), better, worse) == pytest.approx(0.5)


def test_a_bias_moves_the_log_odds_of_the_first_answer() -> None:
    biased = MockModel("judge", config=Config(bias=2.0))
    for first, second in (("a quality=0.7", "b quality=0.3"), ("same", "same")):
        plain, moved = (share(m, first, second) for m in (MockModel("judge"), biased))
        assert math.log(moved / (1 - moved)) - math.log(plain / (1 - plain)) == pytest.approx(2.0)


def test_the_planted_shares_of_failures_and_of_garbled_verdicts_come_out() -> None:
    failing, garbling = MockModel("echo", config=Config(fail=0.3)), MockModel("judge", config=Config(garble=0.3))
    failed = garbled = 0
    for k in range(400):
        try:
            say(failing, f"question {k}")
        except RequestFailed as failure:
            failed += failure.kind == "bad_request"
        garbled += pairwise.read_verdict(compare(garbling, f"{k}", "x"), pairwise.Config()).error is not None
    assert 80 < failed < 160
    assert 80 < garbled < 160


def test_the_same_conversation_fails_every_time() -> None:
    model = MockModel("echo", config=Config(fail=0.5))

    def fails(k: int) -> bool:
        try:
            say(model, str(k))
        except RequestFailed:
            return True
        return False

    assert [fails(k) for k in range(20)] == [fails(k) for k in range(20)]


def test_a_call_is_paid_by_the_token() -> None:
    reply = say(MockModel("echo", config=Config(price=1e6)), "one two three", n=2)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.cost) == (3, 6, 9.0)


def test_a_score_is_the_planted_quality_or_a_hash() -> None:
    model = MockModel("writer")
    planted, plain = (Message("user", "q"), Message("assistant", "x quality=0.25")), (Message("user", "q"),)
    first, second = asyncio.run(model.score([planted, plain]))
    assert first == 0.25
    assert 0 <= second < 1
    assert asyncio.run(model.score([plain])) == [second]


def test_the_grading_judge_takes_the_mock_for_unreadable_and_not_for_zero() -> None:
    verdict = grade.read_verdict(compare(MockModel("judge"), "a", "b"), grade.Config())
    assert verdict.error is not None
    assert verdict.scores == ()


def test_an_unknown_mock_is_named() -> None:
    with pytest.raises(UserError, match=r"there is no mock 'writter'\. Did you mean 'writer'\?"):
        MockModel("writter")
