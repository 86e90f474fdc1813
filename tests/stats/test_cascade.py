"""The cascade: published cost table, its verdict, and the bias of escalating what is unsure."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.cascade import (
    acceptance_threshold,
    cascade_cost_ratio,
    cascade_fraction,
    error_bound,
    plan_cascade,
)
from rlhf_eval.stats.human import ppi_mean


@pytest.mark.parametrize(
    ("rho", "ratios"),
    [
        (0.6, (1.00, 0.873, 0.740)),
        (0.7, (1.00, 0.758, 0.615)),
        (0.8, (0.917, 0.607, 0.462)),
        (0.9, (0.703, 0.406, 0.277)),
        (0.95, (0.543, 0.275, 0.166)),
    ],
)
def test_published_cost_table(rho, ratios):
    ours = [cascade_cost_ratio(rho, price) for price in (1 / 5, 1 / 20, 1 / 100)]
    assert ours == pytest.approx(ratios, abs=6e-4)


def test_optimal_share():
    assert cascade_fraction(0.8, 1 / 20) == pytest.approx(0.1677, abs=5e-5)
    assert cascade_fraction(0.2, 0.5) == 1
    assert cascade_cost_ratio(0.2, 0.5) == 1
    shares = np.linspace(0.01, 1, 2000)
    cost = (shares + 1 / 20) * ((1 - 0.64) / shares + 0.64)  # cost per prompt times variance, of a share labelled twice
    assert shares[cost.argmin()] == pytest.approx(0.1677, abs=1e-3)
    assert cost.min() == pytest.approx(0.607, abs=1e-3)


def pilot(rho, n, seed):
    rng = np.random.default_rng(seed)
    cheap = rng.normal(size=n)
    return rho * cheap + np.sqrt(1 - rho**2) * rng.normal(size=n), cheap


def test_verdicts():
    good = plan_cascade(*pilot(0.85, 200, 0), strong_cost=1, cheap_cost=0.05)
    assert good.pays
    assert good.verdict.startswith("cascade")
    poor = plan_cascade(*pilot(0.4, 200, 1), strong_cost=1, cheap_cost=0.05)
    assert not poor.pays
    assert "does not pay" in poor.verdict
    unsure = plan_cascade(*pilot(0.5, 15, 0), strong_cost=1, cheap_cost=0.05)
    assert unsure.cost_ratio < 0.9
    assert unsure.rho_low < 0.3
    assert not unsure.pays
    with pytest.raises(UserError, match="at least 10"):
        plan_cascade([1, 0], [1, 0], strong_cost=1, cheap_cost=0.05)


def test_escalating_the_unsure_is_biased_and_ppi_is_not():
    rng = np.random.default_rng(3)
    held = {"escalate": 0, "ppi": 0}
    target = _strong(_POPULATION).mean()
    for _ in range(150):
        p = rng.beta(2, 1.5, 1000)
        strong = (rng.random(1000) < _strong(p)).astype(float)
        cheap = (p > 0.5).astype(float)
        unsure = np.abs(p - 0.5) <= np.quantile(np.abs(p - 0.5), 0.2)
        mixed = np.where(unsure, strong, cheap)
        half = 1.96 * mixed.std() / np.sqrt(1000)
        held["escalate"] += abs(mixed.mean() - target) <= half
        chosen = rng.permutation(1000) < 200
        ours = ppi_mean(strong[chosen], cheap[chosen], cheap[~chosen])
        held["ppi"] += ours.low <= target <= ours.high
    assert held["escalate"] / 150 < 0.3
    assert held["ppi"] / 150 >= 0.9


def _strong(p):
    return 0.15 + 0.7 * p


_POPULATION = np.random.default_rng(4).beta(2, 1.5, 200_000)


def test_clopper_pearson_oracles():
    assert error_bound(5, 100, delta=0.1) == pytest.approx(0.09077, abs=5e-6)
    assert error_bound(0, 29, delta=0.05) == pytest.approx(0.09814, abs=5e-6)
    assert error_bound(3, 3) == 1


def test_acceptance_holds_its_promise_and_gives_up_on_a_bad_judge():
    rng = np.random.default_rng(5)
    violations = accepted = 0
    for _ in range(200):
        confidence = rng.uniform(0.5, 1, 500)
        threshold = acceptance_threshold(confidence, rng.random(500) < confidence, alpha=0.15)
        if threshold is not None:
            accepted += 1
            violations += 1 - (1 + threshold) / 2 > 0.15  # the mean error of items above the threshold
    assert accepted > 150
    assert violations / 200 <= 0.1
    assert acceptance_threshold(rng.random(300), rng.random(300) < 0.6, alpha=0.1) is None
    assert acceptance_threshold([0.9] * 10, [1] * 10, alpha=0.1) is None


def test_judges_of_opposite_opinion_do_not_cascade():
    share = np.arange(10) / 10
    assert plan_cascade(share, 1 - share, strong_cost=1, cheap_cost=0.1).verdict.startswith("do not cascade")
