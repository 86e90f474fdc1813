"""Checks that every statistic makes of its inputs, written once.

A failed judgment is a recorded failure and is counted by the caller; a NaN that reaches a statistic is a mistake and is
refused here, so that no mean is ever taken over a silent hole.

    from rlhf_eval.stats.arrays import floats, cluster_index
    group, count = cluster_index(["p1", "p1", "p2"], 3)   # array([0, 0, 1]), 2
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlhf_eval.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def floats(values: ArrayLike, name: str, *, low: float = -np.inf, high: float = np.inf) -> Floats:
    """``values`` as a one-dimensional float array.

    Raises UserError when it is empty, has another shape, is not finite, or leaves ``[low, high]``.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise UserError(f"{name} must be a non-empty list of numbers, not an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise UserError(
            f"{name} holds {int((~np.isfinite(array)).sum())} values that are not finite; count them as failed"
        )
    if array.min() < low or array.max() > high:
        raise UserError(f"{name} must lie in [{low:g}, {high:g}]; found {array.min():g} to {array.max():g}")
    return array


def same_length(**arrays: NDArray[np.generic]) -> int:
    """The common length of the named arrays; raises UserError naming the lengths when they differ."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise UserError("lengths differ: " + ", ".join(f"{name} has {size}" for name, size in lengths.items()))
    return next(iter(lengths.values()))


def cluster_index(clusters: ArrayLike | None, n: int) -> tuple[Ints, int]:
    """The cluster number of each of ``n`` rows, and how many clusters there are; None makes every row its own cluster.

    Raises UserError when ``clusters`` does not have ``n`` entries.
    """
    if clusters is None:
        return np.arange(n), n
    labels = np.asarray(clusters)
    if labels.shape != (n,):
        raise UserError(f"clusters must name the prompt of each of the {n} rows; it has shape {labels.shape}")
    names, index = np.unique(labels, return_inverse=True)
    return index.astype(np.int64), len(names)
