"""Calibration: planted temperatures, the null of the ECE, scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.calibration import (
    calibration,
    ece_interval,
    expected_calibration_error,
    fit_isotonic,
    fit_temperature,
)


def judged(n, temperature, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, n)
    outcomes = (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(float)
    return temperature * logits, outcomes


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize(("n", "null"), [(200, 0.099), (2000, 0.031)])
def test_perfect_calibration_shows_the_published_ece(n, null):
    logits, outcomes = judged(n, 1.0, 0)
    assert calibration(sigmoid(logits), outcomes).ece_null == pytest.approx(null, rel=0.05)


def test_the_null_is_not_rejected_when_true_and_is_when_false():
    logits, outcomes = judged(2000, 1.0, 1)
    assert calibration(sigmoid(logits), outcomes).p_value > 0.05
    logits, outcomes = judged(2000, 3.0, 1)
    assert calibration(sigmoid(logits), outcomes).p_value < 0.01


def test_temperature_is_recovered_and_mends_the_judge():
    logits, outcomes = judged(20_000, 3.0, 2)
    temperature = fit_temperature(logits, outcomes)
    assert temperature == pytest.approx(3.0, abs=0.15)
    before, after = calibration(sigmoid(logits), outcomes), calibration(sigmoid(logits / temperature), outcomes)
    assert before.ece > 0.1
    assert after.ece < 0.02
    assert after.brier.value < before.brier.value


def test_temperature_of_soft_outcomes_is_exact():
    logits = np.linspace(-3, 3, 41)
    assert fit_temperature(logits, sigmoid(logits / 1.7)) == pytest.approx(1.7, abs=1e-6)


def test_temperature_says_when_it_runs_off():
    with pytest.raises(UserError, match="use more labels"):
        fit_temperature([2.0, -1.0], [1, 0])
    with pytest.raises(UserError, match="do not point"):
        fit_temperature([2.0, -1.0], [0, 1])


def test_scores_equal_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    logits, outcomes = judged(300, 2.0, 3)
    ours = calibration(sigmoid(logits), outcomes)
    assert ours.brier.value == pytest.approx(metrics.brier_score_loss(outcomes, sigmoid(logits)))
    assert ours.log_loss.value == pytest.approx(metrics.log_loss(outcomes, sigmoid(logits)))


def test_isotonic_equals_scikit_learn():
    isotonic = pytest.importorskip("sklearn.isotonic")
    rng = np.random.default_rng(4)
    x = rng.integers(0, 40, 300) / 40
    y = (rng.random(300) < x**2).astype(float)
    new = np.linspace(-0.2, 1.2, 29)
    theirs = isotonic.IsotonicRegression(out_of_bounds="clip").fit(x, y).predict(new)
    assert fit_isotonic(x, y)(new) == pytest.approx(theirs, abs=1e-12)


def test_ece_does_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(5)
    p = rng.choice([0.2, 0.5, 0.9], 200)
    y = (rng.random(200) < p).astype(float)
    order = rng.permutation(200)
    assert expected_calibration_error(p, y) == pytest.approx(expected_calibration_error(p[order], y[order]))
    by_hand = sum(abs((y - p)[p == v].sum()) for v in (0.2, 0.5, 0.9)) / 200
    assert expected_calibration_error(p, y) == pytest.approx(by_hand)


def test_ties_have_no_place_in_a_calibration():
    with pytest.raises(UserError, match="leave ties out"):
        calibration([0.5, 0.5], [0.5, 1])


def test_the_brier_score_of_ten_sure_verdicts_is_covered() -> None:
    """A sure judge that is right as often as it says: seldom wrong and then by much, which a t interval covered .86 of."""
    rng, inside = np.random.default_rng(6), 0
    for _ in range(400):
        p = rng.beta(0.5, 0.5, 10)
        brier = calibration(p, (rng.random(10) < p).astype(float), draws=1).brier
        inside += brier.low <= 1 / 8 <= brier.high
    assert inside > 375


def test_a_few_items_give_no_impossible_score() -> None:
    few = calibration([0.9, 0.9, 0.1], [1, 1, 1])
    assert 0 <= few.brier.low < few.brier.high <= 1
    assert few.log_loss.low == 0


@pytest.mark.parametrize(("p", "clusters"), [([0.2, 0.7, 0.9], ["a", "a", "a"]), ([1.0, 1.0, 1.0], None)])
def test_one_cluster_and_items_that_are_all_alike_bound_nothing(p: list[float], clusters: list[str] | None) -> None:
    found = ece_interval(p, [0, 1, 1] if clusters else [1, 1, 1], clusters)
    assert (found.low, found.high) == (0.0, 1.0)
