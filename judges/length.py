"""Score an answer by its length alone: the control arm that every judge must beat.

A judge whose verdicts this one predicts has measured length. No model, no reading.

    rlhf-eval judge --judge length --set prefer=longer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlhf_eval.models.base import Model
from rlhf_eval.records import Completion, Prompt, Verdict

ARITY = 1
NEEDS_MODEL = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the length control."""

    prefer: Literal["longer", "shorter"] = "longer"
    """Which answers score higher."""
    unit: Literal["characters", "words"] = "characters"
    """What is counted."""


def length(text: str, unit: str) -> int:
    """Characters, or words between white space."""
    return len(text) if unit == "characters" else len(text.split())


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model | None, config: Config) -> Verdict:
    """The length of one completion, negative where shorter is preferred."""
    count = float(length(completions[0].text, config.unit))
    return Verdict(scores=(count if config.prefer == "longer" else -count,))
