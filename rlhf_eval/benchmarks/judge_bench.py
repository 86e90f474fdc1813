"""JudgeBench: pairs of which one answer is objectively right, judged in both orders (Tan et al., arXiv 2410.12784).

A verdict for the right answer counts +1, for the wrong one -1, a tie or an unreadable verdict 0; a pair is won where the
sum over both orders is positive. The number is the share of pairs won, over all pairs alike (a mean over sources has been
published by mistake); each source has its own beside it.

    rlhf-eval evaluate judge_bench --judgments latest
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate, nothing_to_score
from rlhf_eval.benchmarks.labels import Item, decided
from rlhf_eval.records import Estimate
from rlhf_eval.stats.intervals import wilson

SHAPE: Shape = "labels"
FORMAT = "judge_bench"
"""How a file or folder of its data is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of JudgeBench."""

    level: float = 0.95
    """Confidence of the intervals."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """The share of pairs won by every judge, over all pairs and by source."""
    found: list[Estimate] = []
    for judge in evidence.judges:
        labelled = decided(evidence, judge)
        if labelled:
            found.append(_accuracy("accuracy", judge, labelled, config.level))
            for source in sorted({item.prompt.category for item in labelled}):
                mine = [item for item in labelled if item.prompt.category == source]
                found.append(_accuracy(f"accuracy: {source}", judge, mine, config.level))
    if not found:
        raise nothing_to_score("judge_bench", "judgment on a labelled pair")
    return found


def won(item: Item) -> bool:
    """Whether the right answer got more verdicts than the wrong one."""
    votes = [np.sign(vote.scores[item.right].min() - vote.scores[~item.right].max()) for vote in item.read]
    return float(np.sum(votes)) > 0


def _accuracy(name: str, judge: str, labelled: Sequence[Item], level: float) -> Estimate:
    prompts = np.array([item.prompt.id for item in labelled])
    unreadable = sum(len(item.votes) - len(item.read) for item in labelled)
    interval = wilson([float(won(item)) for item in labelled], prompts, level=level)
    return estimate(name, interval, settings={"judge": judge, "pairs": len(labelled), "unreadable": unreadable})
