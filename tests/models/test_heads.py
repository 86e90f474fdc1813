"""Caution in an ensemble: planted causes of over-optimisation, what a careful combination mends, and what it cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlhf_eval.models.local.heads import Combine, combined
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.best_of_n import best_of_n_scores, fit_overoptimization

SIZES = [2, 4, 8, 16, 32, 64, 128, 256]
DISTANCE = np.sqrt(np.log(SIZES) - (np.array(SIZES) - 1) / SIZES)


def curve(how: Combine | None, rewards: Floats, gold: Floats) -> Floats:
    """Gold of the best of each n, chosen by the first head alone or by the combination."""
    proxy = rewards[..., 0] if how is None else combined(torch.tensor(rewards), how, 0.25).numpy()
    means: Floats = best_of_n_scores(proxy, gold, SIZES).mean(axis=0)
    return means


def bend(found: Floats) -> float:
    return fit_overoptimization(DISTANCE, found).b


@pytest.mark.parametrize("seed", range(2))
def test_heads_that_err_wildly_and_apart_are_held_by_the_lowest_or_by_caution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold = rng.normal(size=(150, 400))
    heads = gold[..., None] + 1.2 * rng.standard_t(3, (*gold.shape, 4))
    one, mean, lowest, cautious = (curve(how, heads, gold) for how in (None, "mean", "min", "cautious"))
    assert one[-1] < one.max() - 0.1
    assert bend(one) > 0.2
    assert mean[-1] > one[-1] + 0.5
    assert bend(lowest) < 0.05
    assert bend(cautious) < 0.05
    assert min(lowest[-1], cautious[-1]) > mean[-1] + 0.4


def test_a_flaw_that_all_heads_share_is_mended_by_no_combination() -> None:
    rng = np.random.default_rng(3)
    quality, flaw = rng.normal(size=(2, 150, 400))
    gold = quality + flaw - 3 * np.maximum(flaw - 1, 0)
    heads = (quality + flaw)[..., None] + 0.1 * rng.normal(size=(150, 400, 4))
    for how in ("mean", "min", "cautious"):
        found = curve(how, heads, gold)  # type: ignore[arg-type]
        assert bend(found) > 0.3
        assert found[-1] < found.max() - 0.1
