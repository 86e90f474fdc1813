"""The audit of a judge: from what it said to what it is worth, what moves it, and what has not been measured.

Pure: records in, findings out. An alarm is raised only where the whole interval lies beyond what an unbiased judge
shows, by more than a tolerance, at a confidence that counts all the questions that were asked at once (Bonferroni), so that
a fair judge passes all of them together 95 times in 100 or more.

    card = audit(gather(name, judgments, completions, {"gold": gold}))
    [finding.name for finding in card.findings if finding.alarm]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

from rlhf_eval.audit import bias, injection, noise, truth
from rlhf_eval.audit.card import Finding
from rlhf_eval.audit.evidence import Evidence
from rlhf_eval.audit.measures import Entry, Measure, Missing
from rlhf_eval.records import Estimate
from rlhf_eval.stats.intervals import Interval

SECTIONS = (
    truth.agreement,
    bias.position,
    bias.length,
    bias.style,
    bias.self_preference,
    noise.noise,
    truth.calibration,
    noise.reading,
    injection.injection,
    noise.cost,
    truth.information,
)
"""In the order of the card."""

BOUNDS = {"difference": (-1.0, 1.0), "dollars": (0.0, inf), "seconds": (0.0, inf), "tokens": (0.0, inf)}
"""What a number of a unit can be; a t interval does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How an audit speaks."""

    level: float = 0.95
    """Confidence of the intervals that are shown."""
    tolerance: float = 0.02
    """A bias surely smaller than this raises no alarm (a share, or a difference of shares)."""
    error: float = 0.05
    """Chance that a judge without any fault raises one alarm or more."""


def audit(evidence: Evidence, config: Config | None = None) -> tuple[Finding, ...]:
    """Every finding about a judge, measured or not, in the order of the card."""
    chosen = config or Config()
    entries = [entry for section in SECTIONS for entry in section(evidence)]
    questions = sum(isinstance(entry, Measure) and entry.neutral is not None for entry in entries)
    strict = 1 - chosen.error / max(questions, 1)
    return tuple(_finding(entry, chosen, strict, evidence.judge) for entry in entries)


def _finding(entry: Entry, config: Config, strict: float, judge: str) -> Finding:
    if isinstance(entry, Missing):
        return Finding(name=entry.name, section=entry.section, missing=entry.why)
    interval = entry.at(config.level)
    if not (isfinite(interval.low) and isfinite(interval.high)):
        return Finding(name=entry.name, section=entry.section, missing="too few prompts for an interval")
    least, most = BOUNDS.get(entry.unit, (-inf, inf))
    value, low, high = (min(most, max(least, x)) for x in (interval.value, interval.low, interval.high))
    settings = {"judge": judge, "se": interval.se, "level": interval.level, "note": interval.note, **entry.settings}
    if entry.neutral is not None:
        settings |= {"neutral": entry.neutral, "alarm_level": strict, "tolerance": config.tolerance}
    return Finding(
        name=entry.name,
        section=entry.section,
        says=entry.says,
        unit=entry.unit,
        alarm=entry.neutral is not None and _beyond(entry, entry.at(strict), config.tolerance),
        estimate=Estimate(
            name=entry.name,
            value=value,
            low=low,
            high=high,
            n=interval.n,
            failed=entry.failed,
            method=interval.method,
            settings=settings,
        ),
    )


def _beyond(entry: Measure, interval: Interval, tolerance: float) -> bool:
    """Whether the interval lies beyond neutral on a side that is a fault."""
    neutral = entry.neutral or 0.0
    above, below = interval.low > neutral + tolerance, interval.high < neutral - tolerance
    return {1: above, -1: below, 0: above or below}[entry.side]


def by_name(findings: Sequence[Finding]) -> dict[str, Finding]:
    """The findings by name; no two of an audit share one."""
    return {finding.name: finding for finding in findings}
