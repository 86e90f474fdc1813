"""Davidson and Rao-Kupper against golden numbers and a plain likelihood."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.bradley_terry import bradley_terry, games
from rlhf_eval.stats.elo import elo_scale, online_elo
from rlhf_eval.stats.ties import davidson, rao_kupper


def play_davidson(strengths, nu, n, seed):
    rng = np.random.default_rng(seed)
    k = len(strengths)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    weight = np.exp(np.stack([strengths[a], np.log(nu) + (strengths[a] + strengths[b]) / 2, strengths[b]]))
    u = rng.random(n) * weight.sum(axis=0)
    return a, b, np.where(u < weight[0], 1.0, np.where(u < weight[0] + weight[1], 0.5, 0.0))


STRENGTHS = np.array([0.9, 0.3, -0.2, -1.0])


@pytest.mark.groundtruth
@pytest.mark.parametrize("name", ["simple", "food", "llmfao"])
def test_golden_newman_is_davidson(evalica, name):
    a, b, score, _ = evalica.read(name)
    golden = evalica.golden(name, "newman")
    ours = davidson(a, b, score)
    logs = np.log([golden[m] for m in ours.models])
    assert ours.ratings == pytest.approx(logs - logs.mean(), abs=1e-12)


def test_davidsons_nu_is_twice_newmans_v():
    evalica = pytest.importorskip("evalica")
    a, b, score = play_davidson(STRENGTHS, 0.4, 1000, 0)
    winner = {1.0: evalica.Winner.X, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.Y}
    theirs = evalica.newman(a.tolist(), b.tolist(), [winner[s] for s in score], tolerance=1e-12, limit=10_000)
    assert davidson(a, b, score).tie == pytest.approx(2 * theirs.v, rel=1e-6)


@pytest.mark.parametrize("model", [davidson, rao_kupper])
def test_equals_a_plain_likelihood(model):
    from scipy import optimize

    a, b, score = play_davidson(STRENGTHS, 0.5, 400, 1)

    def loss(x):
        p, q = np.exp(x[a]), np.exp(x[b])
        if model is davidson:
            total = p + q + np.exp(x[4]) * np.sqrt(p * q)
            win, lose, tie = p / total, q / total, np.exp(x[4]) * np.sqrt(p * q) / total
        else:
            theta = 1 + np.exp(x[4])
            win, lose = p / (p + theta * q), q / (q + theta * p)
            tie = 1 - win - lose
        return -np.log(np.where(score == 1, win, np.where(score == 0, lose, tie))).sum()

    slow = optimize.minimize(loss, np.zeros(5), tol=1e-12).x
    ours = model(a, b, score)
    assert ours.ratings == pytest.approx(slow[:4] - slow[:4].mean(), abs=1e-5)
    assert ours.tie == pytest.approx(np.exp(slow[4]) + (model is rao_kupper), abs=1e-5)


def test_tie_probability_of_equals_is_the_published_formula():
    a, b, score = play_davidson(np.zeros(3), 0.4, 60_000, 2)
    assert davidson(a, b, score).tie_probability == pytest.approx(0.4 / 2.4, abs=0.01)
    assert rao_kupper(a, b, score).tie_probability == pytest.approx(0.4 / 2.4, abs=0.01)


def test_half_ties_shrink_the_gaps_and_davidson_does_not():
    a, b, score = play_davidson(STRENGTHS, 0.45, 40_000, 3)
    full, half = davidson(a, b, score), bradley_terry(a, b, score)
    assert full.ratings == pytest.approx(STRENGTHS, abs=0.04)
    assert np.ptp(half.ratings) / np.ptp(full.ratings) == pytest.approx(0.84, abs=0.03)


@pytest.mark.parametrize("model", [davidson, rao_kupper])
def test_the_sandwich_is_the_spread_of_repeats(model):
    fits = [model(*play_davidson(STRENGTHS, 0.5, 400, seed)) for seed in range(60)]
    spread = np.std([f.ratings for f in fits], axis=0)
    claimed = np.sqrt(np.mean([np.diag(f.covariance) for f in fits], axis=0))
    assert claimed == pytest.approx(spread, rel=0.25)


def test_what_no_tie_model_can_fit_is_refused():
    with pytest.raises(UserError, match="soft verdicts"):
        davidson(["x", "y"], ["y", "x"], [0.7, 0.5])
    with pytest.raises(UserError, match="both ties and wins"):
        rao_kupper(["x", "y"], ["y", "x"], [1, 1])
    with pytest.raises(UserError, match="not strongly connected"):
        davidson(["x", "x", "y"], ["y", "z", "z"], [1, 1, 0.5])


@pytest.mark.groundtruth
@pytest.mark.parametrize("name", ["simple", "food", "llmfao"])
def test_golden_elo(evalica, name):
    a, b, score, _ = evalica.read(name)
    golden = evalica.golden(name, "elo")
    assert online_elo(a, b, score) == pytest.approx(golden, abs=1e-9)


def test_elo_scale_and_update():
    assert elo_scale([0, np.log(10)]) == pytest.approx([1000, 1400])
    assert online_elo(["x"], ["y"], [1], k=32) == {"x": 1016.0, "y": 984.0}
    assert games(["x"], ["y"], [1]).models == ("x", "y")
