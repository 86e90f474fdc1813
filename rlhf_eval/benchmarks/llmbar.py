"""LLMBar: does a judge see which answer follows the instruction, and say the same in both orders (arXiv 2310.07641)?

An unreadable verdict counts as wrong, and as disagreement unless both orders are unreadable, as upstream counts.

    rlhf-eval load llmbar path/to/LLMBar
    rlhf-eval evaluate llmbar --judgments latest
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate, nothing_to_score
from rlhf_eval.benchmarks.labels import Item, Vote, decided
from rlhf_eval.records import Estimate
from rlhf_eval.stats.agreement import cohen_kappa
from rlhf_eval.stats.intervals import wilson

SHAPE: Shape = "labels"
FORMAT = "llmbar"
"""How a file or folder of its data is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of LLMBar."""

    level: float = 0.95
    """Confidence of the intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What upstream publishes of one judge on one subset; counts of items."""

    correct_plain: int
    """Right with the outputs as they are."""
    correct_swapped: int
    correct_both: int
    equal: int
    """The same verdict in both orders."""
    kappa_agreement: float
    """Cohen's kappa of the two orders."""
    kappa_plain: float
    """Upstream's kappa with the label, whose codes (1, 0) and (1, 2) differ: kept for parity, means nothing."""
    kappa_swapped: float
    items: int


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Accuracy (mean of both orders), accuracy in both, and agreement of the orders, for every judge and subset."""
    found: list[Estimate] = []
    for judge in evidence.judges:
        labelled = decided(evidence, judge)
        for category in sorted({item.prompt.category for item in labelled}):
            found += _subset(judge, category, [i for i in labelled if i.prompt.category == category], config.level)
    if not found:
        raise nothing_to_score("llmbar", "judgment on a labelled pair")
    return found


def counts(labelled: Sequence[Item]) -> Counts:
    """The published counts from items that were judged once in each order."""
    plain, swapped, label = _choices(labelled)
    ones = [[int(choice == 0) for choice in choices] for choices in (plain, swapped)]
    coded = [choice + 1 for choice in label]
    return Counts(
        correct_plain=sum(map(_same, plain, label)),
        correct_swapped=sum(map(_same, swapped, label)),
        correct_both=sum(p == s == right for p, s, right in zip(plain, swapped, label, strict=True)),
        equal=sum(map(_same, plain, swapped)),
        kappa_agreement=cohen_kappa(ones[0], ones[1]),
        kappa_plain=cohen_kappa(ones[0], coded),
        kappa_swapped=cohen_kappa(ones[1], coded),
        items=len(labelled),
    )


def _choices(labelled: Sequence[Item]) -> tuple[list[int], list[int], list[int]]:
    """The answer chosen in each order, -1 where none could be read, and the right one."""
    plain = [_choice(item, 0) for item in labelled]
    swapped = [_choice(item, 1) for item in labelled]
    return plain, swapped, [int(np.argmax(item.right)) for item in labelled]


def _choice(item: Item, first: int) -> int:
    votes: list[Vote] = [vote for vote in item.votes if vote.first in (first, None)]
    if not votes or not len(votes[0].scores) or votes[0].scores[0] == votes[0].scores[1]:
        return -1
    return int(np.argmax(votes[0].scores))


def _same(a: Any, b: Any) -> bool:
    return bool(a == b)


def _subset(judge: str, category: str, labelled: Sequence[Item], level: float) -> list[Estimate]:
    plain, swapped, label = (np.array(choices) for choices in _choices(labelled))
    prompts = np.array([item.prompt.id for item in labelled])
    settings = {"judge": judge, "category": category, "unreadable": int((plain < 0).sum() + (swapped < 0).sum())}
    right = ((plain == label).astype(float) + (swapped == label)) / 2
    both = (plain == label) & (swapped == label)
    named = {"accuracy": right, "accuracy_both_orders": both, "orders_agree": plain == swapped}
    return [
        estimate(f"{name}: {category}", wilson(np.asarray(values, float), prompts, level=level), settings=settings)
        for name, values in named.items()
    ]
