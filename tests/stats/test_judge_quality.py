"""Position bias, consistency and panels with planted truths."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.agreement import krippendorff_alpha
from rlhf_eval.stats.judge_effects import (
    difference_of_groups,
    krippendorff_interval,
    label_noise,
    log_odds_effects,
    self_preference,
    youden_interval,
)
from rlhf_eval.stats.judge_quality import (
    best_repeats,
    decision_value,
    effective_votes,
    error_correlation,
    information_per_dollar,
    position_bias,
    self_consistency,
)


def test_a_planted_lean_to_the_first_slot_is_found():
    rng = np.random.default_rng(0)
    merit = rng.normal(size=600)
    first = (rng.random(600) < 1 / (1 + np.exp(-(merit + 0.8)))).astype(float)
    second = (rng.random(600) < 1 / (1 + np.exp(-(merit - 0.8)))).astype(float)
    ours = position_bias(first, second)
    assert ours.first_slot.low > 0.05
    assert ours.both_first > ours.both_second
    assert ours.p_value < 1e-6
    assert ours.consistency.value == pytest.approx((first == second).mean())


def test_mcnemar_equals_statsmodels():
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    first, second = np.repeat([1, 1, 0, 0], [30, 14, 5, 21]), np.repeat([1, 0, 1, 0], [30, 14, 5, 21])
    theirs = tables.mcnemar([[30, 14], [5, 21]], exact=True).pvalue
    assert position_bias(first, second).p_value == pytest.approx(theirs)


def test_a_judge_that_always_says_first():
    ours = position_bias(np.ones(10), np.zeros(10))
    assert ours.consistency.value == 0
    assert ours.first_slot.low < ours.first_slot.value == ours.first_slot.high == 0.5
    assert ours.p_value == pytest.approx(2**-9)


def test_self_consistency_counts_agreeing_pairs():
    assert self_consistency([["A", "A", "B"], ["A", "A", "A"]]).value == pytest.approx((1 / 3 + 1) / 2)
    with pytest.raises(UserError, match="at least 2 repeats"):
        self_consistency([["A"], ["B"]])


@pytest.mark.parametrize(("agreement", "factor"), [(0.65, 11.1), (0.70, 6.3), (0.75, 4), (0.80, 2.8), (0.90, 1.6)])
def test_prompts_grow_with_the_inverse_square_of_j(agreement, factor):
    right = round(agreement * 100)
    human = np.repeat([1, 0], 100)
    judge = np.concatenate([np.repeat([1, 0], [right, 100 - right]), np.repeat([0, 1], [right, 100 - right])])
    ours = decision_value(judge, human)
    assert ours.sensitivity == pytest.approx(agreement)
    assert ours.youden == pytest.approx(2 * agreement - 1)
    assert ours.prompts_factor == pytest.approx(factor, abs=0.05)


def test_information_per_dollar_is_fisher_information():
    # The variance of the shown rate, mapped back to the true one, is q(1-q)/(n J^2).
    rng = np.random.default_rng(1)
    youden, win_rate, n = 0.6, 0.7, 400
    shown = 0.5 + youden * (win_rate - 0.5)
    estimates = 0.5 + (rng.binomial(n, shown, 20_000) / n - 0.5) / youden
    assert 1 / (n * estimates.var()) == pytest.approx(information_per_dollar(youden, 1.0, win_rate=win_rate), rel=0.03)
    assert information_per_dollar(1.0, 0.01, win_rate=1.0) == math.inf
    assert information_per_dollar(0.6, 0.01) == pytest.approx(2 * information_per_dollar(0.6, 0.02))


def test_a_correlated_panel_is_worth_few_votes():
    rng = np.random.default_rng(2)
    common = rng.normal(size=(20_000, 1))
    errors = np.sqrt(0.52) * common + np.sqrt(0.48) * rng.normal(size=(20_000, 9))
    assert error_correlation(errors) == pytest.approx(0.52, abs=0.02)
    assert effective_votes(9, error_correlation(errors)) == pytest.approx(1.76, abs=0.05)
    assert effective_votes(9, 0.0) == 9
    with pytest.raises(UserError, match="cannot have"):
        effective_votes(3, -0.6)


def test_repeats():
    assert best_repeats(4.0, 1.0, 1.0, 1.0) == 2
    assert best_repeats(0.0, 1.0, 1.0, 1.0) == 1


def test_planted_self_preference_is_found_and_a_fair_judge_cleared():
    rng = np.random.default_rng(3)
    human = (rng.random(800) < 0.4).astype(float)
    fair = np.where(rng.random(800) < 0.8, human, 1 - human)
    vain = np.where((human == 0) & (rng.random(800) < 0.3), 1, fair)
    assert self_preference(fair, human).low < 0 < self_preference(fair, human).high
    ours = self_preference(vain, human, np.arange(800) // 2)
    assert ours.low > 0.1
    assert ours.value == pytest.approx(vain[human == 1].mean() - (1 - vain)[human == 0].mean())
    with pytest.raises(UserError, match="both must occur"):
        self_preference([1, 0], [1, 1])


def test_label_noise_from_two_labels():
    assert label_noise(0.2112) == pytest.approx(0.12)
    assert label_noise(2 * 0.3 * 0.7) == pytest.approx(0.3)
    with pytest.raises(UserError, match="disagree at a rate"):
        label_noise(0.6)


def test_krippendorff_interval_is_around_alpha():
    rng = np.random.default_rng(4)
    a = rng.integers(0, 3, 200)
    b = np.where(rng.random(200) < 0.7, a, rng.integers(0, 3, 200))
    ours = krippendorff_interval(a, b, np.arange(200) // 2)
    assert ours.value == pytest.approx(krippendorff_alpha([a, b]))
    assert 0.3 < ours.low < ours.value < ours.high < 0.8


def test_youden_interval_is_around_the_decision_value():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 2, 300)
    said = np.where(rng.random(300) < 0.8, truth, 1 - truth)
    ours = youden_interval(said, truth)
    value = decision_value(said, truth)
    assert ours.value == pytest.approx(value.youden)
    s, n = value.sensitivity, truth.sum()
    t, m = value.specificity, (1 - truth).sum()
    assert ours.se == pytest.approx(np.sqrt(s * (1 - s) / n + t * (1 - t) / m), rel=0.1)


def test_difference_of_groups_is_welchs():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(6)
    y, group = rng.random(300), rng.random(300) < 0.4
    ours = difference_of_groups(y, group)
    welch = stats.ttest_ind(y[group], y[~group], equal_var=False).confidence_interval()
    assert (ours.low, ours.high) == pytest.approx(tuple(welch), abs=2e-3)
    copies = np.tile(np.arange(300), 3)
    thrice = difference_of_groups(np.tile(y, 3), np.tile(group, 3), copies)
    assert thrice.se == pytest.approx(ours.se, rel=1e-9)
    with pytest.raises(UserError, match="at least 2 in each"):
        difference_of_groups([1, 2, 3], [True, False, False])


def test_log_odds_effects_equal_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(7)
    design, prompts = rng.normal(size=(240, 2)), np.arange(240) // 4
    logits = design @ [0.5, -1.0] + rng.normal(size=240) + rng.normal(size=60)[prompts]
    ours = log_odds_effects(logits, design, prompts)
    theirs = sm.OLS(logits, design).fit(cov_type="cluster", cov_kwds={"groups": prompts, "use_correction": True})
    assert [i.value for i in ours] == pytest.approx(theirs.params.tolist())
    assert [i.se for i in ours] == pytest.approx(theirs.bse.tolist())
    assert log_odds_effects(logits, np.ones((240, 2)), prompts) is None
