"""pass@k against hand counts, brute force and its biased cousin."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.passk import pass_at_k, pass_hat_k


def test_published_values():
    assert pass_at_k([10], [3], k=1).value == pytest.approx(0.3)
    assert pass_at_k([10], [3], k=5).value == pytest.approx(0.916667, abs=5e-7)
    assert pass_hat_k([10], [7], k=3).value == pytest.approx(0.291667, abs=5e-7)
    assert pass_at_k([10], [3], k=5).value > 1 - 0.7**5  # the biased formula's .83193


def test_equals_brute_force():
    outcome = [1, 1, 0, 0, 0, 1]
    subsets = list(itertools.combinations(outcome, 3))
    assert pass_at_k([6], [3], k=3).value == pytest.approx(np.mean([any(s) for s in subsets]))
    assert pass_hat_k([6], [3], k=3).value == pytest.approx(np.mean([all(s) for s in subsets]))


def test_interval_is_over_problems():
    ours = pass_at_k([200] * 50, np.r_[np.full(25, 200), np.zeros(25)], k=10)
    assert ours.n == 50
    assert ours.high - ours.low > 0.2


def test_certain_and_impossible():
    assert pass_at_k([5, 5], [5, 0], k=5).value == 0.5
    with pytest.raises(UserError, match="only 4 samples"):
        pass_at_k([10, 4], [1, 1], k=5)
    with pytest.raises(UserError, match="correct"):
        pass_at_k([3], [4], k=1)
