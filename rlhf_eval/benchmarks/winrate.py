"""Win rate of a model against a baseline, with the judge's flips and slot preference beside it.

The unit is the prompt: both orders and all repeats of one prompt are one cluster, and the interval is Wilson's with an
effective n (``rlhf_eval.stats.intervals``; Miller, arXiv 2411.00640).

    rlhf-eval evaluate winrate --model sandbox:policy --baseline mock:echo --judge-model sandbox:judge
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.benchmarks.comparisons import Comparisons
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.intervals import Interval, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the win rate."""

    level: float = 0.95
    """Confidence of the intervals."""


def score(group: Comparisons, config: Config) -> list[Estimate]:
    """Win rate, flip rate and first-slot rate of one group; raises UserError where no judgment is readable."""
    if not len(group.share):
        raise UserError(
            f"{group.model} against {group.opponent}: all {group.unreadable} judgments of {group.judge} are unreadable; "
            "there is no win rate to show"
        )
    _, scores = group.by_prompt()
    counts = {
        "wins": int((scores > 0.5).sum()),
        "losses": int((scores < 0.5).sum()),
        "ties": int((scores == 0.5).sum()),
    }
    estimates = [_estimate("win_rate", wilson(scores, level=config.level), group, counts)]
    flips, clusters = flipped(group)
    if len(flips):
        estimates.append(_estimate("flip_rate", wilson(flips, clusters, level=config.level), group, {}))
    slot = np.where(group.shown_first, group.share, 1.0 - group.share)
    first = wilson(slot, group.prompt.astype(str), level=config.level)
    estimates.append(_estimate("first_slot_share", first, group, {}))
    return estimates


def flipped(group: Comparisons) -> tuple[Floats, NDArray[np.str_]]:
    """For each pair of completions judged in both orders: 1 if the orders name different winners; and its prompt."""
    sides: dict[str, dict[bool, list[float]]] = {}
    prompt_of: dict[str, str] = {}
    for pair, prompt, first, share in zip(group.pair, group.prompt, group.shown_first, group.share, strict=True):
        sides.setdefault(pair, {True: [], False: []})[bool(first)].append(share)
        prompt_of[pair] = prompt
    both = {pair: s for pair, s in sides.items() if s[True] and s[False]}
    flips = [float((np.mean(s[True]) - 0.5) * (np.mean(s[False]) - 0.5) < 0) for s in both.values()]
    return np.array(flips), np.array([prompt_of[pair] for pair in both], dtype=str)


def _estimate(name: str, interval: Interval, group: Comparisons, counts: dict[str, int]) -> Estimate:
    return Estimate(
        name=name,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        failed=group.lost,
        method=interval.method,
        settings={
            "model": group.model,
            "baseline": group.opponent,
            "judge": group.judge,
            "se": interval.se,
            "n_eff": interval.n_eff,
            "level": interval.level,
            "judgments": len(group.share),
            "unreadable": group.unreadable,
            "note": interval.note,
            **counts,
        },
    )
