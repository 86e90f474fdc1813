"""Which comparisons are most worth a person's minute, drawn with known chances so that the labels stay unbiased evidence.

A comparison's chance follows ``sqrt(p (1 - p))`` of the labelers' mean share p, mixed with a share of equal chances so that
a judge that is sure and wrong is found out too (active inference, Zrnic and Candes, arXiv 2403.03208).

    items = open_comparisons(judgments)
    chance = chances(items, 100)
    for i in in_order_of_worth(items, chance, seed=0): ...
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlhf_eval.records import Judgment, fingerprint
from rlhf_eval.stages.labels import Item, items_of
from rlhf_eval.stages.matrix import Floats, Ints
from rlhf_eval.stats.human import label_probabilities


def open_comparisons(judgments: Sequence[Judgment]) -> list[Item]:
    """The comparisons that no person has decided, and that were of different words."""
    same = {tuple(sorted(j.completion_ids)) for j in judgments if j.metadata.get("identical")}
    return [
        item
        for item in items_of(judgments)
        if len(item.completion_ids) == 2
        and item.completion_ids not in same
        and not any(labeler.startswith("human/") for labeler in item.scores)
    ]


def chances(items: Sequence[Item], budget: int, *, uniform: float = 0.2) -> Floats:
    """The chance of each item to be among ``budget`` that are sent to people; shape (items,)."""
    share = np.array([float(np.mean([*item.shares.values()])) for item in items])
    return label_probabilities(share, budget, uniform=uniform)


def systematic(chance: Floats, rng: np.random.Generator) -> Ints:
    """Items drawn with exactly these chances, and as many as they sum to: one random start, then equal steps.

    Shape (round(sum(chance)),). The items are put in a random order first. Source: Madow (1949).
    """
    order = rng.permutation(len(chance))
    edges = np.cumsum(chance[order])
    marks = np.arange(rng.random(), edges[-1] - 1e-9, 1.0)
    return np.sort(order[np.searchsorted(edges, marks, side="right")])


def in_order_of_worth(items: Sequence[Item], chance: Floats, *, seed: int = 0) -> list[int]:
    """All items, those most worth asking first, so that stopping anywhere leaves a sample with chances as given.

    The first k of them are drawn with chances proportional to ``chance``: sequential Poisson sampling, the order of
    ``u / chance`` for uniform u (Ohlsson, 1998). An item's u follows from its answers and the seed: the order outlives a
    reload, and is the same for everybody.
    """
    ticket = [int(fingerprint("ticket", seed, item.completion_ids)[:12], 16) / 16**12 for item in items]
    return [int(i) for i in np.argsort(np.array(ticket) / chance, kind="stable")]


def second_first(item: Item, *, seed: int = 0, person: str = "") -> bool:
    """Whether the answer with the larger id stands first: drawn, so that nothing tells which one the judges prefer."""
    parts = ("side", seed, person, item.completion_ids) if person else ("side", seed, item.completion_ids)
    return int(fingerprint(*parts)[:8], 16) % 2 == 1
