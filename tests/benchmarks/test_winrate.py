"""The win rate's unit is the prompt; flips and slot preference stand beside it; what failed is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval.benchmarks.comparisons import Comparisons
from rlhf_eval.benchmarks.winrate import Config, flipped
from rlhf_eval.benchmarks.winrate import rates as score
from rlhf_eval.errors import UserError
from rlhf_eval.stats.intervals import wilson

shares = st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0])
games = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), shares, st.booleans()), min_size=1, max_size=40)


def group(rows: list[tuple[int, int, float, bool]], **changes: Any) -> Comparisons:
    """Rows are prompt, pair of the prompt, share, and whether the model was shown first."""
    return Comparisons(
        judge="j",
        model="a",
        opponent="b",
        prompt=np.array([f"p{prompt}" for prompt, *_ in rows], dtype=object),
        pair=np.array([f"p{prompt}-{pair}" for prompt, pair, *_ in rows], dtype=object),
        share=np.array([share for *_, share, _ in rows], dtype=np.float64),
        shown_first=np.array([first for *_, first in rows], dtype=bool),
        **changes,
    )


@given(games)
def test_the_win_rate_is_the_mean_of_the_prompts_means(rows: list[tuple[int, int, float, bool]]) -> None:
    by_prompt: dict[int, list[float]] = {}
    for prompt, _, share, _ in rows:
        by_prompt.setdefault(prompt, []).append(share)
    means = [float(np.mean(by_prompt[prompt])) for prompt in sorted(by_prompt)]
    met = group(rows)
    rate = score(met, Config())[0]
    assert rate.value == pytest.approx(np.mean(means))
    assert rate.n == len(by_prompt)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    assert rate.settings["wins"] + rate.settings["losses"] + rate.settings["ties"] == rate.n
    assert rate.settings["judgments"] == len(rows)
    assert rate.low == pytest.approx(wilson(np.array(means), swapped=met.swapped()).low)


def test_one_balanced_order_keeps_the_position_bias_out_of_the_interval() -> None:
    rng = np.random.default_rng(0)
    rows = [(k, 0, float(rng.random() < (0.9 if k % 2 else 0.3)), bool(k % 2)) for k in range(200)]
    rate = score(group(rows, dealt=True), Config())[0]
    shares = np.array([share for _, _, share, _ in rows])
    assert rate.value == pytest.approx(shares.mean())
    assert "order-stratified" in rate.method
    assert rate.high - rate.low < 0.9 * (wilson(shares).high - wilson(shares).low)
    always_first = [(k, 0, float(k % 2), bool(k % 2)) for k in range(200)]
    assert (
        "clustered" in score(group(always_first, dealt=True), Config())[0].method
    )  # each order's SE of 0 proves nothing
    assert "clustered" in score(group(rows), Config())[0].method  # sides that fell as they did are noise
    lopsided = [(*row[:3], k < 150) for k, row in enumerate(rows)]
    assert "clustered" in score(group(lopsided, dealt=True), Config())[0].method


@given(games)
def test_seen_from_the_other_side_every_number_is_turned(rows: list[tuple[int, int, float, bool]]) -> None:
    mine, theirs = ({e.name: e for e in score(g, Config())} for g in (group(rows), group(rows).mirrored()))
    assert mine["win_rate"].value == pytest.approx(1 - theirs["win_rate"].value)
    assert mine["win_rate"].low == pytest.approx(1 - theirs["win_rate"].high)
    assert mine["first_slot_share"].value == pytest.approx(theirs["first_slot_share"].value)
    assert ("flip_rate" in mine) == ("flip_rate" in theirs)
    if "flip_rate" in mine:
        assert mine["flip_rate"].value == theirs["flip_rate"].value


def test_repeats_of_a_prompt_do_not_narrow_the_interval() -> None:
    once = [(k, 0, float(k % 2), True) for k in range(40)]
    few, many = (score(group(rows), Config())[0] for rows in (once, once * 10))
    assert (few.n, many.n) == (40, 40)
    assert (few.low, few.high) == pytest.approx((many.low, many.high))


def test_a_verdict_flips_when_the_orders_name_different_winners() -> None:
    rows = [
        (0, 0, 0.9, True), (0, 0, 0.2, False),  # flipped
        (1, 0, 0.9, True), (1, 0, 0.6, False),
        (2, 0, 0.5, True), (2, 0, 0.2, False),  # a tie is no other winner
        (3, 0, 0.9, True),  # one order only: it cannot be known
        (4, 0, 0.9, True), (4, 1, 0.1, False),  # two pairs, each in one order
    ]  # fmt: skip
    flips, prompts = flipped(group(rows))
    assert dict(zip(prompts, flips, strict=True)) == {"p0": 1.0, "p1": 0.0, "p2": 0.0}
    by_name = {e.name: e for e in score(group(rows), Config())}
    assert by_name["flip_rate"].value == pytest.approx(1 / 3)
    assert by_name["flip_rate"].n == 3


def test_in_one_order_there_are_no_flips_to_speak_of() -> None:
    names = [e.name for e in score(group([(k, 0, 1.0, bool(k % 2)) for k in range(10)]), Config())]
    assert names == ["win_rate", "first_slot_share"]


def test_a_judge_that_always_takes_the_first_is_found_out() -> None:
    rows = [(k, 0, 1.0 if first else 0.0, first) for k in range(50) for first in (True, False)]
    found = {e.name: e for e in score(group(rows), Config())}
    assert found["first_slot_share"].value == 1.0
    assert found["flip_rate"].value == 1.0
    assert found["win_rate"].value == 0.5
    assert found["win_rate"].settings["ties"] == 50


def test_failures_stand_in_the_estimate() -> None:
    rate = score(group([(k, 0, 1.0, True) for k in range(8)], unreadable=5, lost=2), Config())[0]
    assert (rate.n, rate.failed, rate.settings["unreadable"]) == (8, 2, 5)
    assert 0 < rate.low < rate.high == 1.0  # ten of ten wins are no certainty


def test_without_a_readable_judgment_there_is_no_win_rate() -> None:
    with pytest.raises(UserError, match="a against b: all 3 judgments of j are unreadable"):
        score(group([], unreadable=3, lost=3), Config())


def test_the_level_is_the_one_that_was_asked_for() -> None:
    rows = [(k, 0, float(k % 3 == 0), True) for k in range(60)]
    narrow, wide = (score(group(rows), Config(level=level))[0] for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.settings["level"] == 0.99
