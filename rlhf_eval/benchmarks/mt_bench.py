"""MT-Bench: single grades of 1 to 10 on two-turn questions (Zheng et al., arXiv 2306.05685).

One mean for each turn, and their overall mean over all graded turns. Both turns of a question are one cluster, which is why
80 questions give an interval of about half a point that MT-Bench itself does not print.

    rlhf-eval load mt_bench path/to/FastChat
    rlhf-eval evaluate mt_bench --judgments latest
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, Grades, Shape, estimate, nothing_to_score
from rlhf_eval.records import Estimate
from rlhf_eval.stats.intervals import mean_interval

SHAPE: Shape = "answers"
FORMAT = "mt_bench"
"""How a file or folder of its data is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of MT-Bench."""

    level: float = 0.95
    """Confidence of the intervals."""
    by_category: bool = True
    """Also one number for each category of questions."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Mean grade of every model: all turns, each turn, each category."""
    found = [e for grades in evidence.grades() if len(grades.score) for e in _scored(grades, config)]
    if not found:
        raise nothing_to_score("mt_bench", "grade")
    return found


def _scored(grades: Grades, config: Config) -> list[Estimate]:
    turn = np.array([int(prompt.metadata.get("turn", 1)) for prompt in grades.prompts])
    question = np.array([prompt.key or prompt.id for prompt in grades.prompts])
    category = np.array([prompt.category for prompt in grades.prompts])
    masks: dict[str, Any] = {"score": np.ones(len(turn), dtype=bool)}
    masks |= {f"score: turn {number}": turn == number for number in sorted(set(turn.tolist()))}
    if config.by_category and len(set(category.tolist())) > 1:
        masks |= {f"score: {name or 'no category'}": category == name for name in sorted(set(category.tolist()))}
    about = {"model": grades.model, "judge": grades.judge, "unreadable": grades.unreadable}
    return [
        estimate(
            name, mean_interval(grades.score[mask], question[mask], level=config.level),
            failed=grades.lost if name == "score" else 0, settings={**about, "grades": int(mask.sum())},
        )
        for name, mask in masks.items()
    ]  # fmt: skip
