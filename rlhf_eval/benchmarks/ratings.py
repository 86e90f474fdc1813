"""A ranking of all models that a judge compared, whoever met whom: Bradley-Terry strengths, the ranks that they may have.

The strengths' errors are clustered by prompt, and the sets of ranks hold together at the confidence that is named. Where
some models never beat the rest, or never met them, the strengths would be infinite: the board says so, and which.
``fragility`` tells how few comparisons carry first place.

    for board in ratings(standings(store)): print(board.rows[0].model, board.rows[0].strength.value)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_eval.benchmarks.boards import by_judge
from rlhf_eval.benchmarks.standings import Standing
from rlhf_eval.errors import UserError
from rlhf_eval.stats.bradley_terry import bradley_terry, rating_intervals
from rlhf_eval.stats.intervals import Interval
from rlhf_eval.stats.ranking import Fragility, fragility, rank_sets

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """One model of the ranking."""

    model: str
    strength: Interval
    """Log-odds against the average model."""
    best: int
    """The best rank that it can still have, and the worst; all models' together at 95 %."""
    worst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingBoard:
    """All models that one judge compared, strongest first."""

    judge: str
    rows: tuple[Rated, ...]
    comparisons: int
    """Prompts on which two models met, summed over the pairs."""
    prompts: int
    carried: Fragility | None
    """How few comparisons carry first place; None where the ranking is not identified."""
    note: str
    """What a reader must know: groups of models that no wins connect."""


def ratings(found: Sequence[Standing], *, judge: str = "") -> list[RatingBoard]:
    """A ranking for every judge whose name starts with ``judge``; raises UserError where there is nothing to rank."""
    made = [_board(name, [s for s in mine if len(s.share)]) for name, mine in by_judge(found, judge)]
    shown = [board for board in made if board is not None]
    if not shown:
        raise UserError("not one of the stored judgments of two models could be read; there is nothing to rank")
    return shown


def _board(judge: str, met: Sequence[Standing]) -> RatingBoard | None:
    if not met:
        return None
    sizes = [len(standing.share) for standing in met]
    first = np.repeat([standing.model for standing in met], sizes)
    second = np.repeat([standing.opponent for standing in met], sizes)
    share = np.concatenate([standing.share for standing in met])
    prompts = np.concatenate([standing.prompt for standing in met])
    ranking = bradley_terry(first, second, share, prompts)
    sets, strengths = rank_sets(ranking, level=LEVEL), rating_intervals(ranking, level=LEVEL)
    order = np.argsort(-ranking.ratings, kind="stable").tolist()
    rows = tuple(
        Rated(model=str(ranking.models[i]), strength=strengths[i], best=sets.best[i], worst=sets.worst[i])
        for i in order
    )
    carried = None if ranking.note else fragility(first, second, share)
    return RatingBoard(
        judge=judge, rows=rows, comparisons=len(share), prompts=ranking.n, carried=carried, note=ranking.note
    )
