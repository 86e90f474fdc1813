"""Would the leaderboard change if another judge made it? Two judges on the pairs that both have judged.

compare_judgments(comparisons(store, judge=old), comparisons(store, judge=new))
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.audit.evidence import sign
from rlhf_eval.benchmarks.comparisons import Comparisons
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.bootstrap import bootstrap_totals
from rlhf_eval.stats.intervals import Interval, paired, wilson

Met = dict[tuple[str, str], float]
"""Two completion ids, in order, to the mean share of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """Two models that the judges rank differently."""

    ahead: str
    """Ahead by the old judge."""
    behind: str
    old: Estimate
    """Difference in mean share, ``ahead`` minus ``behind``, by the old judge, paired by prompt."""
    new: Estimate
    surely: bool
    """Whether both judges separate the two, in opposite directions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeComparison:
    """What replacing ``old`` by ``new`` does."""

    old: str
    new: str
    models: tuple[str, ...]
    """By the old judge's ranking, best first."""
    flips: Estimate
    """Pairs of answers of which the two name different winners."""
    one_tie: Estimate
    """Pairs that one of the two calls a tie and the other does not."""
    tau: Estimate | None
    """Kendall's tau-b of the two rankings of models; None for a single pair of models."""
    scores: tuple[tuple[Estimate, Estimate, Estimate], ...]
    """For each model: mean share by the old judge, by the new one, and the difference, paired by prompt."""
    turned: tuple[Turned, ...]
    pairs_of_models: int

    @property
    def changes(self) -> bool:
        """Whether the order of two models surely changes."""
        return any(turn.surely for turn in self.turned)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What both judges said, one row a pair of answers."""

    prompt: list[str]
    first: list[str]
    second: list[str]
    """Models."""
    old: Floats
    new: Floats


def compare_judgments(old: Sequence[Comparisons], new: Sequence[Comparisons]) -> JudgeComparison:
    """Compare two judges on the pairs of answers that both have judged, both orders averaged where both are known.

    A model's score is its mean share over its comparisons, prompt by prompt. Raises UserError where the two judges share
    no pair.
    """
    shared = _shared(old, new)
    prompts = np.asarray(shared.prompt)
    said = np.array([sign(share) for share in shared.old]), np.array([sign(share) for share in shared.new])
    tables = {name: _by_prompt(shared, name) for name in dict.fromkeys([*shared.first, *shared.second])}
    ranked = sorted(tables, key=lambda name: (-_mean(tables[name], 0), name))
    names = old[0].judge, new[0].judge
    about: dict[str, Any] = {"old": names[0], "new": names[1], "pairs": len(prompts)}
    return JudgeComparison(
        old=names[0],
        new=names[1],
        models=tuple(ranked),
        flips=_estimate("flips", wilson(said[0] * said[1] < 0, prompts), about),
        one_tie=_estimate("one_tie", wilson((said[0] == 0) != (said[1] == 0), prompts), about),
        tau=_estimate("kendall_tau", _tau(tables), about) if len(ranked) > 1 else None,
        scores=tuple(_scores(name, tables[name], about) for name in ranked),
        turned=tuple(_turned(tables, ranked, about)),
        pairs_of_models=len(ranked) * (len(ranked) - 1) // 2,
    )


def _shared(old: Sequence[Comparisons], new: Sequence[Comparisons]) -> _Shared:
    first, second = (_meetings(groups) for groups in (old, new))
    keys = sorted(first.keys() & second.keys())
    if not keys:
        raise UserError("the two judges have judged no pair of answers in common; judge the same completions with both")
    return _Shared(
        prompt=[key[0] for key in keys],
        first=[key[2] for key in keys],
        second=[key[3] for key in keys],
        old=np.array([first[key] for key in keys]),
        new=np.array([second[key] for key in keys]),
    )


def _meetings(groups: Sequence[Comparisons]) -> dict[tuple[str, str, str, str], float]:
    """Prompt, pair of completions, and their models in one fixed order, to the mean share of the first."""
    by_order: dict[tuple[str, str, str, str], dict[bool, list[float]]] = defaultdict(lambda: defaultdict(list))
    for group in groups:
        side = group if group.model < group.opponent else group.mirrored()
        for prompt, pair, share, first in zip(side.prompt, side.pair, side.share, side.shown_first, strict=True):
            key = str(prompt), _unordered(str(pair)), side.model, side.opponent
            by_order[key][bool(first)].append(float(share))
    return {key: float(np.mean([np.mean(shares) for shares in orders.values()])) for key, orders in by_order.items()}


def _unordered(pair: str) -> str:
    """Two ids run together, in one fixed order: a judge may have them listed the other way around."""
    half = len(pair) // 2
    return "".join(sorted((pair[:half], pair[half:])))


Table = dict[str, tuple[float, float]]
"""Prompt to a model's mean share by the old judge and by the new one."""


