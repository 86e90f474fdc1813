"""pass@k and pass^k from n samples per problem, without the bias of ``1 - (1 - c/n)^k``.

The unit is the problem: intervals are over problems, not over samples.

Sources: Chen et al. (arXiv 2107.03374), equation 1, for pass@k; Yao et al. (arXiv 2406.12045) for pass^k.

    from rlhf_eval.stats.passk import pass_at_k
    pass_at_k(samples=[10, 10], correct=[3, 0], k=5)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.intervals import Interval, wilson


def pass_at_k(
    samples: ArrayLike, correct: ArrayLike, *, k: int, clusters: ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """Chance that at least one of ``k`` samples is correct, ``1 - C(n-c, k)/C(n, k)``, averaged over problems.

    ``samples`` n and ``correct`` c have shape (problems,). Raises UserError where a problem has fewer than k samples.
    """
    return wilson(1 - _none_of(samples, correct, k), clusters, level=level)


def pass_hat_k(
    samples: ArrayLike, correct: ArrayLike, *, k: int, clusters: ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """Chance that all of ``k`` samples are correct, ``C(c, k)/C(n, k)``, averaged over problems; errors as above."""
    n, c = np.asarray(samples), np.asarray(correct)
    return wilson(_none_of(n, n - c, k), clusters, level=level)


def _none_of(samples: ArrayLike, marked: ArrayLike, k: int) -> Floats:
    """Chance that k draws without replacement hit none of the marked samples: ``C(n-m, k)/C(n, k)``."""
    n, m = np.atleast_1d(np.asarray(samples)), np.atleast_1d(np.asarray(marked))
    if n.shape != m.shape or (m < 0).any() or (m > n).any():
        raise UserError("samples and correct must be aligned, with 0 <= correct <= samples for every problem")
    if k < 1 or (n < k).any():
        raise UserError(f"k is {k}, but a problem has only {int(n.min())} samples; k must lie between 1 and that")
    steps = np.arange(k)
    factors = np.maximum(n[:, None] - m[:, None] - steps, 0) / (n[:, None] - steps)
    return np.asarray(factors.prod(axis=1), dtype=np.float64)
