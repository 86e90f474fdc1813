"""Rank correlations of models: scipy's values, and how little a handful of models says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rlhf_eval.errors import UserError
from rlhf_eval.stats.correlation import rank_correlation


def test_the_values_are_scipys_and_the_intervals_hold_them() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 8, 15).astype(float)
    b = a + rng.normal(0, 2, 15)
    found = rank_correlation(a, b, draws=200)
    for told, value in ((found.spearman, stats.spearmanr(a, b)), (found.kendall, stats.kendalltau(a, b))):
        assert told.value == value.statistic
        assert -1 <= told.low < told.value < told.high <= 1


def test_three_models_in_one_order_prove_nothing() -> None:
    found = rank_correlation([1, 2, 3], [10, 20, 30], draws=200)
    assert (found.spearman.value, found.spearman.low, found.spearman.high) == (1, -1, 1)
    assert "no draw differed" in found.kendall.note


def test_a_level_in_percent_is_refused_in_words() -> None:
    with pytest.raises(UserError, match="level is 95; it must lie strictly between 0 and 1"):
        rank_correlation([1, 2, 3, 4], [1, 3, 2, 4], level=95, draws=20)
