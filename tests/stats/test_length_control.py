"""Length control: exact symmetries, other packages, coverage, and when it must refuse."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.bradley_terry import bradley_terry
from rlhf_eval.stats.length_control import (
    length_controlled,
    length_controlled_bootstrap,
    length_feature,
    relative_feature,
    style_controlled_ranking,
)
from rlhf_eval.stats.logistic import fit_logistic, fit_logistic_draws

PHI, PSI = 0.9, 0.6


def judged(rng, n, shift, *, soft=False, gap=0.0):
    style, difficulty = np.tanh(rng.normal(shift, 1, n)), rng.normal(size=n)
    p = 1 / (1 + np.exp(-(gap + PHI * style + PSI * difficulty)))
    return (p if soft else (rng.random(n) < p).astype(float)), style, difficulty


def test_equal_styles_leave_the_raw_rate():
    scores = np.random.default_rng(0).random(50)
    ours = length_controlled(scores, np.zeros(50))
    assert ours.adjusted.value == ours.raw.value
    assert ours.adjusted.se == pytest.approx(ours.raw.se, rel=1e-12)
    assert ours.variance_inflation == 1


def test_swapping_the_models_mirrors_the_rate():
    scores, style, difficulty = judged(np.random.default_rng(1), 400, 0.7)
    one = length_controlled(scores, style, covariates=difficulty).adjusted
    other = length_controlled(1 - scores, -style, covariates=difficulty).adjusted
    assert other.value == pytest.approx(1 - one.value, abs=1e-12)
    assert other.low == pytest.approx(1 - one.high, abs=1e-12)


def test_equal_models_one_longer_are_equal_again():
    rng = np.random.default_rng(2)
    scores, style, _ = judged(rng, 60_000, 1.0)
    ours = length_controlled(scores, style)
    assert ours.raw.value == pytest.approx(0.610, abs=0.02)
    assert ours.adjusted.value == pytest.approx(0.5, abs=0.012)
    assert ours.variance_inflation == pytest.approx(1 + (style.mean() / style.std()) ** 2)


def test_a_planted_quality_is_found_under_a_taste_for_length():
    """RLAIF's control (arXiv 2309.00267, appendix J): log-odds .3 at equal length, and 2 for each length more."""
    rng = np.random.default_rng(6)
    ratio = np.exp(rng.normal(0.2, 0.4, 4000))  # 1.33 on average
    scores = (rng.random(4000) < 1 / (1 + np.exp(-(0.3 + 2 * (ratio - 1))))).astype(float)
    ours = length_controlled(scores, ratio - 1)
    assert ours.raw.value > 0.68
    assert ours.adjusted.value == pytest.approx(0.574, abs=0.03)


def test_point_and_error_equal_statsmodels_with_the_delta_method():
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(3)
    scores, style, _ = judged(rng, 500, 0.5)
    prompts = np.arange(500) % 100
    ours = length_controlled(scores, style, prompts)
    design = np.column_stack([np.ones(500), style])
    fit = sm.GLM(scores, design, family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": prompts, "use_correction": True}, tol=1e-12
    )
    rate = 1 / (1 + np.exp(-fit.params[0]))
    correction = np.sqrt((500 - 2) / 499)  # statsmodels also multiplies the variance by (n-1)/(n-k)
    assert ours.adjusted.value == pytest.approx(rate, abs=1e-6)
    assert ours.adjusted.se == pytest.approx(rate * (1 - rate) * fit.bse[0] * correction, rel=1e-5)
    assert ours.coefficients[0] == pytest.approx(fit.params[1], abs=1e-5)


def test_the_bootstrap_agrees_with_the_influence_function():
    scores, style, difficulty = judged(np.random.default_rng(8), 600, 0.6)
    prompts = np.arange(600) // 2
    quick = length_controlled(scores, style, prompts, covariates=difficulty).adjusted
    slow = length_controlled_bootstrap(scores, style, prompts, covariates=difficulty, draws=600, seed=1)
    assert slow.value == pytest.approx(quick.value, abs=1e-12)
    assert slow.se == pytest.approx(quick.se, rel=0.1)
    assert (slow.low, slow.high) == pytest.approx((quick.low, quick.high), abs=0.015)


def test_a_draw_is_the_fit_of_its_repeated_rows():
    scores, style, _ = judged(np.random.default_rng(9), 80, 0.2, soft=True)
    design = np.column_stack([np.ones(80), style])
    weights = np.random.default_rng(3).integers(0, 3, (5, 80)).astype(float)
    fast = fit_logistic_draws(design, scores, weights)
    for row, fitted in zip(weights.astype(int), fast, strict=True):
        rows = np.repeat(np.arange(80), row)
        assert fitted == pytest.approx(fit_logistic(design[rows], scores[rows]), abs=1e-7)
    separated = fit_logistic_draws(design, (style > 0).astype(float), np.ones((1, 80)))
    assert np.isnan(separated).all()


