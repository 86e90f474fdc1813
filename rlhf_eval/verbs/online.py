"""``online``: generate, judge, select and train in rounds, each on what the last round's checkpoint answers.

    rlhf-eval online dpo --model sandbox:policy --prompts latest --judge pairwise --judge-model sandbox:judge --rounds 3
    rlhf-eval online rejection_sampling --model sandbox:policy --judge gold

Online DPO (Guo et al. 2024, arXiv 2402.04792; in rounds as in Dong et al. 2024, arXiv 2405.07863) pairs each round's own
answers and takes the round's starting checkpoint as reference. Rejection sampling (Llama 2, Touvron et al. 2023, section
3.2.3) imitates each round's best answers. Nothing happens here but the verbs: the rounds are steps of a recipe, so they
resume, are cached and keep their lineage like any others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rlhf_eval.config import build
from rlhf_eval.errors import UserError
from rlhf_eval.verbs.flow import prompt_source
from rlhf_eval.verbs.recipe import Step, run_recipe
from rlhf_eval.verbs.session import Session

METHODS: Mapping[str, tuple[str, str]] = {"dpo": ("best_worst", "dpo"), "rejection_sampling": ("top_per_prompt", "sft")}
"""Method to the rule that selects and the trainer that learns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The rounds, and what the tables of their verbs say beyond that."""

    method: Literal["dpo", "rejection_sampling"] = "dpo"
    """Pairs and DPO, or the best answers and SFT."""
    model: str = ""
    """The checkpoint of the first round."""
    prompts: str = "latest"
    """A run that holds prompts, or a file of them; every round answers them all."""
    rounds: int = 3
    """How often to go round."""
    start: Literal["previous", "first"] = "previous"
    """Each round trains the checkpoint of the round before, or the first one afresh."""
    generate: Mapping[str, Any] = field(default_factory=lambda: {"n": 4})
    """Of ``generate``: n, temperature, max_tokens."""
    judge: Mapping[str, Any] = field(default_factory=dict)
    """Of ``judge``."""
    pairs: Mapping[str, Any] = field(default_factory=dict)
    """Of ``pairs``: another rule, filters."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Of ``train``: the trainer's own settings."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; it must be at least 1")


def rounds_of(settings: Settings, prompts: str) -> dict[str, dict[str, Any]]:
    """The recipe of all rounds: ``generate.1``, ``judge.1``, ``pairs.1``, ``train.1``, ``generate.2`` and so on.

    As in any recipe, a step reads the newest run of the verb before it, which is its own round's.
    """
    rule, trainer = METHODS[settings.method]
    steps: dict[str, dict[str, Any]] = {}
    for k in range(1, settings.rounds + 1):
        model = settings.model if k == 1 else f"run:train.{k - 1}"
        base = settings.model if settings.start == "first" else model
        steps[f"generate.{k}"] = {**settings.generate, "model": model, "prompts": prompts}
        steps[f"judge.{k}"] = dict(settings.judge)
        steps[f"pairs.{k}"] = {"rule": rule, **settings.pairs}
        steps[f"train.{k}"] = {"trainer": trainer, **settings.train, "model": base}
    return steps


async def online(session: Session, table: Mapping[str, Any]) -> AsyncIterator[Step]:
    """Go through the rounds, a step at a time; the last step's checkpoint is the result."""
    settings = build(Settings, table, where="online")
    if not settings.model:
        raise UserError("online needs a model to start from: --model sandbox:policy, hf:PATH, or run:REF of a training")
    if not settings.judge:
        raise UserError("online needs a judge: --judge gold in the sandbox, or a judge with its --judge-model")
    prompts = prompt_source(session, settings.prompts)
    async for step in run_recipe(session, rounds_of(settings, prompts.id)):
        yield step
