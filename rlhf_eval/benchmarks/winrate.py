"""Win rate of a model against a baseline, with the judge's flips and slot preference beside it.

The unit is the prompt: both orders and all repeats of one prompt are one cluster, and the interval is Wilson's with an
effective n (``rlhf_eval.stats.intervals``; Miller, arXiv 2411.00640). Where every prompt was judged in one order, what the
order adds is no noise and is kept out.

    rlhf-eval evaluate winrate --model sandbox:policy --baseline mock:echo --judge-model sandbox:judge
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.benchmarks.comparisons import Comparisons
from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate, nothing_to_score
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.intervals import Interval, wilson

SHAPE: Shape = "versus"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the win rate."""

    level: float = 0.95
    """Confidence of the intervals."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """The rates of every judge, model and baseline; raises UserError where a group has no readable judgment."""
    groups = evidence.comparisons()
    if not groups:
        raise nothing_to_score("winrate", "comparison of a model with its baseline")
    return [found for group in groups for found in rates(group, config)]


def rates(group: Comparisons, config: Config) -> list[Estimate]:
    """Win rate, flip rate and first-slot rate of one group; raises UserError where no judgment is readable."""
    if not len(group.share):
        raise UserError(
            f"{group.model} against {group.opponent}: all {group.unreadable} judgments of {group.judge} are unreadable; "
            "there is no win rate to show"
        )
    _, scores = group.by_prompt()
    about = {"model": group.model, "baseline": group.opponent, "judge": group.judge}
    estimates = [
        rate(
            scores,
            swapped=group.swapped(),
            level=config.level,
            about=about,
            judgments=len(group.share),
            unreadable=group.unreadable,
            lost=group.lost,
        )
    ]
    flips, clusters = flipped(group)
    if len(flips):
        estimates.append(_estimate("flip_rate", wilson(flips, clusters, level=config.level), group, {}))
    slot = np.where(group.shown_first, group.share, 1.0 - group.share)
    first = wilson(slot, group.prompt.astype(str), level=config.level)
    estimates.append(_estimate("first_slot_share", first, group, {}))
    return estimates


def rate(
    scores: Floats, *, swapped: NDArray[np.bool_] | None, level: float, about: Mapping[str, str], judgments: int,
    unreadable: int, lost: int,
) -> Estimate:  # fmt: skip
    """The win rate from one score a prompt; ``about`` names model, baseline and judge.

    ``swapped`` says in which order each prompt was judged; None where it was judged in several.
    """
    counts = {
        "wins": int((scores > 0.5).sum()),
        "losses": int((scores < 0.5).sum()),
        "ties": int((scores == 0.5).sum()),
    }
    settings = {**about, "judgments": judgments, "unreadable": unreadable, **counts}
    return estimate("win_rate", wilson(scores, swapped=swapped, level=level), failed=lost, settings=settings)


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
    settings = {
        "model": group.model,
        "baseline": group.opponent,
        "judge": group.judge,
        "judgments": len(group.share),
        "unreadable": group.unreadable,
        **counts,
    }
    return estimate(name, interval, failed=group.lost, settings=settings)
