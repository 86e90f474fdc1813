"""Effects on a judge: oracles, invariances, and coverage where the truth is planted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from rlhf_eval.errors import UserError
from rlhf_eval.stats.agreement import krippendorff_alpha
from rlhf_eval.stats.judge_effects import (
    difference_of_groups,
    fair_gap,
    krippendorff_interval,
    log_odds_effects,
    youden_interval,
)
from rlhf_eval.stats.judge_quality import decision_value


@pytest.mark.parametrize("table", [(40, 10, 10, 40), (85, 5, 5, 5), (90, 5, 5, 0)])
def test_alpha_is_that_of_the_slow_way(table: tuple[int, int, int, int]) -> None:
    a = np.repeat([1, 1, 0, 0], table)
    b = np.repeat([1, 0, 1, 0], table)
    found = krippendorff_interval(a, b, draws=200)
    assert found.value == pytest.approx(krippendorff_alpha([a, b]))
    assert found.low < found.value < found.high


def test_alpha_needs_no_order_of_the_raters_and_any_labels() -> None:
    a, b = ["x", "y", "z", "x", "y"] * 8, ["x", "y", "x", "x", "z"] * 8
    assert krippendorff_interval(a, b, draws=50).value == pytest.approx(krippendorff_interval(b, a, draws=50).value)
    assert krippendorff_interval(["x"] * 9, ["x"] * 9, draws=50).value == 0


def test_youden_is_sensitivity_plus_specificity_minus_one() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(300) < 0.5
    said = np.where(rng.random(300) < 0.8, truth, ~truth)
    found = youden_interval(said, truth)
    assert found.value == pytest.approx(decision_value(said, truth).youden)
    assert found.low < 0.6 < found.high
    assert youden_interval(1 - said, 1 - truth).value == pytest.approx(found.value)
    with pytest.raises(UserError, match="both must occur"):
        youden_interval([1, 0], [1, 1])


def test_a_difference_of_groups_is_that_of_the_means_and_its_error_welchs() -> None:
    rng = np.random.default_rng(1)
    y, group = rng.random(120), np.arange(120) % 2 == 0
    found = difference_of_groups(y, group)
    assert found.value == pytest.approx(y[group].mean() - y[~group].mean())
    welch = stats.ttest_ind(y[group], y[~group], equal_var=False)
    assert found.se == pytest.approx(abs(found.value / welch.statistic), rel=0.01)


def test_rows_that_repeat_a_prompt_add_nothing() -> None:
    rng = np.random.default_rng(2)
    y, group = rng.random(60), np.arange(60) % 3 == 0
    once = difference_of_groups(y, group, np.arange(60))
    thrice = difference_of_groups(np.tile(y, 3), np.tile(group, 3), np.tile(np.arange(60), 3))
    assert (thrice.value, thrice.se) == (pytest.approx(once.value), pytest.approx(once.se))


def test_strata_take_out_what_the_stratum_explains() -> None:
    rng = np.random.default_rng(3)
    hard = rng.random(2000) < 0.5
    group = rng.random(2000) < np.where(hard, 0.2, 0.8)  # the group has the easy ones
    y = np.where(hard, 0.6, 0.9) + 0.05 * rng.standard_normal(2000)
    y = np.clip(y, 0, 1)
    assert difference_of_groups(y, group).value > 0.1
    within = difference_of_groups(y, group, strata=hard)
    assert within.value == pytest.approx(0, abs=0.01)
    assert "2 strata" in within.method
    with pytest.raises(UserError, match="share no stratum"):
        difference_of_groups(y, group, strata=group)
    with pytest.raises(UserError, match="at least 2"):
        difference_of_groups([1, 0, 1], [True, False, False])


def test_a_few_verdicts_without_spread_show_no_favour_for_certain() -> None:
    """Right on its two own answers, wrong on two others: a fair judge does that once in sixteen times."""
    for size in (2, 3):
        found = difference_of_groups([1] * size + [0] * size, [True] * size + [False] * size, level=0.996)
        assert found.low < 0 < found.value == found.high == 1
    many = difference_of_groups([1] * 40 + [0] * 40, [True] * 40 + [False] * 40)
    assert many.low > 0.8
    assert difference_of_groups([3, 3, 1, 1], [True, True, False, False]).se == 0


def test_the_interval_of_a_difference_of_groups_holds_its_level() -> None:
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(400):
        group = rng.random(50) < 0.3
        y = (rng.random(50) < np.where(group, 0.8, 0.6)).astype(float)
        found = difference_of_groups(y, group)
        held += found.low <= 0.2 <= found.high
    assert held >= 0.92 * 400


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("lead", [0.0, 0.6, 1.0])
def test_a_fair_judge_of_unequal_models_shows_the_fair_gap_and_no_more(lead: float, noise: float) -> None:
    rng = np.random.default_rng(5)
    margin = rng.normal(lead, 1, 100_000)
    labels = margin + noise * rng.standard_normal((2, len(margin))) > 0
    share = special.expit(2.5 * margin)
    right = np.where(labels[0], share, 1 - share)
    gap = difference_of_groups(right, labels[0]).value
    fair = fair_gap(float(labels[0].mean()), float(right.mean()), float((labels[0] == labels[1]).mean()))
    assert fair == pytest.approx(gap, abs=0.015)
    assert (gap > 0.05) == (lead > 0)


def test_the_fair_gap_is_odd_around_one_half_and_zero_for_a_perfect_judge_of_exact_labels() -> None:
    for accuracy, agreement in ((0.7, 1.0), (0.8, 0.75)):
        assert fair_gap(0.5, accuracy, agreement) == pytest.approx(0, abs=1e-6)
        assert fair_gap(0.7, accuracy, agreement) == pytest.approx(-fair_gap(0.3, accuracy, agreement), abs=1e-6)
    assert fair_gap(0.8, 1.0) == pytest.approx(0, abs=0.01)


def test_effects_on_log_odds_are_recovered_with_intervals_that_hold() -> None:
    rng = np.random.default_rng(6)
    true, held = np.array([0.7, -0.4, 1.2]), np.zeros(3)
    for _ in range(200):
        prompts = np.repeat(np.arange(40), 2)
        x = np.column_stack([np.tile([1, -1], 40), rng.normal(size=80), rng.integers(-1, 2, size=80)])
        noise = np.repeat(rng.normal(size=40), 2) * x[:, 0] + 0.3 * rng.normal(size=80)
        effects = log_odds_effects(x @ true + noise, x, prompts)
        assert effects is not None
        held += [e.low <= t <= e.high for e, t in zip(effects, true, strict=True)]
    assert (held / 200 >= 0.9).all()


def test_effects_that_cannot_be_told_apart_are_refused() -> None:
    x = np.column_stack([np.arange(20.0), 2 * np.arange(20.0)])
    assert log_odds_effects(np.arange(20.0), x) is None
    assert log_odds_effects(np.arange(20.0), np.zeros((20, 1))) is None
    assert log_odds_effects([1.0, 2.0], [[1.0], [2.0]]) is None
    exact = log_odds_effects(3 * np.arange(1.0, 21.0), np.arange(1.0, 21.0)[:, None])
    assert exact is not None and exact[0].value == pytest.approx(3)
