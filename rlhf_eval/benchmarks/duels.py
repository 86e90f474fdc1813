"""Two models on the same prompts by the same judge: where one leads, by how much, and what it lost.

Where the two met, the head-to-head judgments answer; else their judgments against a common baseline do, paired by prompt.

    for duel in duels(store, standings(store), "tonight", "lastweek"): print(duel.estimate.value)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlhf_eval.benchmarks.standings import Hashes, Standing, facing
from rlhf_eval.errors import UserError, nearest
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.intervals import paired, prompts_needed
from rlhf_eval.store.runs import Store

HALF = 0.5
DIRECT = "head to head"


@dataclass(frozen=True, slots=True)
class Paired:
    """The scores of A and B on the same prompts, by one judge."""

    judge: str
    via: str
    a: str
    b: str
    prompts: Hashes
    first: Floats
    second: Floats
    lost: Hashes
    """Prompts of which one of the two had no readable judgment."""

    @property
    def flipped(self) -> Hashes:
        """The prompts that B won and A did not."""
        return self.prompts[(self.second > HALF) & (self.first <= HALF)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
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
    tokens: tuple[float | None, float | None] = (None, None)
    """Mean tokens of A's and of B's answers to these prompts, where they were counted: budgets may differ, too."""
    needed: int | None = None
    """Prompts that would separate a difference of this size with 80 % power; None where it is exactly zero."""


def duels(
    store: Store,
    found: Sequence[Standing],
    a: str,
    b: str,
    *,
    judge: str = "",
    parts: Mapping[str, Hashes] | None = None,
) -> list[Duel]:
    """The answer of every judge whose name starts with ``judge``, over all prompts and over each of ``parts``.

    ``found`` are the store's standings; a part counts where it has at least two of the prompts. Raises UserError where
    the two never met and share no baseline.
    """
    if a == b:
        raise UserError(f"'{a}' is compared with itself; name two models")
    mine = [s for s in found if s.judge.startswith(judge)]
    if found and not mine:
        raise UserError(f"no judge is called '{judge}'.{nearest(judge, {s.judge for s in found})}")
    known = {name for s in mine for name in (s.model, s.opponent)}
    for name in (a, b):
        if name not in known:
            raise UserError(f"no judgment is about '{name}'.{nearest(name, known)}")
    whole = [
        pair
        for name in dict.fromkeys(s.judge for s in mine)
        for pair in _pairs([s for s in mine if s.judge == name], a, b)
    ]
    if not whole:
        raise UserError(f"'{a}' and '{b}' never met and share no baseline; run 'rlhf-eval evaluate winrate' with both")
    names = _ids(store, np.concatenate([pair.flipped for pair in whole]))
    found_parts = [part for pair in whole for part in _parts(pair, parts or {})]
    first, second = _answer_lengths(store, a), _answer_lengths(store, b)
    return [
        replace(_duel(part, category, names), tokens=(first.tokens(part), second.tokens(part)))
        for category, part in found_parts
    ]


def _pairs(mine: Sequence[Standing], a: str, b: str) -> list[Paired]:
    direct = _against(mine, a, b)
    if direct is not None:
        share = direct.share
        return [Paired(direct.judge, DIRECT, a, b, direct.prompt, share, 1 - share, direct.lost)] if len(share) else []
    found = []
    for baseline in dict.fromkeys(s.opponent for s in mine):
        sides = _against(mine, a, baseline), _against(mine, b, baseline)
        if sides[0] is None or sides[1] is None:
            continue
        shared, first, second = np.intersect1d(
            sides[0].prompt, sides[1].prompt, assume_unique=True, return_indices=True
        )
        if not len(shared):
            raise UserError(f"'{a}' and '{b}' share no prompt against {baseline}; judge both on the same prompts")
        scores = sides[0].share[first], sides[1].share[second]
        lost = np.union1d(sides[0].lost, sides[1].lost)
        found.append(Paired(mine[0].judge, f"against {baseline}", a, b, shared, *scores, lost))
    return found


def _against(mine: Sequence[Standing], name: str, opponent: str) -> Standing | None:
    """``name`` as the model against ``opponent``, whichever way round they were judged."""
    met = [s for s in mine if {s.model, s.opponent} == {name, opponent}]
    return facing(met, opponent)[0] if met else None


def _parts(whole: Paired, parts: Mapping[str, Hashes]) -> list[tuple[str, Paired]]:
    cut = [("", whole)]
    for category, prompts in parts.items():
        kept = np.isin(whole.prompts, prompts)
        if kept.sum() > 1:
            rows = (whole.prompts[kept], whole.first[kept], whole.second[kept])
            lost = whole.lost[np.isin(whole.lost, prompts)]
            cut.append((category, replace(whole, prompts=rows[0], first=rows[1], second=rows[2], lost=lost)))
    return cut


def _duel(pair: Paired, category: str, names: Mapping[int, str]) -> Duel:
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
        failed=len(pair.lost),
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
    return Duel(
        estimate=estimate,
        judge=pair.judge,
        via=pair.via,
        better=int((gaps > 0).sum()),
        worse=int((gaps < 0).sum()),
        equal=int((gaps == 0).sum()),
        p_value=difference.p_value,
        quadrants=_quadrants(pair),
        flipped=tuple(sorted(names[prompt] for prompt in pair.flipped.tolist())),
        category=category,
        needed=prompts_needed(delta=abs(difference.value), variance=spread**2) if difference.value and spread else None,
    )


def _quadrants(pair: Paired) -> tuple[int, int, int, int]:
    a, b = pair.first > HALF, pair.second > HALF
    return int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum())


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long a model's answers are: characters by prompt, and tokens a character where tokens were counted."""

    characters: Mapping[int, float]
    """Prompt, by hash, to the mean characters of its answers."""
    density: float | None

    def tokens(self, pair: Paired) -> float | None:
        """Mean tokens of the answers to the prompts of a pair."""
        known = [self.characters[prompt] for prompt in pair.prompts.tolist() if prompt in self.characters]
        return self.density * float(np.mean(known)) if known and self.density is not None else None


def _answer_lengths(store: Store, model: str) -> Lengths:
    """A request books the tokens of all its samples at once; a copy of a stored answer keeps its own in its metadata."""
    query = (
        "select hash(prompt_id) as h, avg(length(text)) as characters, sum(length(text)) as total, "
        "sum(coalesce(nullif(usage.completion_tokens, 0), try_cast(metadata ->> '$.tokens' as bigint), 0)) as tokens "
        "from completions where model = $1 and error is null group by 1"
    )
    rows = store.sql(query, [model]).to_pylist()
    counted = [(row["tokens"], row["total"]) for row in rows if row["tokens"] and row["total"]]
    density = float(sum(t for t, _ in counted) / sum(c for _, c in counted)) if counted else None
    return Lengths({row["h"]: row["characters"] for row in rows}, density)


def _ids(store: Store, prompts: Hashes) -> dict[int, str]:
    """Hash to id of these prompts."""
    if not len(prompts):
        return {}
    query = (
        "select distinct hash(prompt_id) as h, prompt_id from judgments "
        "semi join (select unnest($1::ubigint[]) as h) wanted on hash(prompt_id) = wanted.h"
    )
    table = store.sql(query, [prompts.tolist()])
    return dict(zip(table.column("h").to_pylist(), table.column("prompt_id").to_pylist(), strict=True))
