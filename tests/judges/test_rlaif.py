"""The RLAIF labeler: its two calls, its soft label, and what averaging both orders does to a position bias."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Scripted

from judges.rlaif import Config, ask, combine, judge, label_of, log_odds, read_verdict, smoothed_share
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import Choice, TokenLogprob
from rlhf_eval.records import Completion, Judgment, Prompt

PROMPT = Prompt.of("2+2?")
ANSWERS = tuple(Completion.of(prompt_id=PROMPT.id, model="m", text=t, origin=t) for t in ("four", "five"))
shares = st.floats(0, 1)


def reply(written: str, **top: float) -> Choice:
    alternatives = tuple((name, math.log(p)) for name, p in top.items())
    return Choice(text=written, logprobs=(TokenLogprob(written, math.log(top.get(written, 0.1)), alternatives),))


def label(*replies: Choice, **settings: Any):
    model = Scripted(*replies)
    return asyncio.run(judge(PROMPT, ANSWERS, model, Config(**settings))), model


# One order ------------------------------------------------------------------------------------------------------------


def test_the_label_is_the_share_of_the_two_tokens() -> None:
    verdict, model = label(reply("2", **{"1": 0.2, "2": 0.5, " 1": 0.1, "The": 0.2}))
    assert verdict.scores == pytest.approx((0.3 / 0.8, 0.5 / 0.8))
    assert verdict.metadata["mass"] == pytest.approx(0.8)
    assert model.requests[0].top_logprobs == 20
    assert model.requests[0].sampling.temperature == 0


def test_a_reply_that_begins_with_a_word_still_has_a_label() -> None:
    verdict, _ = label(reply("Response", **{"Response": 0.6, "1": 0.3, "2": 0.1}))
    assert verdict.scores == pytest.approx((0.75, 0.25))
    assert verdict.metadata == {"mass": pytest.approx(0.4), "verdict": None}


def test_a_rationale_is_a_call_of_its_own() -> None:
    verdict, model = label(Choice(text="The first one is right."), reply("1", **{"1": 1.0}), reasoning=True)
    first, second = model.requests
    assert first.messages[-1].content.endswith("Rationale:")
    assert first.sampling.max_tokens == 512
    assert [m.role for m in second.messages] == ["user", "assistant", "user"]
    assert second.messages[:1] == first.messages
    assert second.messages[1].content == "The first one is right."
    assert verdict.rationale.startswith("The first one is right.")
    assert verdict.scores == (1.0, 0.0)


def test_the_question_of_harm_is_asked_the_other_way_round() -> None:
    assert label(reply("1", **{"1": 0.9, "2": 0.1}), preamble="harmless")[0].scores == pytest.approx((0.1, 0.9))
    assert "more harmful" in ask(PROMPT, ("a", "b"), Config(preamble="harmless"))[0].content


def test_without_logprobs_votes_are_counted_and_smoothed() -> None:
    votes = [Choice(text=v) for v in ("1", "1", "2", "1", "neither")]
    verdict, model = label(*votes, samples=5, temperature=0.7)
    assert verdict.scores == pytest.approx((3.5 / 5, 1.5 / 5))
    assert verdict.metadata == {"mass": None, "votes": 4, "unparsed": 1}
    assert model.requests[0].n == 5
    assert 0 < smoothed_share(0, 5) < smoothed_share(5, 5) < 1
    assert label(Choice(text="no"), Choice(text="no"), samples=2, temperature=1.0)[0].error.startswith("unparsed")


@pytest.mark.parametrize("text", ["", "12", "Response 1", "Both", "3"])
def test_what_begins_with_no_number_is_a_failure(text: str) -> None:
    verdict = read_verdict(Choice(text=text, finish_reason="length"), Config())
    assert verdict.scores == ()
    assert verdict.error == "unparsed: the reply begins with neither 1 nor 2, which was cut off at max_tokens"


@pytest.mark.parametrize("text", ["1", " 2\n", "**1**", "[2]", "1.", "1: because", "<think>2? 1?</think> 2"])
def test_a_number_in_front_is_a_label(text: str) -> None:
    verdict = read_verdict(Choice(text=text), Config())
    assert verdict.scores in ((1.0, 0.0), (0.0, 1.0))
    assert verdict.scores[0] == float("1" in text and "2" not in text)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="temperature above 0"):
        Config(samples=4)
    with pytest.raises(ValueError, match="preamble of your own"):
        Config(inverted=True)


# Both orders ----------------------------------------------------------------------------------------------------------


@given(shares, shares, st.sampled_from(["probability", "log_odds"]))
def test_swapping_the_answers_gives_exactly_the_rest(straight: float, reverse: float, how: Any) -> None:
    a, b = combine(straight, reverse, how), combine(reverse, straight, how)
    assert a.probability + b.probability == 1
    assert 0 <= a.probability <= 1
    assert a.same_position == b.same_position


def sigma(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("bias", "same", "one_order", "swapped", "shrunk"),
    [(0.0, 0, 0.836, 0.836, 0.235), (0.5, 26, 0.805, 0.838, 0.226), (1.0, 49, 0.737, 0.840, 0.205),
     (2.0, 82, 0.587, 0.835, 0.138), (4.0, 99, 0.502, 0.836, 0.036)],
)  # fmt: skip
def test_a_biased_judge_is_mended_as_documented(
    bias: float, same: float, one_order: float, swapped: float, shrunk: float
) -> None:
    """20,000 pairs with log-odds D ~ N(0, 1.5), an additive bias towards what stands first, and humans of log-odds 2D."""
    rng = np.random.default_rng(0)
    gap = rng.normal(0, 1.5, 20_000)
    human = rng.random(20_000) < sigma(2 * gap)
    straight, reverse = sigma(gap + bias), sigma(-gap + bias)
    by_mean = [combine(a, b) for a, b in zip(straight, reverse, strict=True)]
    mean = np.array([one.probability for one in by_mean])
    odds = np.array([combine(a, b, "log_odds").probability for a, b in zip(straight, reverse, strict=True)])
    assert ((mean > 0.5) == (gap > 0)).all()
    assert ((odds > 0.5) == (gap > 0)).all()
    assert np.abs(odds - sigma(gap)).max() < 1e-9
    assert np.allclose(mean, (sigma(gap + bias) + sigma(gap - bias)) / 2, atol=1e-12)
    positions = np.mean([one.same_position for one in by_mean])
    assert positions == pytest.approx(np.mean(np.abs(gap) < bias), abs=1e-9)
    assert 100 * positions == pytest.approx(same, abs=1.2)
    assert np.mean((straight > 0.5) == human) == pytest.approx(one_order, abs=0.012)
    assert np.mean((mean > 0.5) == human) == pytest.approx(swapped, abs=0.012)
    assert np.abs(mean - 0.5).mean() == pytest.approx(shrunk, abs=0.005)


def test_the_mean_of_probabilities_shrinks_and_the_mean_of_log_odds_does_not() -> None:
    straight, reverse = float(sigma(1 + 2)), float(sigma(-1 + 2))
    assert combine(straight, reverse).probability == pytest.approx(0.6108, abs=5e-5)
    assert combine(straight, reverse, "log_odds").probability == pytest.approx(float(sigma(1)), abs=1e-12)


def test_noise_of_each_call_is_averaged_but_not_cancelled() -> None:
    rng = np.random.default_rng(1)
    gap = rng.normal(0, 1.5, 20_000)
    straight = sigma(gap + 1 + rng.normal(0, 1, 20_000))
    reverse = sigma(-gap + 1 + rng.normal(0, 1, 20_000))
    swapped = np.array([combine(a, b).probability for a, b in zip(straight, reverse, strict=True)])
    single, both = np.mean((straight > 0.5) == (gap > 0)), np.mean((swapped > 0.5) == (gap > 0))
    assert single == pytest.approx(0.744, abs=0.012)
    assert both == pytest.approx(0.860, abs=0.012)


def test_stored_judgments_of_both_orders_make_a_label() -> None:
    ids = (ANSWERS[0].id, ANSWERS[1].id)

    def stored(order: tuple[int, int], scores: tuple[float, ...], error: str | None = None) -> Judgment:
        return Judgment.of(prompt_id=PROMPT.id, completion_ids=ids, judge="j", order=order, scores=scores, error=error)

    straight, reverse = stored((0, 1), (0.9, 0.1)), stored((1, 0), (0.6, 0.4))
    one = label_of((reverse, straight))
    assert one is not None
    assert one.probability == pytest.approx(0.75)
    assert not one.same_position
    assert label_of((straight, stored((1, 0), (), "unparsed"))) is None
    with pytest.raises(UserError, match="one in each order"):
        label_of((straight, straight))


@given(st.floats(-30, 30))
def test_log_odds_invert_the_logistic_function(x: float) -> None:
    assert log_odds(float(sigma(x))) == pytest.approx(x, rel=1e-3, abs=1e-9)
    assert log_odds(0.0) == -log_odds(1.0)
