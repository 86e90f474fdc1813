"""Win rates of many models from a store at once: one query, one score a prompt, arrays instead of records.

A leaderboard over a million judgments is one pass of DuckDB over their columns: verdicts are summed by pair of answers
first, then the answers' models are joined to the sums, and prompts arrive as 64-bit hashes. The altered answers with which
an audit probes a judge (models ``audit/...``) are no model's and are left out.

    for standing in standings(store): print(standing.model, standing.share.mean())
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.benchmarks.winrate import rate
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Floats, Ints
from rlhf_eval.stats.intervals import PairedDifference, paired
from rlhf_eval.store.reading import files_of
from rlhf_eval.store.runs import Store

if TYPE_CHECKING:
    import pyarrow as pa

Hashes = NDArray[np.uint64]

_QUERY = """
with names as (select model, row_number() over (order by model)::int as code
               from (select distinct model from completions where not starts_with(model, 'audit/'))),
text as (select hash(id) as h, any_value(code) as code from completions join names using (model) group by 1),
once as (select judge, prompt_id, completion_ids, scores, error,
                case when split_part(run_id, '-', 2) <> 'load' then "order"[1] <> 0 end as swapped from judgments
         where len(completion_ids) = 2 and ($1 is null or judge = $1)
               and ($2 is null or list_contains($2::varchar[], run_id)) {dedupe}),
pairs as (select judge, hash(completion_ids[1]) as x, hash(completion_ids[2]) as y, any_value(hash(prompt_id)) as prompt,
                 sum(scores[1]) filter (error is null) as won, count(*) filter (error is null) as readable,
                 count(error) as unreadable, bool_or(swapped) filter (error is null) as swapped
          from once group by 1, 2, 3),
groups as (select judge, a.code as model, b.code as opponent, list(prompt) as prompt, list(won) as won,
                  list(readable) as readable, list(unreadable) as unreadable, list(swapped) as swapped
           from pairs join text a on a.h = x join text b on b.h = y where a.code <> b.code group by 1, 2, 3)
select judge, m.model, o.model as opponent, prompt, won, readable, unreadable, swapped
from groups join names m on m.code = groups.model join names o on o.code = groups.opponent order by 1, 2, 3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One model against one opponent by one judge; arrays have one entry a prompt that has a readable judgment."""

    judge: str
    model: str
    opponent: str
    prompt: Hashes
    share: Floats
    """The model's mean share of the verdicts on the prompt."""
    readable: Ints
    """How many of the prompt's judgments could be read."""
    asked: Hashes
    """All prompts that the judge was asked about, those without a readable judgment too."""
    unread: Ints
    """How many judgments of each of ``asked`` could not be read."""
    swapped: NDArray[np.bool_] | None = None
    """Whether the model was shown second; None where prompts have several judgments, or where others asked the judge."""

    @property
    def lost(self) -> Hashes:
        """The prompts without any readable judgment."""
        return np.setdiff1d(self.asked, self.prompt, assume_unique=True)

    def estimate(self, level: float = 0.95) -> Estimate:
        """The win rate with its interval and counts."""
        return rate(
            self.share,
            swapped=self.swapped,
            level=level,
            about={"model": self.model, "baseline": self.opponent, "judge": self.judge},
            judgments=int(self.readable.sum()),
            unreadable=int(self.unread.sum()),
            lost=len(self.lost),
        )

    def mirrored(self) -> Standing:
        """The same from the opponent's side."""
        return replace(
            self,
            model=self.opponent,
            opponent=self.model,
            share=1 - self.share,
            swapped=None if self.swapped is None else ~self.swapped,
        )

    def only(self, prompts: Hashes) -> Standing:
        """The part on some prompts."""
        kept, asked = np.isin(self.prompt, prompts), np.isin(self.asked, prompts)
        return replace(
            self, prompt=self.prompt[kept], share=self.share[kept], readable=self.readable[kept],
            asked=self.asked[asked], unread=self.unread[asked],
            swapped=None if self.swapped is None else self.swapped[kept],
        )  # fmt: skip


