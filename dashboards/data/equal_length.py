"""Win rates at equal length: what would be left if no answer were longer than the other.

at_equal_length(store, judge, baseline)["tonight"].adjusted
"""

from __future__ import annotations

import numpy as np

from dashboards.data.examples import Filters, chars_of, lengths, pairs, select
from rlhf_eval.stats.length_control import StyleControlled, length_controlled, length_feature
from rlhf_eval.store.runs import Store


def at_equal_length(store: Store, judge: str, baseline: str, *, run: str = "") -> dict[str, StyleControlled]:
    """Every model that met the baseline to its win rate as judged and at equal length; one row a pair of answers.

    Source: arXiv 2404.04475, with an influence-function SE clustered by prompt (``stats.length_control``).
    """
    found, known = pairs(store, judge, run=run), lengths(store)
    names = found.table.column("model").unique().to_pylist() + found.table.column("opponent").unique().to_pylist()
    made = {}
    for model in sorted({*names} - {baseline}):
        rows = select(found, Filters(model=model, opponent=baseline))
        x, y = chars_of(found, rows, known)
        straight = np.asarray(found.table.column("model").take(rows).to_pylist()) == model
        share = np.where(straight, found.share[rows], 1 - found.share[rows])
        mine, theirs = np.where(straight, x, y), np.where(straight, y, x)
        read = np.isfinite(share)
        if read.any():
            prompts = np.asarray(found.table.column("prompt_id").take(rows).to_pylist())[read]
            made[model] = length_controlled(share[read], length_feature(mine, theirs)[read], prompts)
    return made
