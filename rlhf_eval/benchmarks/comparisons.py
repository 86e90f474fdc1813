"""The comparisons that a store holds, one row a judgment, grouped by judge, model and opponent.

The altered answers with which an audit probes a judge are no model's and are left out.

for group in comparisons(store): ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.store.runs import Store

_QUERY = """
with text as (select id, any_value(model) as model from completions where not starts_with(model, 'audit/') group by id),
once as (select id, judge, prompt_id, completion_ids, scores, "order", error, run_id from judgments
         where len(completion_ids) = 2 and ($1 is null or judge = $1)
               and ($2 is null or list_contains($2::varchar[], run_id))
         qualify row_number() over (partition by id order by error is not null, run_id desc) = 1)
select j.judge, a.model as model, b.model as opponent, j.prompt_id, j.completion_ids[1] || j.completion_ids[2] as pair,
       j.scores[1] as share, j."order"[1] = 0 as shown_first, j.error, split_part(j.run_id, '-', 2) <> 'load' as dealt
from once j join text a on a.id = j.completion_ids[1] join text b on b.id = j.completion_ids[2]
order by j.judge, model, opponent, j.prompt_id, j.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """All readable judgments of one judge between two models; arrays are aligned, one entry a judgment."""

    judge: str
    model: str
    opponent: str
    prompt: NDArray[np.object_]
    """Prompt ids: the clusters."""
    pair: NDArray[np.object_]
    """Which two completions met; both orders of one pair share it."""
    share: NDArray[np.float64]
    """The model's share of the verdict: 1 won, .5 tied, 0 lost, between for soft verdicts."""
    shown_first: NDArray[np.bool_]
    unreadable: int = 0
    """Judgments that gave no verdict."""
    lost: int = 0
    """Prompts without any readable judgment."""
    dealt: bool = False
    """Whether a run of ours dealt the sides evenly, where it asked in one order; others' files came out as they did."""

    def by_prompt(self) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        """Prompt ids and the mean share of each."""
        prompts, index = np.unique(self.prompt.astype(str), return_inverse=True)
        sums = np.bincount(index, weights=self.share, minlength=len(prompts))
        return prompts.astype(object), sums / np.bincount(index, minlength=len(prompts))

    def swapped(self) -> NDArray[np.bool_] | None:
        """Whether the model was shown second, by prompt as in ``by_prompt``.

        None where a prompt has several judgments, or where the sides were not dealt evenly on purpose.
        """
        prompts, index = np.unique(self.prompt.astype(str), return_index=True)
        return ~self.shown_first[index] if self.dealt and len(prompts) == len(self.prompt) else None

    def mirrored(self) -> Comparisons:
        """The same judgments from the opponent's side."""
        return Comparisons(
            judge=self.judge,
            model=self.opponent,
            opponent=self.model,
            prompt=self.prompt,
            pair=self.pair,
            share=1.0 - self.share,
            shown_first=~self.shown_first,
            unreadable=self.unreadable,
            lost=self.lost,
            dealt=self.dealt,
        )


def comparisons(store: Store, *, judge: str | None = None, runs: Sequence[str] | None = None) -> list[Comparisons]:
    """Every group of comparisons in the store, or of some runs, in the order of judge, model and opponent."""
    table = store.sql(_QUERY, [judge, list(runs) if runs is not None else None])
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    if not table.num_rows:
        return []
    keys = np.array([columns["judge"], columns["model"], columns["opponent"]], dtype=str)
    edges = np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(axis=0)) + 1
    bounds = [0, *edges.tolist(), table.num_rows]
    groups = [_group(columns, slice(low, high)) for low, high in pairwise(bounds)]
    # Not in the query: its planner answers ``a.model <> b.model`` with a cross product of all completions.
    return [group for group in groups if group.model != group.opponent]


def _group(columns: dict[str, NDArray[np.object_]], part: slice) -> Comparisons:
    cut = {name: values[part] for name, values in columns.items()}
    readable = np.array([error is None for error in cut["error"]])
    return Comparisons(
        judge=str(cut["judge"][0]),
        model=str(cut["model"][0]),
        opponent=str(cut["opponent"][0]),
        prompt=cut["prompt_id"][readable],
        pair=cut["pair"][readable],
        share=cut["share"][readable].astype(np.float64),
        shown_first=cut["shown_first"][readable].astype(bool),
        unreadable=int((~readable).sum()),
        lost=len(set(cut["prompt_id"]) - set(cut["prompt_id"][readable])),
        dealt=bool(cut["dealt"].all()),
    )
