"""Best-of-n: published numbers, brute force over subsets, planted curves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.best_of_n import (
    best_of_n_curve,
    best_of_n_kl,
    best_of_n_kl_discrete,
    best_of_n_kl_estimate,
    best_of_n_kl_exact,
    best_of_n_optimum,
    best_of_n_scores,
    best_of_n_weights,
    fit_overoptimization,
    n_at,
)


def test_published_curves():
    ours = best_of_n_scores([[1, 2, 3, 4]], [[10, 20, 0, 40]], [1, 2, 3, 4])[0]
    assert ours == pytest.approx([17.5, 23.3333, 30, 40], abs=5e-5)
    tied = best_of_n_scores([[1, 2, 2, 3, 3, 3]], [[5, 1, 9, 2, 4, 30]], [1, 2, 3, 6])[0]
    assert tied == pytest.approx([8.5, 10.6, 11.65, 12])


def test_equals_brute_force_over_all_subsets():
    rng = np.random.default_rng(0)
    proxy, gold = rng.integers(0, 5, 10).astype(float), rng.normal(size=10)

    def best(subset):
        top = max(proxy[i] for i in subset)
        return np.mean([gold[i] for i in subset if proxy[i] == top])

    slow = np.mean([best(s) for s in itertools.combinations(range(10), 4)])
    untied = rng.permutation(10).astype(float)
    exact = np.mean([gold[max(s, key=lambda i: untied[i])] for s in itertools.combinations(range(10), 4)])
    assert best_of_n_scores([untied], [gold], [4])[0, 0] == pytest.approx(exact, abs=1e-12)
    # Ties share ranks as if broken at random, which is the subset's mean over its tied best.
    assert best_of_n_scores([proxy], [gold], [4])[0, 0] == pytest.approx(slow, abs=1e-12)


def test_weights_sum_to_one_even_for_many_samples():
    for samples, n in ((5, 1), (64, 16), (5000, 4999), (5000, 5000)):
        assert best_of_n_weights(samples, n).sum() == pytest.approx(1, abs=1e-8)
    with pytest.raises(UserError, match="best of 6"):
        best_of_n_weights(5, 6)


def test_drawing_with_replacement_from_a_pool_is_biased_and_the_estimate_is_not():
    """The expected largest of 8 normal draws is 1.4230."""
    rng = np.random.default_rng(9)
    gold = rng.normal(size=(20_000, 32))
    again = np.take_along_axis(gold, rng.integers(0, 32, (20_000, 8)), axis=1).max(axis=1)
    assert best_of_n_scores(gold, gold, [8]).mean() == pytest.approx(1.4230, abs=0.012)
    assert again.mean() == pytest.approx(1.366, abs=0.025)


def test_unbiased_and_steadier_than_chunks():
    rng = np.random.default_rng(1)
    gold = rng.normal(size=(4000, 64))
    proxy = gold + 1.3 * rng.normal(size=gold.shape)
    ours = best_of_n_scores(proxy, gold, [16])[:, 0]
    best = proxy.reshape(4000, 4, 16).argmax(axis=2)
    chunks = np.take_along_axis(gold.reshape(4000, 4, 16), best[:, :, None], axis=2).mean(axis=(1, 2))
    assert ours.mean() == pytest.approx(
        1.766 / np.sqrt(1 + 1.3**2), abs=0.02
    )  # E[max of 16 normals], shrunk by the noise
    assert ours.var() < 0.7 * chunks.var()


@pytest.mark.parametrize(
    ("n", "kl"), [(2, 0.193), (4, 0.6363), (16, 1.8351), (64, 3.1745), (1000, 5.909), (60_000, 10.0)]
)
def test_divergence_bound(n, kl):
    assert float(best_of_n_kl(n)) == pytest.approx(kl, abs=3e-3)
    assert n_at(np.sqrt(best_of_n_kl(n))) == pytest.approx(n, rel=1e-6)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_divergence_of_draws(n):
    """The largest of n uniform draws has the density n u^(n-1); the divergence is the mean of its logarithm."""
    best = np.random.default_rng(n).random(400_000) ** (1 / n)
    assert np.mean(np.log(n) + (n - 1) * np.log(best)) == pytest.approx(float(best_of_n_kl(n)), abs=5e-3)


@pytest.mark.parametrize(
    ("outcomes", "n", "kl"), [(2, 16, 0.693), (10, 16, 1.733), (100, 16, 1.834), (100, 1024, 4.605), (2, 4, 0.459)]
)
def test_exact_divergence_of_finite_policies(outcomes, n, kl):
    assert best_of_n_kl_discrete(np.full(outcomes, 1 / outcomes), n) == pytest.approx(kl, abs=1e-3)
    assert best_of_n_kl_discrete(np.full(outcomes, 1 / outcomes), n) <= best_of_n_kl(n)


def test_exact_divergence_of_samples_counts_repeats_as_one_outcome():
    uniform = np.repeat(np.arange(10.0), 7)
    assert best_of_n_kl_exact([uniform, -uniform], [16])[:, 0] == pytest.approx([1.733, 1.733], abs=1e-3)
    assert best_of_n_kl_exact([np.zeros(50)], [1, 8]).tolist() == [[0.0, 0.0]]  # always the same answer goes nowhere
    distinct = best_of_n_kl_exact([np.random.default_rng(0).normal(size=4000)], [8])[0, 0]
    assert distinct == pytest.approx(float(best_of_n_kl(8)), abs=5e-3)


@pytest.mark.parametrize(("outcomes", "n", "estimate"), [(2, 4, 0.499), (2, 16, 0.693), (50, 64, 3.128)])
def test_divergence_from_the_chosen_probability(outcomes, n, estimate):
    assert best_of_n_kl_estimate(1 / outcomes, n) == pytest.approx(estimate, abs=1e-3)
    assert np.isfinite(best_of_n_kl_estimate(1e-300, 1000))


def test_fits_are_recovered():
    rng = np.random.default_rng(2)
    d = np.linspace(0.4, 2.4, 15)
    bon = [fit_overoptimization(d, d * (0.6 - 0.1 * d) + rng.normal(0, 0.02, 15)) for _ in range(200)]
    assert np.mean([f.a for f in bon]) == pytest.approx(0.600, abs=0.003)
    assert np.std([f.b for f in bon]) == pytest.approx(0.004, abs=0.004)
    d = np.linspace(0.5, 12, 20)
    rl = fit_overoptimization(d, d * (0.35 - 0.12 * np.log(d)), form="rl")
    assert (rl.a, rl.b) == pytest.approx((0.35, 0.12))
    assert rl.peak_d == pytest.approx(np.exp(0.35 / 0.12 - 1))
    assert rl.peak_reward == pytest.approx(0.12 * rl.peak_d)


def test_peak_is_the_argmax():
    fit = fit_overoptimization([1, 2, 3], [0.5, 0.8, 0.9])
    assert fit.peak_d == pytest.approx(fit.a / (2 * fit.b))
    assert fit.peak_reward == pytest.approx(fit.a**2 / (4 * fit.b))
    assert fit_overoptimization([1, 2, 3], [1, 2.1, 3.3]).peak_d == np.inf


def planted(kind, seed, prompts=150, samples=400):
    rng = np.random.default_rng(seed)
    gold = rng.normal(size=(prompts, samples))
    if kind == "perfect":
        return gold, gold
    if kind == "gaussian":
        return gold + rng.normal(size=gold.shape), gold
    if kind == "exploited":  # the proxy goes on paying for what gold punishes beyond a measure
        feature = rng.normal(size=gold.shape)
        return gold + feature, gold + feature - 3 * np.maximum(feature - 1, 0)
    return gold + rng.standard_t(3, gold.shape) * 1.2, gold


SIZES = [2, 4, 8, 16, 32, 64, 128, 256]


def test_heavy_tails_and_exploited_features_over_optimise_and_plain_noise_does_not():
    gaussian = best_of_n_optimum(*planted("gaussian", 3), SIZES, draws=300)
    assert gaussian.b.high < 0.1
    heavy = best_of_n_optimum(*planted("heavy", 4), SIZES, draws=300)
    assert heavy.b.low > 0.1
    assert heavy.n_low <= heavy.n <= heavy.n_high
    assert 4 < heavy.n < 200
    exploited = best_of_n_optimum(*planted("exploited", 8), SIZES, draws=300)
    assert exploited.b.low > 0.3
    assert 4 < exploited.n < 100
    perfect = best_of_n_optimum(*planted("perfect", 5), SIZES, draws=300)
    assert perfect.n > 256


def test_gaussian_noise_halves_the_gold():
    proxy, gold = planted("gaussian", 6)
    share = best_of_n_scores(proxy, gold, SIZES).mean(axis=0) / best_of_n_scores(proxy, proxy, SIZES).mean(axis=0)
    assert share == pytest.approx(np.full(8, 0.5), abs=0.06)


def test_curve_has_an_interval_per_n():
    curve = best_of_n_curve(*planted("gaussian", 7), [1, 4])
    assert [c.n for c in curve] == [150, 150]
    assert curve[0].high < curve[1].low


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="one shape"):
        best_of_n_scores([[1, 2]], [[1, 2, 3]], [1])
    with pytest.raises(UserError, match="two values above 1"):
        best_of_n_optimum([[1, 2]], [[1, 2]], [1, 2])
    with pytest.raises(UserError, match="sum to"):
        best_of_n_kl_discrete([0.5, 0.4], 2)
