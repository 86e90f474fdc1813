"""Dawid-Skene on planted raters."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.dawid_skene import dawid_skene


def planted(items, accuracies, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, items)
    right = rng.random((items, len(accuracies))) < np.array(accuracies)
    return truth, np.where(right, truth[:, None], 1 - truth[:, None])


def test_beats_the_majority_when_independent_raters_differ():
    accuracies = [0.95, 0.6, 0.6, 0.6, 0.6]
    truth, votes = planted(1500, accuracies, 0)
    fit = dawid_skene(votes, classes=2)
    majority = (votes.mean(axis=1) > 0.5).astype(int)
    assert fit.converged
    assert (fit.posterior.argmax(axis=1) == truth).mean() > (majority == truth).mean() + 0.05
    recovered = (fit.confusion[:, 0, 0] + fit.confusion[:, 1, 1]) / 2
    assert recovered == pytest.approx(accuracies, abs=0.06)


def test_one_step_equals_the_slow_and_obvious_one():
    _, votes = planted(30, [0.9, 0.7, 0.6], 1)
    votes[0, 1] = -1
    fit = dawid_skene(votes, classes=2, max_iterations=1, smoothing=0.01)
    soft = np.array([[(row[row >= 0] == k).mean() for k in (0, 1)] for row in votes])
    confusion = np.full((3, 2, 2), 0.01)
    for row, weights in zip(votes, soft, strict=True):
        for rater, vote in enumerate(row):
            if vote >= 0:
                confusion[rater, :, vote] += weights
    confusion /= confusion.sum(axis=2, keepdims=True)
    likelihoods = np.tile(soft.mean(axis=0), (30, 1))
    for item, row in enumerate(votes):
        for rater, vote in enumerate(row):
            if vote >= 0:
                likelihoods[item] *= confusion[rater, :, vote]
    assert fit.confusion == pytest.approx(confusion)
    assert fit.posterior == pytest.approx(likelihoods / likelihoods.sum(axis=1, keepdims=True))
    assert fit.log_likelihood == pytest.approx(np.log(likelihoods.sum(axis=1)).sum())


def test_the_likelihood_never_falls_without_smoothing():
    _, votes = planted(200, [0.8, 0.7, 0.6, 0.6], 2)
    steps = [dawid_skene(votes, classes=2, smoothing=1e-9, max_iterations=i).log_likelihood for i in range(1, 12)]
    assert np.diff(steps).min() > -1e-6


def test_correlated_raters_fool_it():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, 2000)
    herd = np.where(rng.random(2000) < 0.75, truth, 1 - truth)
    followers = np.where(rng.random((2000, 4)) < 0.95, herd[:, None], 1 - herd[:, None])
    best = np.where(rng.random(2000) < 0.91, truth, 1 - truth)
    fit = dawid_skene(np.column_stack([followers, best]), classes=2)
    assert (fit.posterior.argmax(axis=1) == truth).mean() < 0.80


def test_bad_votes_are_refused():
    with pytest.raises(UserError, match="votes must lie in"):
        dawid_skene([[0, 2]], classes=2)
    with pytest.raises(UserError, match="no vote"):
        dawid_skene([[-1, -1]], classes=2)
