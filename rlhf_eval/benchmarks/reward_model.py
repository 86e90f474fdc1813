"""A reward model on labelled pairs: accuracy, whether its margins mean what they say, and what it thinks of length.

Accuracy is that of ``preference``, over all pairs and by category. ``P(chosen) = sigmoid(margin)`` is held against what
was chosen: Brier score, log loss and calibration error, each pair counted in both directions, and the temperature that
would mend the margins. ``prefers_longer`` is how often the longer answer gets the higher reward, beside how often it is
the better one.

    rlhf-eval evaluate reward_model --prompts pairs.jsonl --judge reward_model --judge-model run:latest:train
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from rlhf_eval.benchmarks import preference
from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate, nothing_to_score
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.bootstrap import cluster_draws, from_replicates
from rlhf_eval.stats.calibration import calibration, ece_interval, fit_temperature
from rlhf_eval.stats.intervals import Interval, wilson
from rlhf_eval.stats.reward_models import within_prompt_correlation

SHAPE: Shape = "labels"
DRAWS = 200
"""Draws of the bootstraps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the reward model benchmark."""

    level: float = 0.95
    """Confidence of the intervals."""
    by_category: bool = True
    """Also one accuracy for each category of prompts."""


class Graded(NamedTuple):
    """The pairs that a judge graded on both sides, aligned arrays of shape (pairs,)."""

    prompt: NDArray[np.str_]
    margin: Floats
    """Reward of the right answer minus that of the wrong one."""
    longer: Floats
    """Characters of the right answer minus those of the wrong one."""
    lost: int
    """Prompts with a pair of which an answer has no grade that could be read."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Accuracy, calibration and length of every judge that grades; labels that are ties are left out."""
    found = preference.score(evidence, preference.Config(level=config.level, by_category=config.by_category))
    graded = {judge: _graded(evidence, judge) for judge in evidence.judges}
    if not any(len(pairs.margin) for pairs in graded.values()):
        raise nothing_to_score("reward_model", "pair of which a judge graded both answers")
    for judge, pairs in graded.items():
        if len(pairs.margin):
            found += _calibration(judge, pairs, config.level)
            found += _length(judge, pairs, config.level)
            found += _correlation(evidence, judge, config.level)
    return found


def _graded(evidence: Evidence, judge: str) -> Graded:
    rewards = _rewards(evidence, judge)
    asked = {judgment.completion_ids[0] for judgment in evidence.by(judge) if len(judgment.completion_ids) == 1}
    rows, lost = [], set()
    for ids, label in evidence.labels.items():
        if len(ids) != 2 or label[0] == label[1] or not asked.issuperset(ids):
            continue
        if not all(i in rewards for i in ids):
            lost.add(evidence.completions[ids[0]].prompt_id)
        else:
            right, wrong = ids if label[0] > label[1] else ids[::-1]
            lengths = [len(evidence.completions[i].text) for i in (right, wrong)]
            rows.append(
                (evidence.completions[right].prompt_id, rewards[right] - rewards[wrong], lengths[0] - lengths[1])
            )
    prompts, margins, longer = zip(*rows, strict=True) if rows else ((), (), ())
    return Graded(
        np.array(prompts, dtype=np.str_), np.array(margins, dtype=np.float64), np.array(longer, dtype=np.float64),
        len(lost),
    )  # fmt: skip


def _rewards(evidence: Evidence, judge: str) -> dict[str, float]:
    """Completion to the mean of its readable grades."""
    grades: dict[str, list[float]] = {}
    for judgment in evidence.by(judge):
        if len(judgment.completion_ids) == 1 and judgment.scores:
            grades.setdefault(judgment.completion_ids[0], []).append(judgment.scores[0])
    return {identity: float(np.mean(own)) for identity, own in grades.items()}


def _calibration(judge: str, pairs: Graded, level: float) -> list[Estimate]:
    # Both directions, or a model that calls every first answer better would look calibrated.
    logits = np.concatenate([pairs.margin, -pairs.margin])
    p, y = scipy.special.expit(logits), np.repeat([1.0, 0.0], len(pairs.margin))
    clusters = np.tile(pairs.prompt, 2)
    whole = calibration(p, y, clusters, level=level, draws=DRAWS)
    null = {"judge": judge, "null": whole.ece_null, "p_value": whole.p_value, "bins": whole.bins}
    found = [
        estimate("brier", whole.brier, failed=pairs.lost, settings={"judge": judge}),
        estimate("log_loss", whole.log_loss, failed=pairs.lost, settings={"judge": judge}),
        estimate("ece", ece_interval(p, y, clusters, level=level, draws=DRAWS), failed=pairs.lost, settings=null),
    ]
    if (temperature := _temperature(pairs, level)) is not None:
        found.append(estimate("temperature", temperature, failed=pairs.lost, settings={"judge": judge}))
    return found


def _temperature(pairs: Graded, level: float) -> Interval | None:
    """The temperature that makes the margins fit, with a bootstrap over prompts; None where none does."""
    prompts, index = np.unique(pairs.prompt, return_inverse=True)
    try:
        value = fit_temperature(pairs.margin, np.ones(len(pairs.margin)))
    except UserError:  # always right, or no better than chance
        return None
    replicates = []
    for weights in (row for block in cluster_draws(len(prompts), DRAWS, 0) for row in block):
        rows = np.repeat(np.arange(len(index)), weights[index].astype(np.int64))
        try:
            replicates.append(fit_temperature(pairs.margin[rows], np.ones(len(rows))))
        except UserError:
            return None
    method = f"cluster bootstrap, expanded percentile, {DRAWS} draws, seed 0"
    return from_replicates(value, np.array(replicates), len(prompts), level=level, method=method, bounds=(0, math.inf))


def _length(judge: str, pairs: Graded, level: float) -> list[Estimate]:
    differ = pairs.longer != 0
    if not differ.any():
        return []
    longer_wins = np.where(pairs.margin == 0, 0.5, (pairs.margin > 0) == (pairs.longer > 0))[differ]
    settings = {"judge": judge, "longer_is_right": float((pairs.longer[differ] > 0).mean())}
    share = wilson(longer_wins, pairs.prompt[differ], level=level)
    return [estimate("prefers_longer", share, failed=pairs.lost, settings=settings)]


def _correlation(evidence: Evidence, judge: str, level: float) -> list[Estimate]:
    """Spearman's correlation of reward and length within prompts, where they have three answers or more."""
    rewards = _rewards(evidence, judge)
    asked = [evidence.completions[identity] for identity in rewards]
    try:
        interval = within_prompt_correlation(
            list(rewards.values()), [len(c.text) for c in asked], [c.prompt_id for c in asked], level=level
        )
    except UserError:
        return []
    return [estimate("length_correlation", interval, settings={"judge": judge})]
