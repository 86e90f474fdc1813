"""Logistic fits against scikit-learn, statsmodels, and their optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_eval.stats.logistic import fit_logistic, fit_logistic_l1, sigmoid


def soft_data(n, seed):
    rng = np.random.default_rng(seed)
    design = np.column_stack([np.ones(n), rng.normal(size=n), rng.normal(size=n)])
    return design, np.clip(sigmoid(design @ [0.3, 0.8, -0.5]) + rng.normal(0, 0.2, n), 0, 1)


def test_equals_statsmodels_on_soft_labels_and_weights():
    sm = pytest.importorskip("statsmodels.api")
    design, y = soft_data(200, 0)
    weights = np.random.default_rng(1).integers(1, 4, 200).astype(float)
    theirs = sm.GLM(y, design, family=sm.families.Binomial(), freq_weights=weights).fit(tol=1e-12).params
    assert fit_logistic(design, y, weights=weights) == pytest.approx(theirs, abs=1e-8)


def test_equals_scikit_learn_with_ridge():
    linear = pytest.importorskip("sklearn.linear_model")
    design, y = soft_data(200, 2)
    hard = (y > 0.5).astype(int)
    model = linear.LogisticRegression(C=0.5, fit_intercept=False, tol=1e-12, max_iter=10_000).fit(design, hard)
    assert fit_logistic(design, hard.astype(float), ridge=2.0) == pytest.approx(model.coef_[0], abs=1e-5)


@pytest.mark.parametrize("labels", [np.ones(6), np.array([0, 0, 0, 1, 1, 1.0])])
def test_separated_labels_have_no_fit(labels):
    design = np.column_stack([np.ones(6), np.arange(6) - 2.5])
    assert fit_logistic(design, labels) is None


def test_dependent_columns_have_no_fit():
    assert fit_logistic(np.ones((5, 2)), np.array([0, 1, 0, 1, 1.0])) is None


@pytest.mark.parametrize("c", [0.01, 0.3, 20.0])
def test_l1_meets_its_optimality_conditions(c):
    design, y = soft_data(300, 3)
    theta = fit_logistic_l1(design, y, c=c)
    slope = c * design.T @ (sigmoid(design @ theta) - y)
    active = theta != 0
    assert slope[active] == pytest.approx(-np.sign(theta[active]), abs=1e-7)
    assert (np.abs(slope[~active]) <= 1 + 1e-7).all()


@pytest.mark.filterwarnings("ignore")
def test_l1_equals_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    design, y = soft_data(300, 4)
    model = linear.LogisticRegression(penalty="l1", solver="liblinear", C=0.2, fit_intercept=False, tol=1e-9)
    model.fit(np.vstack([design, design]), np.repeat([1, 0], 300), sample_weight=np.concatenate([y, 1 - y]))
    assert fit_logistic_l1(design, y, c=0.2) == pytest.approx(model.coef_[0], abs=1e-5)
