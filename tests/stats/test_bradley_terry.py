"""Bradley-Terry against published golden numbers, other packages, and planted truths."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.bradley_terry import (
    all_reached,
    bootstrap_ratings,
    bradley_terry,
    games,
    newton,
    rating_intervals,
    strongly_connected,
)
from rlhf_eval.stats.ranking import rank_sets
from rlhf_eval.stats.ties import davidson


def play(strengths, n, seed, ties=0.2):
    rng = np.random.default_rng(seed)
    k = len(strengths)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    score = (rng.random(n) < 1 / (1 + np.exp(strengths[b] - strengths[a]))).astype(float)
    return a, b, np.where(rng.random(n) < ties, 0.5, score)


STRENGTHS = np.linspace(0.6, -0.6, 6)


@pytest.mark.groundtruth
@pytest.mark.parametrize("name", ["simple", "food", "llmfao"])
def test_golden_strengths(evalica, name):
    a, b, score, _ = evalica.read(name)
    golden = evalica.golden(name, "bradley_terry")
    ours = bradley_terry(a, b, score)
    shares = np.exp(ours.ratings) / np.exp(ours.ratings).sum()
    assert shares == pytest.approx(np.array([golden[m] for m in ours.models]), rel=1e-12)


@pytest.mark.groundtruth
def test_arena_rank_ratings_and_variances(evalica, groundtruth):
    a, b, score, _ = evalica.read("llmfao")
    ours = bradley_terry(a, b, score)
    with (groundtruth / "arena-rank" / "llmfao.csv").open() as file:
        theirs = {r["competitors"]: (float(r["ratings"]), float(r["variances"])) for r in csv.DictReader(file)}
    ratings, variances = np.array([theirs[m] for m in ours.models]).T
    points = 400 / math.log(10)
    assert points * ours.ratings == pytest.approx(ratings - ratings.mean(), abs=0.02)
    # Theirs adds 1e-5 per game to the Hessian, which takes up to .7% off a variance.
    assert points**2 * np.diag(ours.covariance) == pytest.approx(variances, rel=0.008)


@pytest.mark.groundtruth
def test_prompt_clusters_widen_the_published_ranking(evalica):
    a, b, score, prompts = evalica.read("llmfao")
    clustered, independent = bradley_terry(a, b, score, prompts), bradley_terry(a, b, score)
    ratio = np.sqrt(np.diag(clustered.covariance) / np.diag(independent.covariance))
    assert 1.4 < np.median(ratio) < 1.7
    assert 5 < ratio.max() < 6.5


def test_equals_a_plain_likelihood_maximised_row_by_row():
    from scipy import optimize

    a, b, score = play(STRENGTHS, 300, 0)

    def loss(theta):
        gap = theta[a] - theta[b]
        return (np.logaddexp(0, gap) - score * gap).sum()

    slow = optimize.minimize(loss, np.zeros(6), tol=1e-12).x
    assert bradley_terry(a, b, score).ratings == pytest.approx(slow - slow.mean(), abs=1e-5)


def test_equals_statsmodels_with_its_covariances():
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(1)
    a, b, score = play(STRENGTHS[:4], 400, 1, ties=0)
    prompts = rng.integers(0, 50, 400)
    design = np.zeros((400, 4))
    design[range(400), a], design[range(400), b] = 1, -1
    family, contrast = sm.families.Binomial(), np.hstack([np.eye(3), -np.ones((3, 1))]).T
    reduced = design @ contrast  # strengths that sum to 0
    ours = bradley_terry(a, b, score)
    hc0 = sm.GLM(score, reduced, family=family).fit(cov_type="HC0", tol=1e-12)
    assert ours.ratings[:3] == pytest.approx(hc0.params, abs=1e-8)
    assert ours.covariance[:3, :3] * 399 / 400 == pytest.approx(hc0.cov_params(), rel=1e-6)
    clustered = bradley_terry(a, b, score, prompts)
    theirs = sm.GLM(score, reduced, family=family).fit(cov_type="cluster", cov_kwds={"groups": prompts}, tol=1e-12)
    ratio = np.sqrt(np.diag(clustered.covariance)[:3]) / theirs.bse
    assert ratio == pytest.approx(math.sqrt((400 - 3) / 399), abs=1e-6)


def test_equals_choix():
    choix = pytest.importorskip("choix")
    a, b, score = play(STRENGTHS, 500, 2)
    doubled = [pair for x, y, s in zip(a, b, score, strict=True) for pair in _wins(x, y, s)]
    theirs = choix.opt_pairwise(6, doubled, tol=1e-12)
    assert bradley_terry(a, b, score).ratings == pytest.approx(theirs - theirs.mean(), abs=1e-5)


def _wins(x, y, s):
    return {1.0: [(x, y), (x, y)], 0.0: [(y, x), (y, x)], 0.5: [(x, y), (y, x)]}[s]


def test_an_undefeated_model_is_named_not_tied():
    a = ["m0"] * 10 + ["m1"] * 10
    b = ["m1"] * 10 + ["m2"] * 10
    score = [1] * 10 + [1] * 6 + [0] * 4
    ours = bradley_terry(a, b, score)
    assert "not connected" in ours.note
    assert {frozenset(g) for g in ours.groups} == {frozenset({"m0"}), frozenset({"m1", "m2"})}
    assert ours.models[int(ours.ratings.argmax())] == "m0"
    assert ours.prior == 1
    assert rating_intervals(ours)[0].note == ours.note
    with pytest.raises(UserError, match="2 groups"):
        bradley_terry(a, b, score, prior=0)
    with pytest.raises(UserError, match="not strongly connected"):
        bootstrap_ratings(a, b, score)


def test_two_islands_are_told_apart():
    ours = bradley_terry(["a", "b", "c", "d"], ["b", "a", "d", "c"], [1, 1, 1, 1])
    assert len(ours.groups) == 2
    assert ours.ratings == pytest.approx(0, abs=1e-9)


def test_fast_connectivity_equals_scipys():
    rng = np.random.default_rng(3)
    tables = (rng.random((200, 7, 7)) < 0.35).astype(float)
    tables[:, range(7), range(7)] = 0
    fast = all_reached(tables) & all_reached(tables.transpose(0, 2, 1))
    slow = [len(strongly_connected(table)) == 1 for table in tables]
    assert 20 < sum(slow) < 180
    assert fast.tolist() == slow


def test_batched_newton_equals_one_by_one():
    tables = np.stack([games(*play(STRENGTHS, 400, seed)).wins() for seed in range(5)])
    assert newton(tables) == pytest.approx(np.stack([newton(t[None])[0] for t in tables]), abs=1e-9)


def test_bootstrap_refits_equal_refits_of_repeated_rows():
    from rlhf_eval.stats.bootstrap import cluster_draws

    a, b, score = play(STRENGTHS, 400, 4)
    prompts = np.arange(400) % 40
    fast = bootstrap_ratings(a, b, score, prompts, draws=4, seed=9)
    weights = next(cluster_draws(40, 4, 9)).astype(int)
    for replicate, counts in zip(fast, weights, strict=True):
        rows = np.concatenate([np.flatnonzero(prompts == g) for g in range(40) for _ in range(counts[g])])
        assert replicate == pytest.approx(bradley_terry(a[rows], b[rows], score[rows]).ratings, abs=1e-5)


def test_bootstrap_and_sandwich_agree():
    a, b, score = play(STRENGTHS, 3000, 5)
    prompts = np.arange(3000) % 300
    spread = bootstrap_ratings(a, b, score, prompts, draws=400).std(axis=0)
    assert spread == pytest.approx(np.sqrt(np.diag(bradley_terry(a, b, score, prompts).covariance)), rel=0.12)


def test_only_the_clustered_interval_covers_when_prompts_repeat():
    rng = np.random.default_rng(6)
    i, j = np.triu_indices(6, 1)
    prompts = np.repeat(np.arange(100), 30)  # 15 pairs in both orders
    a, b = np.tile(i, 200), np.tile(j, 200)
    hits = {"clustered": 0, "independent": 0}
    population = _population(STRENGTHS, i, j)
    for _ in range(120):
        taste = rng.normal(0, 1, (100, 6))
        gap = STRENGTHS[a] - STRENGTHS[b] + taste[prompts, a] - taste[prompts, b]
        score = (rng.random(len(a)) < 1 / (1 + np.exp(-gap))).astype(float)
        for name, clusters in (("clustered", prompts), ("independent", None)):
            intervals = rating_intervals(bradley_terry(a, b, score, clusters))
            hits[name] += sum(x.low <= t <= x.high for x, t in zip(intervals, population, strict=True))
    assert hits["clustered"] / 720 > 0.92
    assert hits["independent"] / 720 < 0.86


def _population(strengths, i, j):
    """The strengths that an endless sample would give: those that match the average win rates."""
    rng = np.random.default_rng(0)
    taste = rng.normal(0, 1, (200_000, 6))
    wins = np.zeros((6, 6))
    for x, y in zip(i, j, strict=True):
        p = (1 / (1 + np.exp(-(strengths[x] - strengths[y] + taste[:, x] - taste[:, y])))).mean()
        wins[x, y], wins[y, x] = p, 1 - p
    ratings = newton(wins[None])[0]
    return ratings - ratings.mean()


def test_bad_games_are_refused():
    with pytest.raises(UserError, match="with itself"):
        games(["x", "y"], ["x", "z"], [1, 0])
    with pytest.raises(UserError, match="lengths differ"):
        games(["x"], ["y", "z"], [1])
    with pytest.raises(UserError, match="must lie in"):
        games(["x"], ["y"], [2])


def test_verdicts_that_hardly_differ_make_no_sure_ranking():
    """A sandwich of residuals that are all alike had an error of 0: five verdicts of .6 were a ranking without doubt."""
    alike = bradley_terry(["x"] * 5, ["y"] * 5, [0.6] * 5)
    assert rating_intervals(alike)[0].low < 0 < rating_intervals(alike)[0].high
    assert rank_sets(alike).worst == (2, 2)
    one_prompt = bradley_terry([*"xyzx"], [*"yzxy"], [1, 1, 1, 1], clusters=["p"] * 4)
    assert rank_sets(one_prompt).worst == (3, 3, 3)
    tied = davidson([*"xyzx"], [*"yzxy"], [1, 1, 1, 0.5], clusters=["p"] * 4)
    assert rank_sets(tied).best == (1, 1, 1)


def test_rare_losses_among_sure_verdicts_are_covered():
    rng, inside = np.random.default_rng(0), 0
    truth = math.log(0.785 / 0.215) / 2  # one verdict of fifty is .05, all others are .8
    for _ in range(200):
        share = np.where(rng.random(30) < 0.02, 0.05, 0.8) + rng.normal(0, 0.01, 30)
        interval = rating_intervals(bradley_terry(["x"] * 30, ["y"] * 30, share))[0]
        inside += interval.low <= truth <= interval.high
    assert inside > 180


def test_soft_verdicts_on_both_sides_of_a_half_are_believed():
    share = 0.5 + np.random.default_rng(1).normal(0, 0.1, 100)
    told = rating_intervals(bradley_terry(["x"] * 100, ["y"] * 100, share))[0]
    p = share.mean()
    assert told.se == pytest.approx(share.std(ddof=1) / 10 / (p * (1 - p)) / 2, rel=0.01)
