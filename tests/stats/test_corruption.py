"""Planted flips are as many as was said, of the kind that was said, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval.errors import UserError
from rlhf_eval.stats import corruption
from rlhf_eval.stats.arrays import Floats

COUNTS = st.integers(1, 300)
RATES = st.floats(0, 1)


def margins(count: int, seed: int = 0) -> Floats:
    return np.abs(np.random.default_rng(seed).normal(size=count))


@given(COUNTS, RATES, st.integers(0, 5))
def test_the_rate_is_exact(count: int, rate: float, seed: int) -> None:
    margin = margins(count)
    for flips in (
        corruption.random(count, rate=rate, seed=seed),
        corruption.top_margin(margin, rate=rate),
        corruption.stochastic(margin, temperature=1.0, rate=rate, seed=seed),
        corruption.myopic(-margin, rate=rate),
        corruption.systematic(-margin, rate=rate),
    ):
        assert flips.shape == (count,)
        assert flips.sum() == round(rate * count)


def test_the_seed_decides_and_nothing_else() -> None:
    margin = margins(500)
    for flips in (
        lambda seed: corruption.random(500, rate=0.2, seed=seed),
        lambda seed: corruption.stochastic(margin, temperature=1.0, seed=seed),
        lambda seed: corruption.stochastic(margin, temperature=1.0, rate=0.2, seed=seed),
        lambda seed: corruption.irrational(margin, power=0.5, batch=64, seed=seed),
    ):
        assert (flips(1) == flips(1)).all()
        assert (flips(1) != flips(2)).any()


def test_top_margin_turns_the_clearest_pairs() -> None:
    assert corruption.top_margin([1, 4, 2, 4, 3], rate=0.4).tolist() == [False, True, False, True, False]


@pytest.mark.parametrize(("power", "rate"), [(1 / 3, 0.0625), (1 / 2, 0.125), (2 / 3, 0.25)])
def test_irrational_labelers_turn_the_published_share_of_each_batch(power: float, rate: float) -> None:
    margin = margins(640)
    flips = corruption.irrational(margin, power=power, batch=64)
    assert flips.mean() == rate
    assert margin[flips].mean() > margin[~flips].mean()


def test_stochastic_labels_follow_the_margin() -> None:
    margin = np.repeat([0.0, 1.0, 3.0], 40_000)
    flips = corruption.stochastic(margin, temperature=2.0).reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(flips, 1 / (1 + np.exp([0.0, 0.5, 1.5])), atol=0.01)
    kept = corruption.stochastic(margin, temperature=2.0, rate=0.01).reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(kept / kept.sum(), flips / flips.sum(), atol=0.04)


def test_the_misled_are_turned_and_no_more_than_there_are() -> None:
    gap = [3.0, -1.0, 0.0, -2.0]
    assert corruption.myopic(gap).tolist() == [False, True, False, True]
    assert corruption.systematic(gap, rate=0.25).tolist() == [False, False, False, True]
    with pytest.raises(UserError, match="speaks against 2 only"):
        corruption.systematic(gap, rate=0.75)


def test_auroc_counts_pairs_of_pairs() -> None:
    rng = np.random.default_rng(3)
    score, flipped = rng.integers(0, 6, 80).astype(float), rng.random(80) < 0.3
    bad, good = score[flipped][:, None], score[~flipped][None, :]
    assert corruption.auroc(score, flipped) == pytest.approx(((bad > good) + (bad == good) / 2).mean(), abs=1e-12)
    with pytest.raises(UserError, match="some of either kind"):
        corruption.auroc([1.0, 2.0], [False, False])


@pytest.mark.parametrize(
    ("kind", "found"), [("random", (0.96, 1.0)), ("top_margin", (0.98, 1.0)), ("systematic", (0.4, 0.75))]
)
def test_odd_labels_are_found_by_a_linear_model_and_systematic_ones_are_not(
    kind: str, found: tuple[float, float]
) -> None:
    """The linear reward model of 1,000 pairs: ranking by its loss finds random flips, and not a shared mistake."""
    scores = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        direction = rng.normal(size=20)
        direction *= 4 / np.linalg.norm(direction)
        x = rng.normal(size=(1000, 20))
        x *= np.sign(x @ direction)[:, None]  # chosen minus rejected
        flips = {
            "random": lambda x=x, s=seed: corruption.random(len(x), rate=0.1, seed=s),
            "top_margin": lambda x=x, w=direction: corruption.top_margin(x @ w, rate=0.1),
            "systematic": lambda x=x: corruption.systematic(x[:, 0], rate=0.2),
        }[kind]()
        shown = np.where(flips[:, None], -x, x)
        scores.append(corruption.auroc(-(shown @ fitted(shown)), flips))
    low, high = found
    assert low <= np.mean(scores) <= high


def fitted(x: Floats, ridge: float = 1e-3) -> Floats:
    """The Bradley-Terry weights of differences that were all preferred."""
    w = np.zeros(x.shape[1])
    for _ in range(60):
        p = 1 / (1 + np.exp(-(x @ w)))
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(w)), x.T @ (1 - p) - ridge * w)
        w += step * min(1.0, 4 / (np.linalg.norm(step) + 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return w
