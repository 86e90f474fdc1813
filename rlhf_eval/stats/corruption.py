"""Wrong labels on purpose: which pairs of a preference set are turned, by five models of how labelers go wrong.

Every function returns a mask of shape (pairs,), true where chosen and rejected change places. ``margin`` is how much better
the chosen answer truly is. What a method can spot is measured by planting exactly as many wrong labels as one says, of the
kind that one says. The stochastic, myopic and irrational labeler are those of R3M (Bukharin et al., arXiv 2406.15568,
section 5.1).

    flips = top_margin(margin, rate=0.1)
    flips.mean()    # 0.1, to the nearest pair
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Bools, Floats, Ints, floats, same_length


def random(count: int, *, rate: float, seed: int = 0) -> Bools:
    """Any pairs, drawn without regard to anything: exactly ``round(rate * count)`` of them."""
    return _mask(count, np.random.default_rng(seed).permutation(count)[: _wanted(count, rate)])


def top_margin(margin: ArrayLike, *, rate: float) -> Bools:
    """The pairs of the largest margins: the wrong labels that hurt most. Ties go to the first."""
    values = floats(margin, "margin")
    return _mask(len(values), np.argsort(-values, kind="stable")[: _wanted(len(values), rate)])


def irrational(margin: ArrayLike, *, power: float, batch: int, seed: int = 0) -> Bools:
    """In every random batch of ``batch`` pairs the ``batch ** power`` of the largest margins.

    The rate is ``batch ** (power - 1)``: of 64 pairs 6.25, 12.5 and 25 % for a power of 1/3, 1/2 and 2/3. The last batch
    may be smaller, and has the same rate, to the nearest pair.
    """
    values = floats(margin, "margin")
    if not 0 < power < 1 or batch < 1:
        raise UserError(
            f"power is {power:g} and batch {batch}; the power lies in (0, 1), a batch holds at least 1 pair"
        )
    order = np.random.default_rng(seed).permutation(len(values))
    turned: list[Ints] = []
    for start in range(0, len(values), batch):
        rows = order[start : start + batch]
        worst = np.argsort(-values[rows], kind="stable")[: round(len(rows) * batch ** (power - 1))]
        turned.append(rows[worst])
    return _mask(len(values), np.concatenate(turned))


def stochastic(margin: ArrayLike, *, temperature: float, rate: float | None = None, seed: int = 0) -> Bools:
    """Labels drawn from ``sigmoid(margin / temperature)``: close pairs are turned more often, up to half of them.

    The rate follows from the margins; where one is given, exactly so many are turned, drawn with chances in proportion.
    """
    values = floats(margin, "margin")
    if not temperature > 0:
        raise UserError(f"temperature is {temperature:g}; it must be over 0")
    chance: Floats = 1 / (1 + np.exp(np.clip(values / temperature, -700, 700)))
    rng = np.random.default_rng(seed)
    if rate is None:
        mask: Bools = rng.random(len(values)) < chance
        return mask
    # The smallest of exponential clocks: a draw without replacement with chances in proportion (Efraimidis and Spirakis).
    clocks = rng.exponential(size=len(values)) / np.maximum(chance, np.finfo(np.float64).tiny)
    return _mask(len(values), np.argsort(clocks, kind="stable")[: _wanted(len(values), rate)])


def myopic(part: ArrayLike, *, rate: float | None = None) -> Bools:
    """Pairs whose rejected answer is the better one by the part that was looked at; ``part`` is that part's margin.

    All of them, or, with a rate, those that the part misleads about the most. Raises UserError where there are not so many.
    """
    return _misled(floats(part, "part"), rate, "the part that is looked at")


def systematic(feature: ArrayLike, *, rate: float | None = None) -> Bools:
    """Pairs whose rejected answer has more of a feature: a labeler who has taken it for quality.

    ``feature`` is how much more of it the chosen answer has. All of them, or, with a rate, those of the largest difference.
    Such labels agree with each other: no method that looks for the odd one out can find them.
    """
    return _misled(floats(feature, "feature"), rate, "the feature")


def _misled(gap: Floats, rate: float | None, what: str) -> Bools:
    misled: Bools = gap < 0
    if rate is None:
        return misled
    wanted, found = _wanted(len(gap), rate), int(misled.sum())
    if found < wanted:
        raise UserError(
            f"a rate of {rate:g} is {wanted} of {len(gap)} pairs, and {what} speaks against {found} only; "
            f"ask for {found / len(gap):.4g} or less"
        )
    return _mask(len(gap), np.argsort(gap, kind="stable")[:wanted])


def auroc(score: ArrayLike, flipped: ArrayLike) -> float:
    """Chance that a turned pair has the higher score than one that was not (ties count half): how well flips are found.

    Raises UserError where all pairs were turned, or none.
    """
    values, turned = floats(score, "score"), np.asarray(flipped, dtype=np.bool_)
    same_length(score=values, flipped=turned)
    bad, good = int(turned.sum()), int((~turned).sum())
    if not bad or not good:
        raise UserError(f"{bad} of {len(values)} labels were turned; an AUROC needs some of either kind")
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    return float((rank[place][turned].sum() - bad * (bad + 1) / 2) / (bad * good))


def _wanted(count: int, rate: float) -> int:
    if not 0 <= rate <= 1:
        raise UserError(f"rate is {rate:g}; it is a share, from 0 to 1")
    return round(rate * count)


def _mask(count: int, rows: Ints) -> Bools:
    mask = np.zeros(count, dtype=np.bool_)
    mask[rows] = True
    return mask
