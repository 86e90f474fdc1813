"""Score an answer by the draw of a seeded coin: the control arm that measures what pure noise would show.

The score is uniform on [0, 1] and a function of the seed and the completion, so the same run gives the same noise.

    rlhf-eval judge --judge random --set seed=1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_eval.models.base import Model
from rlhf_eval.records import Completion, Prompt, Verdict, fingerprint

ARITY = 1
NEEDS_MODEL = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the random control."""

    seed: int = 0
    """Draws other noise."""


def draw(*parts: object) -> float:
    """A number in [0, 1) that is a function of ``parts``."""
    return int(fingerprint(*parts)[:13], 16) / float(16**13)


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model | None, config: Config) -> Verdict:
    """Noise in [0, 1)."""
    return Verdict(scores=(draw("random judge", config.seed, completions[0].id),))
