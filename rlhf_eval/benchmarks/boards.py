"""Leaderboards: every model's win rate against a baseline, and which models first place cannot be told from.

Models are compared with the first by the paired difference over the prompts that both answered, corrected for their number
(Holm). Overlap of two intervals says less and is not used.

    for board in boards(standings(store)): print(board.rows[0].settings["model"], board.rows[0].value)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rlhf_eval.benchmarks.standings import Hashes, Standing, difference, facing
from rlhf_eval.errors import UserError, nearest
from rlhf_eval.records import Estimate
from rlhf_eval.stats.intervals import PairedDifference, holm, winners_curse

LEVEL = 0.95


class Uncompared(UserError):
    """No judge has compared two models here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """How far a model lies behind the first."""

    gap: PairedDifference | None
    """First minus this one, over shared prompts; None where they share none."""
    p_holm: float | None
    """P-value of "no difference", corrected for all models of the board."""

    @property
    def separable(self) -> bool:
        """Whether the first is surely better."""
        return self.p_holm is not None and self.p_holm <= 1 - LEVEL

    @property
    def note(self) -> str:
        """Why a model that is not first is not surely behind, in words; empty where it is."""
        if self.separable:
            return ""
        return "cannot be told from the first" if self.gap else "shares no prompt with the first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One table: the models that one judge compared with one baseline, best first."""

    judge: str
    baseline: str
    rows: tuple[Estimate, ...]
    behind: tuple[Behind, ...] = ()
    """For every row how it compares with the first; the first row's own says nothing."""
    category: str = ""
    """The category of prompts, where the board is about one."""
    luck: float = field(default=0.0)
    """How far the best of as many equal models would seem ahead of them by chance alone."""


def boards(
    found: Sequence[Standing], *, judge: str = "", baseline: str = "", parts: Mapping[str, Hashes] | None = None
) -> list[Board]:
    """A board for each judge whose name starts with ``judge``, each baseline (unless one is named) and each part.

    ``parts`` maps a category to the hashes of its prompts; without, a board is about all prompts. Raises UserError where
    there is nothing to show.
    """
    made = []
    for name, mine in by_judge(found, judge):
        for opponent in [baseline] if baseline else baselines(mine):
            rivals = facing(mine, opponent)
            cut = {"": rivals} if parts is None else {c: [s.only(p) for s in rivals] for c, p in parts.items()}
            made += [_board(name, opponent, [s for s in kept if len(s.share)], c) for c, kept in cut.items()]
    shown = [board for board in made if board.rows]
    if not shown:
        known = {name for s in found for name in (s.model, s.opponent)}
        if baseline and baseline not in known:
            raise UserError(f"no judgment compares a model with '{baseline}'.{nearest(baseline, known)}")
        raise UserError("not one of the stored judgments of two models could be read; there is no win rate to show")
    return shown


def baselines(found: Sequence[Standing]) -> list[str]:
    """The models that stand second: what was compared against; the commonest first."""
    return [name for name, _ in Counter(standing.opponent for standing in found).most_common()]


def by_judge(found: Sequence[Standing], wanted: str) -> list[tuple[str, list[Standing]]]:
    """The standings of each judge whose name starts with ``wanted``.

    Raises Uncompared where nobody compared two models, UserError where no such judge did.
    """
    if not found:
        raise Uncompared(
            "the store holds no comparison of two models yet; run 'rlhf-eval evaluate winrate' or 'rlhf-eval load'"
        )
    names = dict.fromkeys(standing.judge for standing in found)
    chosen = [name for name in names if name.startswith(wanted)]
    if not chosen:
        raise UserError(f"no judge is called '{wanted}'.{nearest(wanted, names)}")
    return [(name, [s for s in found if s.judge == name]) for name in chosen]


def _board(judge: str, baseline: str, rivals: Sequence[Standing], category: str) -> Board:
    rated = sorted(((s, s.estimate(LEVEL)) for s in rivals), key=lambda pair: (-pair[1].value, pair[0].model))
    rows = tuple(estimate for _, estimate in rated)
    gaps = [difference(rated[0][0], other, level=LEVEL) for other, _ in rated[1:]]
    behind = behind_first(gaps) if rated else ()
    return Board(judge=judge, baseline=baseline, rows=rows, behind=behind, category=category, luck=luck_of(rows))


def luck_of(rows: Sequence[Estimate]) -> float:
    """How far the best of as many equal models would seem ahead by chance alone; 0 where nobody can say."""
    luck = winners_curse(len(rows), float(np.median([row.settings["se"] for row in rows]))) if len(rows) > 1 else 0.0
    return luck if np.isfinite(luck) else 0.0


def told_apart(behind: Sequence[Behind], *, marks: tuple[str, str] = ("", "")) -> str:
    """How many models first place cannot be told from, and with how many it shares no prompt; ``marks`` begin the two."""
    others = behind[1:]
    tied = sum(not one.separable for one in others if one.gap)
    unmet = sum(one.gap is None for one in others)
    said = [f"{marks[0]}{tied} of {len(others)} cannot be told from first place"] if tied else []
    said += [f"{marks[1]}{unmet} of {len(others)} share no prompt with it"] if unmet else []
    return ", ".join(said) or "first place is separable from all"


def behind_first(gaps: Sequence[PairedDifference | None]) -> tuple[Behind, ...]:
    """How the first compares with itself, which says nothing, and with each of the others, p-values corrected by Holm."""
    known = [gap.p_value for gap in gaps if gap is not None]
    adjusted = iter(holm(known).tolist() if known else [])
    others = [Behind(gap=gap, p_holm=next(adjusted) if gap is not None else None) for gap in gaps]
    return (Behind(gap=None, p_holm=None), *others)
