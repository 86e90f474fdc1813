"""What a section of an audit hands over: a number that can be had at any confidence, or why there is none.

Measure(name="flip_rate", section="position", says="...", at=lambda level: wilson(flips, prompts, level=level))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import numpy as np

from rlhf_eval.audit.evidence import Evidence, Pair, sign
from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.intervals import Interval, bounded_mean, mean_interval, wilson

Unit = Literal["share", "difference", "index", "log-odds", "dollars", "seconds", "tokens", "number"]

LEAST = 5
"""Prompts below which nothing is said about a judge."""

SHARPEST = 1e-6
"""A stated probability closer to 0 or 1 counts as this close: log-odds of a rounded 1 would be infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number of an audit."""

    name: str
    section: str
    says: str
    """What it is, in one sentence."""
    at: Callable[[float], Interval]
    """Confidence level to interval."""
    unit: Unit = "share"
    neutral: float | None = None
    """What an unbiased judge shows; None where no value is the right one."""
    side: int = 0
    """Which side of neutral is a fault: 1 above, -1 below, 0 both."""
    failed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A number that the judgments at hand do not give."""

    name: str
    section: str
    why: str
    """What is lacking, and what brings it."""


Entry = Measure | Missing


def share_of(
    values: Sequence[float] | Floats, prompts: Sequence[str], *, name: str, section: str, says: str, **rest: Any
) -> Entry:
    """The mean of values in [0, 1] with Wilson's interval, clustered by prompt."""
    return _guarded(prompts, Measure(name=name, section=section, says=says, at=_wilson(values, prompts), **rest))


def mean_of(
    values: Sequence[float] | Floats, prompts: Sequence[str], *, name: str, section: str, says: str, **rest: Any
) -> Entry:
    """The mean of any values with a t interval, clustered by prompt."""
    return _guarded(prompts, Measure(name=name, section=section, says=says, at=_t(values, prompts), **rest))


def difference_of(
    values: Sequence[float] | Floats, prompts: Sequence[str], *, name: str, section: str, says: str, most: float = 1.0,
    **rest: Any,
) -> Entry:  # fmt: skip
    """The mean of differences that lie between ``-most`` and ``most``, with an interval that does too."""
    clusters = np.asarray(prompts, dtype=str)
    at = cache(lambda level: bounded_mean(values, -most, most, clusters, level=level))
    return _guarded(prompts, Measure(name=name, section=section, says=says, at=at, unit="difference", **rest))


def fixed(
    interval: Callable[[], Interval], prompts: Sequence[str], *, name: str, section: str, says: str, **rest: Any
) -> Entry:
    """A number that is shown at 95 % only: it raises no alarm, and is worked out once."""

    @cache
    def at(level: float) -> Interval:
        return interval()

    return _guarded(prompts, Measure(name=name, section=section, says=says, at=at, **rest))


def _guarded(prompts: Sequence[str], measure: Measure) -> Entry:
    """The measure, or what it lacks: too few prompts, or a sample in which it is not defined."""
    count = len(set(prompts))
    if count < LEAST:
        return Missing(
            name=measure.name, section=measure.section, why=f"only {count} prompts tell; at least {LEAST} are needed"
        )
    try:
        measure.at(0.95)
    except UserError as error:
        return Missing(name=measure.name, section=measure.section, why=str(error))
    return measure


def _wilson(values: Sequence[float] | Floats, prompts: Sequence[str]) -> Callable[[float], Interval]:
    clusters = np.asarray(prompts, dtype=str)
    return cache(lambda level: wilson(values, clusters, level=level))


def _t(values: Sequence[float] | Floats, prompts: Sequence[str]) -> Callable[[float], Interval]:
    clusters = np.asarray(prompts, dtype=str)
    return cache(lambda level: mean_interval(values, clusters, level=level))


def mapped(interval: Interval, rising: Callable[[float], float], method: str) -> Interval:
    """The interval of a rising function of what ``interval`` is about."""
    return replace(
        interval,
        value=rising(interval.value),
        low=rising(interval.low),
        high=rising(interval.high),
        method=f"{method} of {interval.method}",
    )


def log_odds(share: float) -> float:
    """``log(p/(1-p))``, of a share that is kept away from 0 and 1."""
    p = min(1 - SHARPEST, max(SHARPEST, share))
    return math.log(p / (1 - p))


def is_soft(evidence: Evidence) -> bool:
    """Whether most verdicts state a probability, not merely a winner."""
    shares = [share for pair in evidence.natural() for order, share in pair.single if order]
    return sum(share not in (0.0, 0.5, 1.0) for share in shares) > len(shares) / 2


def credit(share: float, winner: int) -> float:
    """1 where a share of ``a`` names the winner, 0 where it names the other, a half where it names none."""
    said = sign(share)
    return float(said == winner) if said else 0.5


def decided(evidence: Evidence) -> list[tuple[Pair, int]]:
    """The judged pairs of which the reference names a winner, with who it is: 1 for ``a``, -1 for ``b``."""
    _, labels = evidence.truth
    found = []
    for pair in evidence.natural():
        label = labels.get((pair.a.id, pair.b.id))
        if label is not None and label.winner and pair.mean is not None:
            found.append((pair, label.winner))
    return found


def winners_share(pair: Pair, winner: int) -> float:
    """The judge's share for the answer that the reference prefers, over both orders."""
    mean = pair.mean
    if mean is None:
        raise AssertionError("a pair without a verdict has no share")
    return mean if winner > 0 else 1.0 - mean
