"""IFEval: instructions that a program can check, by prompt and by instruction, strict and loose (arXiv 2311.07911).

The four numbers come from one set of judgments. Instructions of one prompt are one cluster; counting them as independent
makes the instruction-level error too small.

    rlhf-eval evaluate ifeval --prompts input_data.jsonl --model hf:PATH
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate, nothing_to_score
from rlhf_eval.records import Estimate, Judgment
from rlhf_eval.stats.intervals import wilson

SHAPE: Shape = "answers"
JUDGE: Mapping[str, Any] = {"judge": "ifeval"}
"""What decides, unless the user says otherwise."""

FORMAT = "ifeval"
"""How a file of its prompts is read."""
READINGS = ("strict", "loose")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of IFEval."""

    level: float = 0.95
    """Confidence of the intervals."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Prompt-level and instruction-level accuracy of every model, strict and loose."""
    groups: dict[tuple[str, str], list[Judgment]] = {}
    for judgment in evidence.judgments:
        if len(judgment.completion_ids) == 1 and "strict" in judgment.metadata:
            model = evidence.completions[judgment.completion_ids[0]].model
            groups.setdefault((judgment.judge, model), []).append(judgment)
    if not groups:
        raise nothing_to_score("ifeval", "answer that was checked")
    return [found for key, group in groups.items() for found in _scored(key, group, config.level)]


def _scored(key: tuple[str, str], group: Sequence[Judgment], level: float) -> list[Estimate]:
    about = {"judge": key[0], "model": key[1]}
    found = []
    for reading in READINGS:
        verdicts = [[float(v) for v in j.metadata[reading]] for j in group]
        owner = np.array([j.prompt_id for j in group])
        whole = wilson([min(own) for own in verdicts], owner, level=level)
        parts = wilson(np.concatenate(verdicts), np.repeat(owner, [len(own) for own in verdicts]), level=level)
        found.append(estimate(f"prompt_{reading}", whole, settings=about))
        found.append(estimate(f"instruction_{reading}", parts, settings=about))
    return found
