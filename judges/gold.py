"""The sandbox's gold reward as a judge: the truth, by program, with no model and no noise.

rlhf-eval judge --judge gold
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_eval.models.base import Model
from rlhf_eval.records import Completion, Prompt, Verdict
from rlhf_eval.sandbox.gold import reward

ARITY = 1
NEEDS_MODEL = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The gold judge has no settings."""


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model | None, config: Config) -> Verdict:
    """The gold reward of one completion, in [0, 1]; raises UserError for a prompt that is not of the sandbox."""
    gold = reward(prompt, completions[0].text)
    parts = {"correct": gold.correct, "followed": gold.followed, "brief": gold.brief}
    return Verdict(scores=(gold.reward,), metadata=parts)
