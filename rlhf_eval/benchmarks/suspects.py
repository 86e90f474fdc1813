"""Labels that a judge or reward model does not believe, and, where some were turned on purpose, how well it finds them.

A label is suspect where its answer gets a probability under ``1 - lam``: R3M's rule (Bukharin et al., arXiv 2406.15568,
equation 3.4; there ``sigmoid(margin)``). ``auroc`` is the chance that a turned label is believed less than a sound one. A
reward model that has long been trained on the labels in question believes the turned ones too: judge early, or judge
pairs that it has not seen.

    rlhf-eval corrupt pairs.jsonl --kind random --rate 0.2 --out noisy.jsonl
    rlhf-eval evaluate suspects --prompts noisy.jsonl --judge reward_model --judge-model run:latest:train
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate, nothing_to_score
from rlhf_eval.benchmarks.labels import Item, decided
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Bools, Floats
from rlhf_eval.stats.bootstrap import cluster_draws, from_replicates
from rlhf_eval.stats.corruption import auroc
from rlhf_eval.stats.intervals import Interval, wilson
from rlhf_eval.stats.suspects import perturbation

SHAPE: Shape = "labels"
DRAWS = 200
"""Draws of the bootstrap of prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the audit of labels."""

    level: float = 0.95
    """Confidence of the intervals."""
    lam: float = 0.7
    """A label is suspect under a probability of 1 - lam."""

    def __post_init__(self) -> None:
        if not 0 < self.lam < 1:
            raise ValueError(f"lam is {self.lam:g}; it lies between 0 and 1")


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """The share of suspects under every judge; with turned labels also auroc, precision and recall."""
    found: list[Estimate] = []
    for judge in evidence.judges:
        pairs = [item for item in decided(evidence, judge) if len(item.answers) == 2]
        if read := [item for item in pairs if item.read]:
            found += _of_judge(judge, read, evidence, config, unread=len(pairs) - len(read))
    if not found:
        raise nothing_to_score("suspects", "judgment on a labelled pair")
    return found


def believed(item: Item) -> float:
    """The probability of the label under the judge: of the rewards' margin, or the share that a comparison gave."""
    gap = float(np.mean([vote.scores[item.right][0] - vote.scores[~item.right][0] for vote in item.read]))
    return float(scipy.special.expit(gap)) if item.graded else (1 + gap) / 2


def _of_judge(judge: str, read: Sequence[Item], evidence: Evidence, config: Config, *, unread: int) -> list[Estimate]:
    prompts = np.array([item.prompt.id for item in read])
    belief = np.array([believed(item) for item in read])
    suspect = perturbation(scipy.special.logit(belief), config.lam) > 0
    about = {"judge": judge, "lam": config.lam}
    found = [estimate("suspects", wilson(suspect.astype(float), prompts, level=config.level), failed=unread,
                      settings=about)]  # fmt: skip
    marks = [evidence.turned.get(tuple(answer.id for answer in item.answers)) for item in read]
    known = np.array([mark is not None for mark in marks])
    turned = np.array([bool(mark) for mark in marks])
    if turned.any() and not turned[known].all():
        ranked = _auroc(-belief[known], turned[known], prompts[known], config.level)
        found.append(estimate("auroc", ranked, failed=unread, settings=about))
        for name, among, hit in (("precision", suspect & known, turned), ("recall", turned, suspect)):
            if among.any():
                share = wilson(hit[among].astype(float), prompts[among], level=config.level)
                found.append(estimate(name, share, settings=about))
    return found


def _auroc(score: Floats, turned: Bools, prompts: NDArray[np.str_], level: float) -> Interval:
    """With a bootstrap over prompts; draws that hold labels of one kind only are left out."""
    names, index = np.unique(prompts, return_inverse=True)
    drawn = []
    for weights in (row for block in cluster_draws(len(names), DRAWS, 0) for row in block):
        rows = np.repeat(np.arange(len(index)), weights[index].astype(np.int64))
        if turned[rows].any() and not turned[rows].all():
            drawn.append(auroc(score[rows], turned[rows]))
    value = auroc(score, turned)
    method = f"cluster bootstrap, expanded percentile, {DRAWS} draws, seed 0"
    return from_replicates(value, np.array(drawn), len(names), level=level, method=method, bounds=(0, 1))
