"""Any preference file: how often a judge or reward model prefers the answer that the label prefers.

An item's score is the mean over its readable votes: 1 right, .5 undecided, 0 wrong. Repeats of an order are averaged before
the two orders are, so that a judge is not rewarded for the order it was asked in more often. Unreadable items are counted
and set aside; ``accuracy_if_wrong`` beside it counts them as wrong.

    rlhf-eval evaluate preference --prompts run:pairs.jsonl --judge-model openai:JUDGE@http://localhost:8001/v1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate, nothing_to_score
from rlhf_eval.benchmarks.labels import Item, credit, decided
from rlhf_eval.records import Estimate
from rlhf_eval.stats.intervals import wilson

SHAPE: Shape = "labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the agreement with labels."""

    level: float = 0.95
    """Confidence of the intervals."""
    by_category: bool = True
    """Also one number for each category of prompts."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Accuracy of every judge, over all items and by category; items whose label is a tie are left out."""
    found: list[Estimate] = []
    for judge in evidence.judges:
        if labelled := decided(evidence, judge):
            found += _of_judge(judge, labelled, config)
    if not found:
        raise nothing_to_score("preference", "judgment on a labelled item")
    return found


def _of_judge(judge: str, labelled: Sequence[Item], config: Config) -> list[Estimate]:
    credits = [(item, credit(item)) for item in labelled]
    found = _accuracy("accuracy", judge, credits, config.level)
    every = np.array([value or 0.0 for _, value in credits])
    prompts = np.array([item.prompt.id for item in labelled])
    lost = len({item.prompt.id for item, value in credits if value is None})
    whole = wilson(every, prompts, level=config.level)
    found.append(estimate("accuracy_if_wrong", whole, failed=lost, settings={"judge": judge}))
    categories = sorted({item.prompt.category for item in labelled})
    if config.by_category and len(categories) > 1:
        for category in categories:
            mine = [(item, value) for item, value in credits if item.prompt.category == category]
            found += _accuracy(f"accuracy: {category or 'no category'}", judge, mine, config.level)
    return found


def _accuracy(name: str, judge: str, credits: Sequence[tuple[Item, float | None]], level: float) -> list[Estimate]:
    read = [(item, value) for item, value in credits if value is not None]
    if not read:
        return []
    prompts = np.array([item.prompt.id for item, _ in read])
    interval = wilson([value for _, value in read], prompts, level=level)
    unread = len({i.prompt.id for i, v in credits if v is None} - set(prompts.tolist()))
    return [estimate(name, interval, failed=unread, settings={"judge": judge, "items": len(read)})]