def standings(store: Store, *, judge: str | None = None, runs: Sequence[str] | None = None) -> list[Standing]:
    """Every pair of models that a judge compared, in the order of judge, model and opponent."""
    table = store.sql(_QUERY.format(dedupe=dedupe(store)), [judge, list(runs) if runs is not None else None])
    return [_standing(table, row) for row in range(table.num_rows)]


def dedupe(store: Store) -> str:
    """The clause that shows each judgment once, a success before a failure, a newer run before an older one.

    Empty where one run holds them all: the store shows each id of a run once, and the clause costs as much as the rest.
    """
    holding = sum(bool(files_of(store.folder(run.id), "judgments")) for run in store.runs())
    if holding < 2:
        return ""
    return "qualify row_number() over (partition by id order by error is not null, run_id desc) = 1"


def categories(store: Store) -> dict[str, Hashes]:
    """Category to the hashes of its prompts; raises UserError where no prompt has one."""
    table = store.sql("select distinct category, hash(id) as h from prompts where category <> '' order by 1")
    if not table.num_rows:
        raise UserError("no stored prompt has a category; leave --by out")
    names = np.array(table.column("category").to_pylist())
    hashes = table.column("h").to_numpy().astype(np.uint64)
    return {str(name): hashes[names == name] for name in np.unique(names)}


def facing(found: Sequence[Standing], opponent: str) -> list[Standing]:
    """Everybody who met ``opponent``, seen as the model; two groups of one model are joined."""
    sides: dict[str, list[Standing]] = defaultdict(list)
    for standing in found:
        if opponent in (standing.model, standing.opponent):
            side = standing if standing.opponent == opponent else standing.mirrored()
            sides[side.model].append(side)
    return [_joined(group) for group in sides.values()]


def difference(a: Standing, b: Standing, *, level: float = 0.95) -> PairedDifference | None:
    """How much more often A wins than B against the same opponent on the prompts that both have; None without any."""
    if np.array_equal(a.prompt, b.prompt):
        return paired(a.share, b.share, level=level)
    _, mine, theirs = np.intersect1d(a.prompt, b.prompt, assume_unique=True, return_indices=True)
    return paired(a.share[mine], b.share[theirs], level=level) if len(mine) else None


def _standing(table: pa.Table, row: int) -> Standing:
    """One row of the query: its lists hold one entry a pair of answers, of which a prompt may have several."""
    lists = {
        n: table.column(n)[row].values.to_numpy(zero_copy_only=False) for n in ("prompt", "readable", "unreadable")
    }
    won = np.nan_to_num(table.column("won")[row].values.to_numpy(zero_copy_only=False).astype(np.float64))
    prompts, place, index = np.unique(lists["prompt"].astype(np.uint64), return_index=True, return_inverse=True)
    readable = np.bincount(index, weights=lists["readable"])
    total = np.bincount(index, weights=won)
    read = readable > 0
    sides = table.column("swapped")[row].values.take(place[read])
    once = bool((readable <= 1).all()) and len(place) == len(index) and not sides.null_count
    return Standing(
        judge=str(table.column("judge")[row]),
        model=str(table.column("model")[row]),
        opponent=str(table.column("opponent")[row]),
        prompt=prompts[read],
        share=total[read] / readable[read],
        readable=readable[read].astype(np.int64),
        asked=prompts,
        unread=np.bincount(index, weights=lists["unreadable"]).astype(np.int64),
        swapped=sides.to_numpy(zero_copy_only=False) if once else None,
    )


def _joined(group: Sequence[Standing]) -> Standing:
    if len(group) == 1:
        return group[0]
    prompts, index = np.unique(np.concatenate([s.prompt for s in group]), return_inverse=True)
    asked, place = np.unique(np.concatenate([s.asked for s in group]), return_inverse=True)
    return replace(
        group[0],
        prompt=prompts,
        share=np.bincount(index, weights=np.concatenate([s.share for s in group])) / np.bincount(index),
        readable=np.bincount(index, weights=np.concatenate([s.readable for s in group])).astype(np.int64),
        asked=asked,
        unread=np.bincount(place, weights=np.concatenate([s.unread for s in group])).astype(np.int64),
        swapped=None,
    )
