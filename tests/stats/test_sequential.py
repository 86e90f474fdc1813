"""Early stopping: exact oracles, held error, and the misuse that breaks it."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.intervals import order_stratified
from rlhf_eval.stats.sequential import (
    asymptotic_half_width,
    asymptotic_test,
    beta_binomial_e_value,
    betting_e_values,
    betting_test,
    e_benjamini_hochberg,
    group_sequential_boundary,
    group_sequential_drift,
    group_sequential_look,
    stop_chances,
)

STREAM = np.array([1, 1, 0, 1, 0.5, 1, 1, 0, 1, 1])
N = 805


def runs(p, count, seed):
    return (np.random.default_rng(seed).random((count, N)) < p).astype(float)


def stops(e_values):
    hit = e_values >= 20
    return hit.any(axis=1), np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, N)


def test_constant_bets_have_the_published_capital():
    assert betting_e_values(STREAM, 0.5, bet=0.5)[-1] == pytest.approx(1.4453887939453125, rel=1e-12)
    assert betting_e_values(STREAM, 0.5, bet=0.5, population=20)[-1] == pytest.approx(2.0135976564338147, rel=1e-12)


def test_bets_equal_the_slow_and_obvious_game():
    x = np.random.default_rng(0).random(30)
    up = down = 1.0
    for t in range(30):
        past = x[:t]
        means = [(0.5 + x[:i].sum()) / (i + 1) for i in range(t + 1)]
        variance = (0.25 + sum((x[i] - means[i + 1]) ** 2 for i in range(t))) / (t + 1)
        edge = (0.5 + past.sum()) / (t + 1) - 0.4
        up *= 1 + min(max(edge / (variance + edge**2), 0), 0.5 / 0.4) * (x[t] - 0.4)
        down *= 1 - min(max(-edge / (variance + edge**2), 0), 0.5 / 0.6) * (x[t] - 0.4)
        assert betting_e_values(x[: t + 1], 0.4)[-1] == pytest.approx((up + down) / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("wins", "losses", "flat", "tuned"), [(15, 3, 16.908, 2.959), (30, 15, 2.218, 2.628), (60, 40, 0.9130, 2.255)]
)
def test_beta_binomial_oracles(wins, losses, flat, tuned):
    assert beta_binomial_e_value(wins, losses) == pytest.approx(flat, abs=5e-4)
    assert beta_binomial_e_value(wins, losses, concentration=20) == pytest.approx(tuned, abs=5e-4)


def test_a_thousand_wins_in_a_row_are_evidence_and_no_overflow():
    assert beta_binomial_e_value(1100, 0) > 1e300


@pytest.mark.parametrize(("concentration", "first"), [(1, 8), (20, 20)])
def test_consecutive_wins_to_reject(concentration, first):
    values = [beta_binomial_e_value(w, 0, concentration=concentration) for w in range(30)]
    assert next(w for w, e in enumerate(values) if e >= 20) == first


def test_asymptotic_half_widths():
    assert asymptotic_half_width([50, 200, 805], 0.5) == pytest.approx([0.2308, 0.1073, 0.0551], abs=5e-5)


def test_group_sequential_constants():
    fleming = group_sequential_boundary(5)
    assert fleming[-1] == pytest.approx(2.040, abs=5e-4)
    assert fleming[0] == pytest.approx(2.040 * np.sqrt(5), abs=2e-3)
    assert group_sequential_boundary(5, shape="pocock") == pytest.approx([2.413] * 5, abs=5e-4)
    assert group_sequential_boundary(1) == pytest.approx([1.959964], abs=1e-6)


def test_type_one_error_is_held_by_each_and_not_by_peeking():
    null = runs(0.5, 1000, 1)
    assert stops(betting_e_values(null, 0.5))[0].mean() < 0.05
    boundary = group_sequential_boundary(5)
    ends = [161, 322, 483, 644, 805]
    z = [(null[:, :n].mean(axis=1) - 0.5) / (null[:, :n].std(axis=1, ddof=1) / np.sqrt(n)) for n in ends]
    assert (np.abs(np.array(z)) > np.array(boundary)[:, None]).any(axis=0).mean() == pytest.approx(0.05, abs=0.021)
    t = np.arange(30, N + 1)
    mean = np.cumsum(null, axis=1)[:, 29:] / t
    assert (np.abs(mean - 0.5) > 1.96 * 0.5 / np.sqrt(t)).any(axis=1).mean() > 0.25


def test_asymptotic_sequence_holds_its_error():
    false_alarms = [asymptotic_test(x).stopped_at is not None for x in runs(0.5, 200, 2)]
    assert np.mean(false_alarms) < 0.08


def test_without_replacement_agrees_with_the_full_run_and_saves():
    stream = runs(0.6, 300, 3)
    decided, calls = stops(betting_e_values(stream, 0.5, population=N))
    at = np.array([x[:n].mean() for x, n in zip(stream, calls, strict=True)])
    wrong = decided & (np.sign(at - 0.5) != np.sign(stream.mean(axis=1) - 0.5))
    assert wrong.mean() < 0.01
    assert calls.mean() < 0.3 * N


@pytest.mark.parametrize(("rate", "calls"), [(0.55, 429), (0.6, 184), (0.65, 96), (0.7, 56)])
def test_a_benchmark_whose_own_rate_is_known_stops_as_published(rate, calls):
    """The benchmark is the target, so its own rate is held fixed and only the order of its prompts is random."""
    rng = np.random.default_rng(7)
    wins = round(rate * N)
    orders = rng.permuted(np.tile(np.r_[np.ones(wins), np.zeros(N - wins)], (800, 1)), axis=1)
    decided, taken = stops(betting_e_values(orders, 0.5, population=N))
    assert decided.mean() > 0.95
    assert taken.mean() == pytest.approx(calls, abs=10 if rate > 0.55 else 20)


def test_a_benchmark_that_cannot_turn_is_decided():
    scores = np.ones(60)
    assert betting_test(scores, population=100).stopped_at <= 51
    whole = betting_test(np.r_[np.ones(60), np.zeros(40)], population=100, null=0.9)
    assert whole.stopped_at is not None
    assert whole.interval.low <= 0.6 <= whole.interval.high
    assert whole.interval.high - whole.interval.low < 0.02  # all prompts are known
    with pytest.raises(UserError, match="counts once"):
        betting_test(np.ones(11), population=10)


def test_sorted_prompts_and_unmerged_orders_break_the_error():
    rng = np.random.default_rng(4)
    easy = np.sort(rng.random((200, N)) < 0.5, axis=1)[:, ::-1].astype(float)  # all wins first
    assert stops(betting_e_values(easy, 0.5))[0].mean() > 0.5
    pairs = np.repeat(runs(0.5, 400, 5)[:, :400], 2, axis=1)  # the two orders always agree
    assert stops(betting_e_values(pairs, 0.5))[0].mean() > 0.06


def test_the_confidence_sequence_covers_at_all_times():
    held = 0
    for x in runs(0.6, 40, 6)[:, :200]:
        interval = betting_test(x, grid=200).interval
        held += interval.low <= 0.6 <= interval.high
    assert held >= 37


def test_the_interval_and_the_decision_agree():
    x = runs(0.65, 1, 7)[0]
    ours = betting_test(x)
    assert ours.stopped_at is not None
    assert ours.interval.low >= 0.5
    assert asymptotic_test(x).interval.low > 0.5
    assert betting_test(x[:10]).stopped_at is None


def test_looks():
    look = group_sequential_look(np.r_[np.ones(70), np.zeros(30)], look=5, looks=5)
    assert look.stop
    assert look.z == pytest.approx(0.2 / (np.sqrt(0.21 / 99)))
    assert look.interval.low == pytest.approx(0.7 - look.critical * np.sqrt(0.21 / 99))
    assert not group_sequential_look([1, 1, 1], look=1, looks=5).stop
    with pytest.raises(UserError, match="not in a schedule"):
        group_sequential_look([1, 0], look=6, looks=5)
    with pytest.raises(UserError, match="shape"):
        group_sequential_boundary(5, shape="pocok")


def test_a_schedule_costs_the_published_share_of_more_prompts():
    """Jennison and Turnbull, Group Sequential Methods (2000), tables 2.2 and 2.4: alpha .05, power .8 and .9."""
    for shape, looks, power, inflation in (
        ("obrien_fleming", 5, 0.8, 1.028),
        ("obrien_fleming", 10, 0.8, 1.040),
        ("obrien_fleming", 10, 0.9, 1.037),
        ("pocock", 5, 0.8, 1.229),
    ):
        drift = group_sequential_drift(looks, power=power, shape=shape)
        assert (drift / group_sequential_drift(1, power=power)) ** 2 == pytest.approx(inflation, abs=1.5e-3)
    assert group_sequential_drift(1, power=0.8) == pytest.approx(1.959964 + 0.841621, abs=1e-4)
    chances = stop_chances(np.array(group_sequential_boundary(10)), 30.0)
    assert chances.sum() == pytest.approx(1)
    assert chances[:5].sum() > 0.999


def test_looks_keep_the_position_bias_out_of_the_noise():
    rng = np.random.default_rng(8)
    swapped = rng.permutation(np.arange(200) % 2 == 1)
    scores = (rng.random(200) < np.where(swapped, 0.3, 0.9)).astype(float)
    look = group_sequential_look(scores, swapped=swapped, look=10, looks=10)
    assert look.interval.se == pytest.approx(order_stratified(scores, swapped).se)
    assert look.interval.value == pytest.approx(order_stratified(scores, swapped).value)
    assert look.z > 1.2 * group_sequential_look(scores, look=10, looks=10).z
    one_sided = np.arange(200) == 0
    plain = group_sequential_look(scores, look=10, looks=10)
    assert group_sequential_look(scores, swapped=one_sided, look=10, looks=10) == plain


def test_looks_at_few_prompts_hold_the_error():
    rng = np.random.default_rng(9)
    alarms = 0
    for _ in range(400):
        swapped = rng.permutation(np.arange(60) % 2 == 1)
        scores = np.clip(0.5 + np.where(swapped, -0.15, 0.15) + rng.normal(0, 0.1, 60), 0, 1)
        alarms += any(
            group_sequential_look(scores[: 6 * k], swapped=swapped[: 6 * k], look=k, looks=10).stop
            for k in range(1, 11)
        )
    assert alarms / 400 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_e_benjamini_hochberg():
    assert e_benjamini_hochberg([100, 50, 1, 0.5]).tolist() == [True, True, False, False]
    assert not e_benjamini_hochberg([70, 1, 1, 1]).any()
    assert e_benjamini_hochberg([np.inf, 1.0], alpha=0.05).tolist() == [True, False]