def _by_prompt(shared: _Shared, model: str) -> Table:
    sums: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for prompt, first, second, old, new in zip(
        shared.prompt, shared.first, shared.second, shared.old, shared.new, strict=True
    ):
        if model == first:
            sums[prompt].append((float(old), float(new)))
        elif model == second:
            sums[prompt].append((1.0 - float(old), 1.0 - float(new)))
    return {
        prompt: (float(np.mean([o for o, _ in rows])), float(np.mean([n for _, n in rows])))
        for prompt, rows in sums.items()
    }


def _mean(table: Table, judge: int) -> float:
    return float(np.mean([row[judge] for row in table.values()]))


def _scores(name: str, table: Table, about: dict[str, Any]) -> tuple[Estimate, Estimate, Estimate]:
    old, new = (np.array([row[judge] for row in table.values()]) for judge in (0, 1))
    settings = {**about, "model": name}
    return (
        _estimate("score_old", wilson(old), settings),
        _estimate("score_new", wilson(new), settings),
        _estimate("score_change", paired(new, old), settings),
    )


def _turned(tables: dict[str, Table], ranked: Sequence[str], about: dict[str, Any]) -> list[Turned]:
    """The pairs of models whose order differs between the judges, on the prompts that both models answered."""
    found = []
    for ahead, behind in combinations(ranked, 2):
        prompts = sorted(tables[ahead].keys() & tables[behind].keys())
        if not prompts or _mean(tables[ahead], 1) >= _mean(tables[behind], 1):
            continue
        gaps = [
            paired([tables[ahead][p][judge] for p in prompts], [tables[behind][p][judge] for p in prompts])
            for judge in (0, 1)
        ]
        settings = {**about, "model": ahead, "baseline": behind}
        old, new = (
            _estimate("score_difference", gap, settings | {"by": by})
            for gap, by in zip(gaps, ("old", "new"), strict=True)
        )
        found.append(Turned(ahead=ahead, behind=behind, old=old, new=new, surely=old.low > 0 > new.high))
    return found


def _tau(tables: dict[str, Table]) -> Interval:
    """Kendall's tau-b of the two rankings, with prompts drawn anew for its interval."""
    names = list(tables)
    prompts = sorted({prompt for table in tables.values() for prompt in table})
    totals = np.zeros((len(prompts), len(names), 3))
    for m, name in enumerate(names):
        for p, prompt in enumerate(prompts):
            if prompt in tables[name]:
                totals[p, m] = (*tables[name][prompt], 1.0)
    return bootstrap_totals(totals, _tau_of, bounds=(-1, 1))


def _tau_of(sums: Floats) -> Floats:
    """Tau-b of scores that are sums over counts, shape (batch, models, 3); 0 where a judge tells no two models apart."""
    counts = np.maximum(sums[..., 2], 1e-9)
    signs = [_signs(sums[..., judge] / counts) for judge in (0, 1)]
    agreed = (signs[0] * signs[1]).sum(axis=1).astype(np.float64)
    size = np.sqrt((signs[0] ** 2).sum(axis=1) * (signs[1] ** 2).sum(axis=1))
    return np.where(size > 0, agreed / np.where(size > 0, size, 1.0), 0.0)


def _signs(scores: Floats) -> NDArray[np.int64]:
    """Who is ahead in every pair of models, shape (batch, pairs): 1, -1, or 0 for a tie."""
    first, second = np.triu_indices(scores.shape[1], k=1)
    gaps = scores[:, first] - scores[:, second]
    return np.where(np.abs(gaps) < 1e-12, 0, np.sign(gaps)).astype(np.int64)


def _estimate(name: str, interval: Interval, settings: dict[str, Any]) -> Estimate:
    return Estimate(
        name=name,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        method=interval.method,
        settings={**settings, "se": interval.se, "level": interval.level},
    )
