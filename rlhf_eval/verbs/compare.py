"""``compare A B``: is A better than B, on the same prompts and by the same judge?

Where the two met, the head-to-head judgments answer; else their judgments against a common baseline do, paired by prompt.

    rlhf-eval compare tonight lastweek --fail-on-regression
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.benchmarks.comparisons import Comparisons, comparisons
from rlhf_eval.errors import UserError, nearest
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.intervals import paired, prompts_needed
from rlhf_eval.verbs.session import Session

HALF = 0.5


@dataclass(frozen=True, slots=True)
class Paired:
    """The scores of A and B on the same prompts, by one judge."""

    judge: str
    via: str
    a: str
    b: str
    prompts: NDArray[np.str_]
    first: Floats
    second: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A's advantage over B in win rate, by one judge, with the outcome counts and what more prompts would tell."""

    estimate: Estimate
    judge: str
    via: str
    """``head to head``, or the common baseline."""
    better: int
    worse: int
    equal: int
    p_value: float
    quadrants: tuple[int, int, int, int]
    """Prompts on which both won against the baseline, only A, only B, neither; a tie is no win. Head to head: A's wins and
    B's in the middle, ties last."""
    flipped: tuple[str, ...]
    """Ids of the prompts that B won and A did not: where a new checkpoint lost something."""
    category: str = ""
    """The category of prompts, where the comparison is about one."""
    needed: int | None = None
    """Prompts that would separate a difference of this size with 80 % power; None where it is exactly zero."""


def compare(session: Session, a: str, b: str, *, judge: str = "", by_category: bool = False) -> list[Comparison]:
    """Every judge's answer, overall and for each category if wanted.

    Raises UserError where the two never met and share no baseline.
    """
    groups = [g for g in comparisons(session.store) if g.judge.startswith(judge)]
    known = {name for g in groups for name in (g.model, g.opponent)}
    for name in (a, b):
        if name not in known:
            raise UserError(f"no judgment is about '{name}'.{nearest(name, known)}")
    found: list[Paired] = []
    for name in dict.fromkeys(g.judge for g in groups):
        mine = [g for g in groups if g.judge == name]
        direct = [g for g in (_side(g, a, b) for g in mine) if g is not None]
        found += _direct(direct[0]) if direct else _shared(mine, a, b)
    if not found:
        raise UserError(f"'{a}' and '{b}' never met and share no baseline; run 'rlhf-eval evaluate winrate' with both")
    return [part for whole in found for part in _parts(whole, _categories(session) if by_category else {})]


def _side(group: Comparisons, a: str, b: str) -> Comparisons | None:
    if (group.model, group.opponent) == (a, b):
        return group
    return group.mirrored() if (group.opponent, group.model) == (a, b) else None


def _direct(group: Comparisons) -> list[Paired]:
    prompts, scores = group.by_prompt()
    return [Paired(group.judge, "head to head", group.model, group.opponent, prompts.astype(str), scores, 1 - scores)]


def _shared(groups: Sequence[Comparisons], a: str, b: str) -> list[Paired]:
    found = []
    for baseline in dict.fromkeys(g.opponent for g in groups):
        sides = [next((s for g in groups if (s := _side(g, name, baseline))), None) for name in (a, b)]
        if sides[0] is None or sides[1] is None:
            continue
        scores = [dict(zip(*side.by_prompt(), strict=True)) for side in sides if side is not None]
        shared = sorted(scores[0].keys() & scores[1].keys())
        if not shared:
            raise UserError(f"'{a}' and '{b}' share no prompt against {baseline}; judge both on the same prompts")
        first, second = (np.array([side[prompt] for prompt in shared], dtype=np.float64) for side in scores)
        found.append(Paired(groups[0].judge, f"against {baseline}", a, b, np.array(shared), first, second))
    return found


def _parts(whole: Paired, categories: Mapping[str, str]) -> list[Comparison]:
    """The comparison over all prompts, then over each category that has at least two of them."""
    parts = [_comparison(whole)]
    names = np.array([categories.get(prompt, "") for prompt in whole.prompts])
    for category in sorted(set(names.tolist()) - {""}):
        kept = names == category
        if kept.sum() > 1:
            cut = replace(whole, prompts=whole.prompts[kept], first=whole.first[kept], second=whole.second[kept])
            parts.append(_comparison(cut, category))
    return parts


def _categories(session: Session) -> dict[str, str]:
    table = session.store.sql("select distinct id, category from prompts where category <> ''")
    if not table.num_rows:
        raise UserError("no stored prompt has a category; leave --by out")
    return dict(zip(table.column("id").to_pylist(), table.column("category").to_pylist(), strict=True))


def _comparison(pair: Paired, category: str = "") -> Comparison:
    first, second = pair.first, pair.second
    difference = paired(first, second)
    gaps = first - second
    spread = float(gaps.std(ddof=1)) if len(gaps) > 1 else 0.0
    estimate = Estimate(
        name="win_rate_difference",
        value=difference.value,
        low=difference.low,
        high=difference.high,
        n=difference.n,
        method=difference.method,
        settings={
            "model": pair.a,
            "baseline": pair.b,
            "judge": pair.judge,
            "via": pair.via,
            "category": category,
            "se": difference.se,
            "level": difference.level,
        },
    )
    return Comparison(
        estimate=estimate,
        judge=pair.judge,
        via=pair.via,
        better=int((gaps > 0).sum()),
        worse=int((gaps < 0).sum()),
        equal=int((gaps == 0).sum()),
        p_value=difference.p_value,
        quadrants=_quadrants(pair),
        flipped=tuple(pair.prompts[(second > HALF) & (first <= HALF)].tolist()),
        category=category,
        needed=prompts_needed(delta=abs(difference.value), variance=spread**2) if difference.value and spread else None,
    )


def _quadrants(pair: Paired) -> tuple[int, int, int, int]:
    a, b = pair.first > HALF, pair.second > HALF
    return int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum())
