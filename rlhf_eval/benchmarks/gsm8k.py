"""GSM8K: the share of word problems whose final number is right (Cobbe et al., arXiv 2110.14168).

An answer without the form asked for (``A:`` or ``####``) is wrong; ``--set judge.kind=number`` takes the last number
instead. The unit is the problem, so several samples of one problem are one cluster.

    rlhf-eval evaluate gsm8k --prompts test.jsonl --model hf:PATH
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate, nothing_to_score
from rlhf_eval.records import Estimate
from rlhf_eval.stats.intervals import wilson

SHAPE: Shape = "answers"
JUDGE: Mapping[str, Any] = {"judge": "verifier", "kind": "gsm8k"}
"""What decides, unless the user says otherwise."""

FORMAT = "gsm8k"
"""How a file of its prompts is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of GSM8K."""

    level: float = 0.95
    """Confidence of the intervals."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Accuracy of every model; raises UserError where nothing was decided."""
    found = [
        estimate(
            "accuracy",
            wilson(grades.score, grades.prompt, level=config.level),
            failed=grades.lost,
            settings={"model": grades.model, "judge": grades.judge, "answers": len(grades.score)},
        )
        for grades in evidence.grades()
        if len(grades.score)
    ]
    if not found:
        raise nothing_to_score("gsm8k", "answer that was checked")
    return found
