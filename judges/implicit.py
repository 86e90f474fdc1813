"""Score answers with the reward that a policy implies: how much likelier it makes them than its reference does.

    reward = beta (log p_policy(answer | prompt) - log p_reference(answer | prompt))

A policy trained by DPO is the optimum of the KL-regularised objective for just this reward (Rafailov et al., arXiv
2305.18290, section 4), up to a number for each prompt: the scores rank answers of one prompt and mean nothing between
prompts. RewardBench scores DPO models so. Both models need their weights here: ``hf:``, ``vllm:`` or ``sandbox:``.

    rlhf-eval judge --judge implicit --judge-model hf:checkpoints/dpo --set reference=hf:checkpoints/sft
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlhf_eval.errors import UserError
from rlhf_eval.models.base import Conversation, Model, reads
from rlhf_eval.records import Completion, Message, Prompt, Verdict

ARITY = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the implicit reward."""

    policy: str = ""
    """The trained model; empty for the one of --judge-model."""
    reference: str = ""
    """The model that its training started from."""
    beta: float = 0.1
    """Scale of the reward: the beta that the policy was trained with."""

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise ValueError(f"beta is {self.beta}; it must be positive")
        if self.policy and self.policy == self.reference:
            raise ValueError("policy and reference are the same model, so every reward would be 0")


def models(config: Config) -> tuple[str, ...]:
    """The models to open besides that of --judge-model; raises UserError without a reference."""
    if not config.reference:
        raise UserError(
            "the judge 'implicit' needs the model that training started from: --set reference=sandbox:policy, for instance"
        )
    return (*((config.policy,) if config.policy else ()), config.reference)


async def judge(
    prompt: Prompt, completions: Sequence[Completion], model: Mapping[str, Model], config: Config
) -> Verdict:
    """The implicit reward of one completion, with both log-probabilities in the metadata.

    Raises RequestFailed where a model cannot read the answer, UserError where it has no log-probabilities to give.
    """
    if config.policy not in model:
        raise UserError("the judge 'implicit' needs the trained model: --judge-model, or --set policy=hf:PATH")
    asked: list[Conversation] = [(*prompt.messages, Message("assistant", completions[0].text))]
    policy, reference = (reads(model[spec]) for spec in (config.policy, config.reference))
    (trained,), (before,) = await asyncio.gather(policy.logprobs(asked), reference.logprobs(asked))
    return Verdict(scores=(config.beta * (trained - before),), metadata={"policy": trained, "reference": before})
