"""HumanEval: programs that pass their tests, pass@k without bias (Chen et al., arXiv 2107.03374).

The answers are run on this machine, limited in time and memory but in no jail, so nothing runs without
``--set judge.allow_code=true``. The unit is the problem.

    rlhf-eval evaluate humaneval --prompts HumanEval.jsonl.gz --model hf:PATH --set judge.allow_code=true
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, Grades, Shape, estimate, nothing_to_score
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Ints
from rlhf_eval.stats.passk import pass_at_k, pass_hat_k

SHAPE: Shape = "answers"
JUDGE: Mapping[str, Any] = {"judge": "verifier", "kind": "code"}
"""What decides, unless the user says otherwise."""

FORMAT = "humaneval"
"""How a file of its prompts is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of HumanEval."""

    level: float = 0.95
    """Confidence of the intervals."""
    k: tuple[int, ...] = (1, 10, 100)
    """Samples of which one must pass; those above the number drawn are left out."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """pass@k and pass^k of every model; raises UserError where no problem has a verdict."""
    found = [e for grades in evidence.grades() if len(grades.score) for e in _scored(grades, config)]
    if not found:
        raise nothing_to_score("humaneval", "program that was run")
    return found


def _scored(grades: Grades, config: Config) -> list[Estimate]:
    samples, correct = tally(grades.prompt.tolist(), grades.score.tolist())
    about = {"model": grades.model, "judge": grades.judge, "samples": int(samples.sum())}
    found = []
    for k in sorted(set(config.k)):
        if k <= samples.min():
            found.append(
                estimate(
                    f"pass@{k}",
                    pass_at_k(samples, correct, k=k, level=config.level),
                    failed=grades.lost,
                    settings=about,
                )
            )
            if k > 1:
                found.append(
                    estimate(
                        f"pass^{k}",
                        pass_hat_k(samples, correct, k=k, level=config.level),
                        failed=grades.lost,
                        settings=about,
                    )
                )
    if not found:
        raise UserError(f"k is {list(config.k)}, but a problem of {grades.model} has only {int(samples.min())} samples")
    return found


def tally(problems: Sequence[str], passed: Sequence[float]) -> tuple[Ints, Ints]:
    """Samples and correct samples of each problem."""
    _, index = np.unique(np.array(problems), return_inverse=True)
    return np.bincount(index), np.bincount(index, weights=np.array(passed)).astype(np.int64)
