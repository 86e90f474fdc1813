"""WildBench: grades of 1 to 10, and comparisons that may be won slightly or by much (Lin et al., arXiv 2406.04770).

``score`` is the mean grade; ``adjusted_score`` is twice its distance from 5. A comparison counts 1 where it is won by
much, .5 where slightly, and its mirror image where it is lost; a slight win by an answer more than ``margin`` characters
longer is a tie.

    rlhf-eval evaluate wildbench --model tonight=hf:checkpoints/dpo --judge grade --judge-model openai:JUDGE@URL
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, Grades, Shape, estimate, nothing_to_score
from rlhf_eval.records import Estimate, Judgment
from rlhf_eval.stats.intervals import Interval, bounded_mean, mean_interval

SHAPE: Shape = "answers"
FORMAT = "wildbench"
"""How a file or folder of its data is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of WildBench."""

    level: float = 0.95
    """Confidence of the intervals."""
    margin: int = 500
    """Characters by which a slight winner may be longer; a negative number switches the rule off."""
    floor: float = 5.0
    """The grade that counts as 0 in the adjusted score."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Mean grades of every model, and rewards of those that were compared."""
    found = [e for grades in evidence.grades() if len(grades.score) for e in _graded(grades, config)]
    found += _rewards(evidence, config)
    if not found:
        raise nothing_to_score("wildbench", "grade or comparison")
    return found


def _graded(grades: Grades, config: Config) -> list[Estimate]:
    about = {"model": grades.model, "judge": grades.judge, "unreadable": grades.unreadable}
    plain = mean_interval(grades.score, grades.prompt, level=config.level)
    adjusted = _scaled(plain, 2, -2 * config.floor)
    return [
        estimate("score", plain, failed=grades.lost, settings=about),
        estimate("adjusted_score", adjusted, failed=grades.lost, settings=about),
    ]


def _scaled(interval: Interval, factor: float, shift: float) -> Interval:
    low, value, high = (factor * x + shift for x in (interval.low, interval.value, interval.high))
    return replace(interval, low=low, value=value, high=high, se=factor * interval.se)


def _rewards(evidence: Evidence, config: Config) -> list[Estimate]:
    groups: dict[tuple[str, str, str], list[Judgment]] = defaultdict(list)
    for judgment in evidence.judgments:
        if len(judgment.completion_ids) == 2:
            model, opponent = (evidence.completions[c].model for c in judgment.completion_ids)
            groups[judgment.judge, model, opponent].append(judgment)
    found = sorted(groups.items())
    return [_reward(evidence, key, group, config) for key, group in found if any(j.scores for j in group)]


def _reward(evidence: Evidence, key: tuple[str, str, str], asked: Sequence[Judgment], config: Config) -> Estimate:
    group = [judgment for judgment in asked if judgment.scores]
    values = [reward(evidence, judgment, config.margin) for judgment in group]
    interval = bounded_mean(values, -1, 1, np.array([j.prompt_id for j in group]), level=config.level)
    about = {"judge": key[0], "model": key[1], "baseline": key[2], "unreadable": len(asked) - len(group)}
    lost = {j.prompt_id for j in asked} - {j.prompt_id for j in group}
    return estimate("reward", interval, failed=len(lost), settings=about)


def reward(evidence: Evidence, judgment: Judgment, margin: int) -> float:
    """What a comparison is worth to its first model: 1, .5, 0, -.5 or -1."""
    lead = judgment.scores[0] - judgment.scores[1]
    if lead == 0:
        return 0.0
    slight = judgment.metadata.get("extent", 2) == 1
    lengths = [len(evidence.completions[c].text) for c in judgment.completion_ids]
    longer = (lengths[0] - lengths[1]) * (1 if lead > 0 else -1)
    if slight and 0 <= margin < longer:
        return 0.0
    return float(np.sign(lead)) * (0.5 if slight else 1.0)
