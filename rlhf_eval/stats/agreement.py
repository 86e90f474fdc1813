"""Agreement between two raters, or many: raw, Cohen's kappa, Gwet's AC1, Krippendorff's alpha.

Print them together. With 90% raw agreement and skewed labels kappa can be negative while AC1 is .89; neither alone
tells the story, the class balance does.

Sources: Cohen (1960, 1968); Gwet (2008); Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability".

    from rlhf_eval.stats.agreement import agreement
    agreement(judge_labels, human_labels, clusters=prompt_ids)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.stats.arrays import Floats, Ints, same_length
from rlhf_eval.stats.bootstrap import bootstrap_totals, sum_by_cluster
from rlhf_eval.stats.intervals import Interval, wilson

Weights = Literal["none", "linear", "quadratic"]
Level = Literal["nominal", "ordinal", "interval", "ratio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How two raters agree on the same items."""

    raw: Interval
    kappa: Interval
    ac1: Interval
    labels: tuple[str, ...]
    balance: tuple[tuple[float, ...], tuple[float, ...]]
    """Share of each label in the first rater's answers, and in the second's."""


def agreement(
    a: ArrayLike,
    b: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Raw agreement, kappa and AC1 of two raters with prompt-clustered intervals, and the balance of their labels.

    ``a`` and ``b`` are labels of any kind, shape (items,). Raises UserError when the lengths differ.
    """
    labels, codes_a, codes_b = _codes(a, b)
    rows = np.zeros((len(codes_a), len(labels), len(labels)))
    rows[np.arange(len(codes_a)), codes_a, codes_b] = 1
    tables = sum_by_cluster(rows, clusters)
    share = rows.mean(axis=0)
    return Agreement(
        raw=wilson(codes_a == codes_b, clusters, level=level),
        kappa=bootstrap_totals(tables, _kappa, level=level, draws=draws, seed=seed, bounds=(-1, 1)),
        ac1=bootstrap_totals(tables, _ac1, level=level, draws=draws, seed=seed, bounds=(-1, 1)),
        labels=tuple(str(name) for name in labels),
        balance=(tuple(share.sum(axis=1).tolist()), tuple(share.sum(axis=0).tolist())),
    )


def cohen_kappa(a: ArrayLike, b: ArrayLike, *, weights: Weights = "none") -> float:
    """Cohen's kappa ``(po - pe)/(1 - pe)``; weighted by the distance of the sorted labels when ``weights`` says so.

    0 when both raters give one and the same label throughout: nothing was distinguished.
    """
    return float(_kappa(_table(a, b)[None], weights)[0])


def gwet_ac1(a: ArrayLike, b: ArrayLike) -> float:
    """Gwet's AC1: chance agreement is ``sum pi_k (1 - pi_k)/(q - 1)`` of the mean marginals, stable under skew."""
    return float(_ac1(_table(a, b)[None])[0])


def krippendorff_alpha(ratings: ArrayLike, *, level: Level = "nominal") -> float:
    """Krippendorff's alpha ``1 - Do/De`` of any number of raters with missing answers.

    ``ratings`` has shape (raters, items), NaN where a rater gave none. ``level`` is the level of measurement. 0 when
    all values are the same. Raises UserError when no item has two ratings, or the level is unknown.
    """
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2:
        raise UserError(f"ratings must have shape (raters, items), not {table.shape}")
    values = np.unique(table[~np.isnan(table)])
    counts = (table[:, :, None] == values).sum(axis=0).astype(np.float64)
    counts = counts[counts.sum(axis=1) > 1]
    if not len(counts):
        raise UserError("no item has two ratings: there is nothing to agree on")
    per_item = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(len(values))
    observed = (pairs / (per_item - 1)[:, None, None]).sum(axis=0)
    total = observed.sum(axis=1)
    expected = (np.outer(total, total) - np.diag(total)) / (total.sum() - 1)
    distance = _distance(values, total, level)
    disagreement = float((expected * distance).sum())
    return 1 - float((observed * distance).sum()) / disagreement if disagreement else 0.0


def _distance(values: Floats, total: Floats, level: Level) -> Floats:
    """Squared distance between every two values (Krippendorff 2011, section 3), shape (values, values)."""
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "ordinal":
        ranks = np.cumsum(total) - total / 2
        return np.subtract.outer(ranks, ranks) ** 2
    if level == "interval":
        return np.subtract.outer(values, values) ** 2
    if level == "ratio":
        sums = np.add.outer(values, values)
        return (np.subtract.outer(values, values) / np.where(sums == 0, 1, sums)) ** 2
    raise UserError(
        f"unknown level of measurement '{level}'.{nearest(level, ['nominal', 'ordinal', 'interval', 'ratio'])}"
    )


def _kappa(tables: Floats, weights: Weights = "none") -> Floats:
    """Kappa of contingency tables of shape (batch, labels, labels)."""
    share = tables / tables.sum(axis=(1, 2), keepdims=True)
    chance = share.sum(axis=2)[:, :, None] * share.sum(axis=1)[:, None, :]
    steps = np.abs(np.subtract.outer(np.arange(tables.shape[1]), np.arange(tables.shape[1])))
    cost = {"none": steps > 0, "linear": steps, "quadratic": steps**2}[weights]
    expected = (chance * cost).sum(axis=(1, 2))
    observed = (share * cost).sum(axis=(1, 2))
    kappa: Floats = np.where(expected > 0, 1 - observed / np.where(expected > 0, expected, 1), 0.0)
    return kappa


def _ac1(tables: Floats) -> Floats:
    share = tables / tables.sum(axis=(1, 2), keepdims=True)
    observed = np.trace(share, axis1=1, axis2=2)
    marginal = (share.sum(axis=1) + share.sum(axis=2)) / 2
    chance = (marginal * (1 - marginal)).sum(axis=1) / max(tables.shape[1] - 1, 1)
    ac1: Floats = (observed - chance) / (1 - chance)
    return ac1


def _table(a: ArrayLike, b: ArrayLike) -> Floats:
    labels, codes_a, codes_b = _codes(a, b)
    size = len(labels)
    return np.bincount(codes_a * size + codes_b, minlength=size**2).reshape(size, size).astype(np.float64)


def _codes(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[Any], Ints, Ints]:
    first, second = np.asarray(a), np.asarray(b)
    n = same_length(a=first, b=second)
    if n == 0:
        raise UserError("no items: agreement needs at least one item that both raters labelled")
    labels, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    return labels, codes[:n].astype(np.int64), codes[n:].astype(np.int64)
