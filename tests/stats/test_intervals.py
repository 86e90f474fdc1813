"""Intervals against exact oracles, statsmodels, and their own promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval.errors import UserError
from rlhf_eval.stats.intervals import (
    benjamini_hochberg,
    bounded_mean,
    clustered_mean,
    holm,
    mean_interval,
    minimal_detectable_effect,
    order_stratified,
    paired,
    power,
    prompts_needed,
    variance_per_prompt,
    wilson,
    winners_curse,
)

Y = np.array([1, 1, 0.5, 0, 0, 1, 1, 1, 0.5, 0, 1, 0])
G = np.repeat(np.arange(6), 2)


def test_tiny_clustered_case_is_exact():
    mean, se, n = clustered_mean(Y, G)
    assert mean == pytest.approx(0.583333, abs=1e-6)
    assert se == pytest.approx(0.139443, abs=1e-6)
    assert se * math.sqrt(5 / 6) == pytest.approx(0.127294, abs=1e-6)  # Miller's, without G/(G-1)
    assert clustered_mean(Y)[1] == pytest.approx(0.135307, abs=1e-6)
    assert n == 6


def test_clustered_se_equals_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(0)
    y, g = rng.random(200), rng.integers(0, 23, 200)
    for correct, factor in ((True, 1.0), (False, math.sqrt(22 / 23))):
        fit = sm.OLS(y, np.ones(200)).fit(
            cov_type="cluster", cov_kwds={"groups": g, "use_correction": correct}, use_t=True
        )
        assert clustered_mean(y, g)[1] * factor == pytest.approx(float(fit.bse[0]), rel=1e-12)


def test_clustered_se_equals_the_slow_and_obvious_one():
    rng = np.random.default_rng(1)
    y, g = rng.random(60), rng.integers(0, 9, 60)
    total = sum(sum(y[i] - y.mean() for i in range(60) if g[i] == c) ** 2 for c in range(9))
    assert clustered_mean(y, g)[1] == pytest.approx(math.sqrt(9 / 8 * total) / 60, rel=1e-12)


def test_clusters_may_be_named_by_strings_in_any_order():
    names = np.array(list("zyxwvu"))[G]
    shuffled = np.random.default_rng(2).permutation(12)
    assert wilson(Y[shuffled], names[shuffled]).low == pytest.approx(wilson(Y, G).low, rel=1e-12)


def test_wilson_of_independent_yes_and_no_is_the_textbook_interval():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    from scipy import special

    y = np.repeat([1.0, 0.0], [17, 23])
    ours = wilson(y)
    alpha = 2 * special.ndtr(-special.stdtrit(39, 0.975))  # the z level whose quantile is our t
    low, high = proportion.proportion_confint(17 * 39 / 40, 39, alpha=alpha, method="wilson")
    assert ours.n_eff == pytest.approx(39)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_wilson_at_the_ends_uses_the_number_of_clusters(value):
    ours = wilson(np.full(20, value), np.repeat(np.arange(10), 2))
    assert ours.n_eff == 10
    assert "not believable" in ours.note
    t2 = 2.2621571628540993**2
    assert abs(ours.high - ours.low) == pytest.approx(t2 / (10 + t2))
    assert ours.value in (ours.low, ours.high)


def test_wilson_of_perfect_flips_does_not_collapse():
    flips = np.tile([1.0, 0.0], 10)
    ours = wilson(flips, np.repeat(np.arange(10), 2))
    assert ours.low < 0.3
    assert ours.high > 0.7


def test_wilson_of_one_cluster_is_everything_and_says_why():
    ours = wilson([1, 0, 1], ["p", "p", "p"])
    assert (ours.low, ours.high) == (0, 1)
    assert "one cluster" in ours.note
    assert math.isinf(mean_interval([1.0]).high)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=30))
def test_wilson_contains_its_value_and_mirrors(scores):
    ours, mirror = wilson(scores), wilson([1 - s for s in scores])
    assert 0 <= ours.low <= ours.value <= ours.high <= 1
    assert ours.low == pytest.approx(1 - mirror.high, abs=1e-12)


@pytest.mark.parametrize("bad", [[], [0.2, float("nan")], [1.2], [[0.1, 0.2]]])
def test_wilson_refuses_what_is_no_list_of_scores(bad):
    with pytest.raises(UserError):
        wilson(bad)


def test_clusters_of_another_length_are_refused():
    with pytest.raises(UserError, match="clusters"):
        wilson([1, 0], [1, 2, 3])
    with pytest.raises(UserError, match="lengths differ"):
        paired([1, 0], [1, 0, 1])
    with pytest.raises(UserError, match="level"):
        wilson([1, 0], level=95)


def test_mean_interval_equals_scipy():
    stats = pytest.importorskip("scipy.stats")
    x = np.random.default_rng(3).normal(size=25)
    low, high = stats.t.interval(0.9, 24, loc=x.mean(), scale=stats.sem(x))
    ours = mean_interval(x, level=0.9)
    assert (ours.low, ours.high) == pytest.approx((low, high))


def test_paired_equals_scipy_and_the_correlation_identity():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(4)
    a = rng.random(50)
    b = np.clip(a + rng.normal(0, 0.3, 50), 0, 1)
    ours, theirs = paired(a, b), stats.ttest_rel(a, b)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval())
    sa, sb = mean_interval(a).se, mean_interval(b).se
    assert ours.se**2 == pytest.approx(sa**2 + sb**2 - 2 * ours.correlation * sa * sb)


def test_paired_without_spread_is_honest():
    ours = paired(np.ones(5), np.zeros(5))
    assert ours.p_value == 2**-4
    assert ours.low < 0.2
    assert ours.high == 1
    same = paired([0.3, 0.7], [0.3, 0.7])
    assert same.p_value == 1
    assert same.low < 0 < same.high


def test_intervals_of_bounded_quantities_stay_within_their_bounds():
    few = paired([1, 1, 0], [0, 0, 0])
    assert (few.low < 0, few.high) == (True, 1)
    assert paired([7, 8, 9], [1, 9, 4]).high > 1  # grades have no such bounds
    told = bounded_mean([0.5, 0.5, 0.5], -0.5, 0.5)
    assert told.low < 0 < told.value == told.high == 0.5
    one = bounded_mean([0.2], -0.5, 0.5)
    assert (one.low, one.high) == (-0.5, 0.5)


def test_order_stratified_formula_and_position_bias():
    rng = np.random.default_rng(5)
    side = np.arange(400) % 2 == 1
    y = (rng.random(400) < np.where(side, 0.9, 0.3)).astype(float)  # a strong position bias around .6
    ours = order_stratified(y, side)
    v = [y[~side].var(ddof=1) / 200, y[side].var(ddof=1) / 200]
    assert ours.se == pytest.approx(0.5 * math.sqrt(sum(v)))
    assert ours.value == pytest.approx((y[~side].mean() + y[side].mean()) / 2)
    assert mean_interval(y).se / ours.se > 1.15
    with pytest.raises(UserError, match="each order"):
        order_stratified([1, 0, 1], [False, False, True])


def test_miller_sample_sizes():
    assert prompts_needed(0.03, variance=1 / 9) == 969
    one = variance_per_prompt(1 / 9, within_a=1 / 6, within_b=1 / 6)
    ten = variance_per_prompt(1 / 9, within_a=1 / 6, within_b=1 / 6, samples_a=10, samples_b=10)
    assert prompts_needed(0.03, variance=one) == 3876
    assert prompts_needed(0.03, variance=ten) == 1260
    with pytest.raises(UserError, match="difference of 0"):
        prompts_needed(0)


@pytest.mark.parametrize(("n", "effect"), [(80, 0.157), (200, 0.099), (500, 0.063), (805, 0.049), (1865, 0.032)])
def test_minimal_detectable_effect_against_one_half(n, effect):
    assert minimal_detectable_effect(n) == pytest.approx(effect, abs=5e-4)
    assert power(minimal_detectable_effect(n), n) == pytest.approx(0.8, abs=1e-5)


def test_holm_and_benjamini_hochberg_equal_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(6).random(40) ** 3
    for ours, name in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
        assert ours(p) == pytest.approx(multitest.multipletests(p, method=name)[1], rel=1e-12)


def test_winners_curse_of_ten():
    assert winners_curse(10, 1.0) == pytest.approx(1.5388, abs=1e-4)
    assert winners_curse(1, 1.0) == pytest.approx(0, abs=1e-9)
    assert winners_curse(10, 0.5 / math.sqrt(805)) == pytest.approx(0.027, abs=5e-4)


def test_one_balanced_order_beats_two_orders_on_half_the_prompts():
    rng = np.random.default_rng(7)
    side = np.tile([0.3, -0.3], 200)

    def judged(taste, order):
        return (rng.random(order.shape) < 1 / (1 + np.exp(-(0.3 + taste + order)))).astype(float)

    one = [judged(rng.normal(0, 1.2, 400), side).mean() for _ in range(1500)]
    both = [judged(rng.normal(0, 1.2, (200, 1)), side[:2][None, :].repeat(200, 0)).mean() for _ in range(1500)]
    assert np.var(one) / np.var(both) < 0.85
    assert np.mean(one) == pytest.approx(np.mean(both), abs=0.003)


def test_retrying_the_lost_ones_is_biased():
    rng = np.random.default_rng(8)
    chance = 1 / (1 + np.exp(-(0.3 + rng.normal(0, 1.2, 40_000)[:, None] + np.array([0.3, -0.3]))))
    first, second = (rng.random(chance.shape) < chance).T
    fair = np.column_stack([first, second]).mean()
    assert np.where(first, 1, second).mean() > fair + 0.05
    assert first.mean() > fair + 0.02  # one fixed side
    agree = first == second
    assert first[agree].mean() > fair + 0.01  # dropping what is inconsistent


def test_sweeps_of_null_checkpoints():
    rng = np.random.default_rng(9)
    p = rng.random((4000, 10))
    assert (p.min(axis=1) < 0.05).mean() == pytest.approx(1 - 0.95**10, abs=0.03)
    assert np.mean([holm(row).min() < 0.05 for row in p]) <= 0.06


def test_pairing_sees_what_two_intervals_hide():
    rng = np.random.default_rng(10)
    difficulty = rng.normal(0, 1.5, 500)
    a, b = ((rng.random(500) < 1 / (1 + np.exp(-(difficulty + shift)))).astype(float) for shift in (0.4, 0.0))
    ours = paired(a, b)
    unpaired = math.hypot(mean_interval(a).se, mean_interval(b).se)
    assert ours.correlation > 0.2
    assert ours.se < 0.9 * unpaired


def test_soft_verdicts_that_hardly_differ_leave_room_for_what_was_not_seen():
    near = 1 - 1e-7 * np.random.default_rng(0).random(40)
    unseen = 1 - 0.025 ** (1 / 40)  # Clopper and Pearson's upper limit of 0 in 40
    won = wilson(near)
    assert won.low == pytest.approx(1 - unseen, abs=1e-6)
    assert "not seen" in won.note
    assert wilson(1 - near).high == pytest.approx(unseen, abs=1e-6)
    assert wilson(1 - near).low < 1e-6
    ahead = paired(near, 1 - near)
    assert ahead.low == pytest.approx(1 - 2 * unseen, abs=1e-6)
    assert paired(1 - near, near).high == pytest.approx(2 * unseen - 1, abs=1e-6)
    assert paired(100 * near, near).low > 98  # of scores without bounds nothing is known about the unseen
    assert not wilson(np.r_[near, 0.0]).note
    assert not wilson(np.linspace(0.51, 0.99, 40)).note