@pytest.mark.parametrize(("shift", "soft"), [(0.0, False), (-1.0, False), (0.0, True), (-1.0, True)])
def test_the_interval_covers(shift, soft):
    rng = np.random.default_rng(4)
    truth = (1 / (1 + np.exp(-PSI * rng.normal(size=400_000)))).mean()
    fits = [
        length_controlled(y, f, covariates=d).adjusted
        for y, f, d in (judged(rng, 805, shift, soft=soft) for _ in range(150))
    ]
    assert np.mean([x.low <= truth <= x.high for x in fits]) >= 0.90
    assert np.mean([x.se for x in fits]) == pytest.approx(np.std([x.value for x in fits]), rel=0.2)


def test_refuses_where_styles_do_not_overlap():
    scores, style, _ = judged(np.random.default_rng(5), 400, -2.5)
    ours = length_controlled(scores, style)
    assert ours.adjusted is None
    assert "not identified" in ours.reason
    assert 0 < ours.raw.value < 1
    constant = length_controlled(scores, np.ones(400))
    assert constant.adjusted is None
    assert constant.variance_inflation == np.inf


def test_refuses_where_style_decides_every_verdict():
    style = np.linspace(-1, 1, 40)
    ours = length_controlled((style > 0).astype(float), style)
    assert ours.adjusted is None
    assert "separate" in ours.reason


def test_features():
    assert length_feature([10, 20, 30], [10, 10, 10]) == pytest.approx(np.tanh([0, 1, 2]))
    assert length_feature([5, 5], [5, 5]) == pytest.approx([0, 0])
    assert relative_feature([3, 0, 1], [1, 0, 0]) == pytest.approx([0.5, 0, 1])


def test_two_features_and_bad_shapes():
    rng = np.random.default_rng(6)
    scores, style, _ = judged(rng, 600, 0.0)
    both = np.column_stack([style, rng.normal(size=600)])
    assert length_controlled(scores, both).coefficients[0] == pytest.approx(PHI, abs=0.4)
    with pytest.raises(UserError, match="style must be finite"):
        length_controlled(scores, style[:-1])


def play_with_style(n, coefficient, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    strengths = np.array([0.5, 0.1, -0.1, -0.5])
    a = rng.integers(0, 4, n)
    b = (a + rng.integers(1, 4, n)) % 4
    style = rng.normal(shift, 1, n)
    p = 1 / (1 + np.exp(-(strengths[a] - strengths[b] + coefficient * style)))
    return a, b, (rng.random(n) < p).astype(float), style


def test_style_ranking_recovers_strengths_and_style():
    ours = style_controlled_ranking(*play_with_style(40_000, 0.5, 7))
    assert ours.ratings == pytest.approx([0.5, 0.1, -0.1, -0.5], abs=0.05)
    assert ours.coefficients[0] == pytest.approx(0.5, abs=4 * ours.coefficient_errors[0])


def test_style_that_does_not_matter_leaves_bradley_terry():
    a, b, scores, style = play_with_style(400, 0.0, 8)
    prompts = np.tile(np.arange(400) % 80, 2)
    twice = np.tile(a, 2), np.tile(b, 2), np.tile(scores, 2)
    with_style = style_controlled_ranking(*twice, np.concatenate([style, -style]), prompts)
    plain = bradley_terry(*twice, prompts)
    assert with_style.coefficients[0] == pytest.approx(0, abs=1e-12)
    assert with_style.ratings == pytest.approx(plain.ratings, abs=1e-9)
    assert with_style.covariance == pytest.approx(plain.covariance, abs=1e-9)


def test_style_ranking_errors_equal_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    a, b, scores, style = play_with_style(500, 0.5, 10)
    ours = style_controlled_ranking(a, b, scores, style)
    design = np.zeros((500, 4))
    design[range(500), a], design[range(500), b] = 1, -1
    reduced = np.column_stack([design @ np.vstack([np.eye(3), -np.ones(3)]), style])
    theirs = sm.GLM(scores, reduced, family=sm.families.Binomial()).fit(cov_type="HC0", tol=1e-12)
    assert ours.ratings[:3] == pytest.approx(theirs.params[:3], abs=1e-8)
    assert ours.coefficient_errors[0] * np.sqrt(499 / 500) == pytest.approx(theirs.bse[3], rel=1e-6)


def test_style_ranking_refuses_an_undefeated_model():
    with pytest.raises(UserError, match="not strongly connected"):
        style_controlled_ranking(["x", "x"], ["y", "y"], [1, 1], [0.1, -0.2])
