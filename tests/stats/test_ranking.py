"""Rank sets, fragility, cycles and adaptive pairs with planted truths."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.bradley_terry import bradley_terry
from rlhf_eval.stats.ranking import cyclic_triads, difference_errors, fragility, pair_probabilities, rank_sets

STRENGTHS = np.linspace(0.6, -0.6, 6)


def play(strengths, n, seed):
    rng = np.random.default_rng(seed)
    k = len(strengths)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    return a, b, (rng.random(n) < 1 / (1 + np.exp(strengths[b] - strengths[a]))).astype(float)


@pytest.mark.parametrize(("method", "critical"), [("max_t", 2.83), ("bonferroni", 2.94)])
def test_simultaneous_critical_values_of_six_models(method, critical):
    ours = rank_sets(bradley_terry(*play(STRENGTHS, 2000, 0)), method=method)
    assert ours.critical == pytest.approx(critical, abs=0.04)


def test_rank_sets_hold_the_true_ranks_together():
    truth = np.arange(1, 7)
    held = 0
    for seed in range(100):
        ours = rank_sets(bradley_terry(*play(STRENGTHS, 800, seed)), draws=1000)
        held += bool(((np.array(ours.best) <= truth) & (truth <= np.array(ours.worst))).all())
    assert held >= 93


def test_rank_sets_close_with_data():
    ours = rank_sets(bradley_terry(*play(STRENGTHS, 60_000, 1)))
    assert ours.best == ours.worst == (1, 2, 3, 4, 5, 6)


def test_difference_errors_equal_the_quadratic_form():
    ours = bradley_terry(*play(STRENGTHS, 500, 2))
    e = np.zeros(6)
    e[1], e[4] = 1, -1
    assert difference_errors(ours)[1, 4] == pytest.approx(np.sqrt(e @ ours.covariance @ e))


def test_a_tiny_gap_flips_with_few_games_and_no_fewer():
    strengths = np.array([0.31, 0.3, -0.2, -0.4])
    a, b, score = play(strengths, 1200, 3)
    ours = fragility(a, b, score)
    assert ours.games_to_flip is not None
    assert ours.share < 0.05

    def leader(without):
        kept = np.setdiff1d(np.arange(1200), without)
        fit = bradley_terry(a[kept], b[kept], score[kept])
        return fit.models[int(fit.ratings.argmax())]

    assert leader([]) == ours.leader
    assert leader(ours.games) != ours.leader
    assert leader(ours.games[:-1]) == ours.leader


def test_a_wide_gap_takes_many_games():
    assert fragility(*play(np.array([1.5, 0, -0.2]), 900, 4)).share > 0.1


def test_cyclic_triads_equal_kendalls_formula_and_a_count_by_hand():
    rng = np.random.default_rng(5)
    coin = np.triu(rng.random((7, 7)) < 0.5, 1).astype(float)
    beats = coin + np.tril(1 - coin.T, -1)
    wins = beats.sum(axis=1).astype(int)
    assert cyclic_triads(beats) == comb(7, 3) - sum(comb(w, 2) for w in wins)
    by_hand = sum(
        beats[i, j] * beats[j, k] * beats[k, i] + beats[j, i] * beats[k, j] * beats[i, k]
        for i, j, k in itertools.combinations(range(7), 3)
    )
    assert cyclic_triads(beats) == by_hand


def test_expected_cycles_of_coin_flips_and_of_spread_models():
    assert cyclic_triads(np.full((6, 6), 0.5)) / comb(6, 3) == 0.25
    theta = np.linspace(1.5, -1.5, 6)
    chance = 1 / (1 + np.exp(np.subtract.outer(theta, theta).T))
    assert cyclic_triads(chance) / comb(6, 3) == pytest.approx(0.12, abs=0.005)


def test_adaptive_pairs_find_the_best_model_sooner():
    strengths = np.array([0.8, 0.6, 0.3, 0.0, -0.2, -0.4, -0.5, -0.6])
    right = {rule: sum(_campaign(strengths, rule, seed) for seed in range(25)) for rule in ("uniform", "top")}
    assert right["top"] >= right["uniform"] + 2


def _campaign(strengths, rule, seed):
    rng = np.random.default_rng(seed)
    pairs = np.array(list(itertools.combinations(range(8), 2)))
    chosen = pairs[rng.integers(len(pairs), size=200)]
    score = rng.random(200) < 1 / (1 + np.exp(strengths[chosen[:, 1]] - strengths[chosen[:, 0]]))
    for _ in range(8):
        fit = bradley_terry(chosen[:, 0], chosen[:, 1], score)
        options, chance = pair_probabilities(fit, rule=rule)
        new = options[rng.choice(len(options), size=100, p=chance)]
        won = rng.random(100) < 1 / (1 + np.exp(strengths[new[:, 1]] - strengths[new[:, 0]]))
        chosen, score = np.concatenate([chosen, new]), np.concatenate([score, won])
    return bradley_terry(chosen[:, 0], chosen[:, 1], score).ratings.argmax() == 0


def test_pair_probabilities_keep_a_floor():
    fit = bradley_terry(*play(STRENGTHS * 3, 3000, 6))
    pairs, chance = pair_probabilities(fit, floor=0.1)
    assert len(pairs) == 15
    assert chance.sum() == pytest.approx(1)
    assert chance.min() >= 0.1 / 15 - 1e-12
    gaps = np.abs(fit.ratings[pairs[:, 0]] - fit.ratings[pairs[:, 1]])
    assert chance[gaps.argmin()] > chance[gaps.argmax()]
    with pytest.raises(UserError, match="floor"):
        pair_probabilities(fit, floor=0)
    with pytest.raises(UserError, match="rule"):
        pair_probabilities(fit, rule="resolv")


def test_unknown_method_is_named():
    with pytest.raises(UserError, match="max_t"):
        rank_sets(bradley_terry(*play(STRENGTHS, 300, 7)), method="maxt")


def test_a_tie_that_alone_links_two_models_has_no_influence_to_divide_by():
    with np.errstate(all="raise"):
        assert fragility(["x", "y"], ["y", "z"], [0.5, 0.5]).games_to_flip is None
