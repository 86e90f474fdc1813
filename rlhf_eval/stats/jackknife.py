"""The block jackknife, for statistics of a set that a bootstrap would break: a repeated answer is no longer varied.

Prompts are dealt into blocks at random; each block is left out once. The shift that the smaller set brings (diversity
falls or grows with the number of answers) is the same in all of them and cancels.

Source: Shao and Wu (1989), delete-d jackknife.

    block_jackknife(len(prompts), lambda kept: distinct([answers[n] for n in kept]))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.stats.intervals import Interval, t_quantile


def block_jackknife(
    n: int, statistic: Callable[[Sequence[int]], float], *, blocks: int = 20, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of ``statistic`` of all ``n`` units, given the numbers of those kept; t with ``blocks - 1`` degrees.

    ``SE^2 = (g-1)/g sum (v_j - mean v)^2`` over the g values without one block. Raises UserError below two units.
    """
    if n < 2:
        raise UserError("the jackknife leaves units out in turn; it needs at least two")
    parts = np.array_split(np.random.default_rng(seed).permutation(n), min(blocks, n))
    every = np.arange(n)
    values = np.array([statistic(np.setdiff1d(every, part).tolist()) for part in parts])
    g = len(parts)
    se = math.sqrt((g - 1) / g * float(((values - values.mean()) ** 2).sum()))
    value = statistic(every.tolist())
    half = t_quantile(level, g - 1) * se if se else math.inf
    return Interval(
        value=value, low=value - half, high=value + half, se=se, n=n, n_eff=n, level=level,
        method=f"block jackknife, {g} blocks, t",
        note="" if se else "no block changed it: the interval says nothing",
    )  # fmt: skip
