"""Mean reward: what a grading judge gives each model's answers, and the paired difference from the first model.

Any judge of single answers will do: the sandbox's gold, a reward model, a verifier, a grade. The unit is the prompt;
several samples of one prompt are one cluster.

    rlhf-eval evaluate reward --model before=sandbox:policy --model after=run:latest:train --judge gold
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, Grades, Shape, estimate, nothing_to_score
from rlhf_eval.errors import UserError, nearest
from rlhf_eval.records import Estimate
from rlhf_eval.stats.intervals import mean_interval, paired

SHAPE: Shape = "answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the mean reward."""

    level: float = 0.95
    """Confidence of the intervals."""
    against: str = ""
    """The model whose reward the others are compared with; empty takes none and prints the means alone."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """The mean reward of every model under every judge, then the differences.

    Raises UserError where nothing was graded, or where ``against`` names no model that was.
    """
    graded = [grades for grades in evidence.grades() if len(grades.score)]
    if not graded:
        raise nothing_to_score("reward", "graded answer")
    found = []
    for judge, group in groupby(graded, key=lambda grades: grades.judge):
        models = list(group)
        found += [_mean(grades, config.level) for grades in models]
        found += _differences(judge, models, config)
    return found


def _mean(grades: Grades, level: float) -> Estimate:
    about = {"model": grades.model, "judge": grades.judge, "answers": len(grades.score)}
    interval = mean_interval(grades.score, grades.prompt, level=level)
    return estimate(f"reward: {grades.model}", interval, failed=grades.lost, settings=about)


def _differences(judge: str, models: Sequence[Grades], config: Config) -> list[Estimate]:
    by_model = {grades.model: _by_prompt(grades) for grades in models}
    if not config.against:
        return []
    if config.against not in by_model:
        raise UserError(f"against: '{config.against}' has no graded answer.{nearest(config.against, by_model)}")
    base = by_model[config.against]
    found = []
    for model, own in by_model.items():
        shared = sorted(own.keys() & base.keys())
        if model == config.against or not shared:
            continue
        gap = paired([own[p] for p in shared], [base[p] for p in shared], level=config.level)
        about = {"model": model, "baseline": config.against, "judge": judge, "p_value": gap.p_value}
        lost = len(own.keys() ^ base.keys())  # prompts of which only one of the two has a grade
        found.append(estimate(f"reward: {model} minus {config.against}", gap, failed=lost, settings=about))
    return found


def _by_prompt(grades: Grades) -> Mapping[str, float]:
    """Prompt to the mean of its answers' grades."""
    prompts, index = np.unique(grades.prompt, return_inverse=True)
    means = np.bincount(index, weights=grades.score) / np.bincount(index)
    return dict(zip(prompts.tolist(), means.tolist(), strict=True))
