"""Prompts with a constraint that a program can check, and answers written with it and without it.

A constraint drawn from ``constraints.txt`` is added to the prompt; one answer is written to the prompt that states it and
one to the prompt as it was. Both belong to the new prompt: trained on, the pair says "obey" (RLHF book, arXiv 2504.12501,
chapter on preference data; Tulu 3, arXiv 2411.15124, section 5.2). The new prompt carries IFEval's ``instruction_id_list``
and ``kwargs`` (Zhou et al., arXiv 2311.07911), so that ``judge --judge ifeval`` verifies both sides.

    rlhf-eval generate --generator constraints --model openai:NAME@URL
    rlhf-eval judge --judge ifeval
    rlhf-eval pairs --rule contrast --set agree=true
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_eval.errors import UserError
from rlhf_eval.models.base import Model
from rlhf_eval.records import Completion, Message, Prompt
from rlhf_eval.stages.writing import ask, draw_several, failed, fault_of, lines_of, sampling_of

NAME = "constraints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of constraint pairs."""

    n: int = 1
    """Constraints drawn at each prompt, each in a prompt of its own."""
    constraints: str = ""
    """A file of constraints, one a line as ``id | kwargs as JSON | sentence``; empty for those that ship."""
    temperature: float = 1.0
    """Sampling temperature."""
    top_p: float = 1.0
    """Nucleus of the distribution that is sampled from."""
    max_tokens: int = 1024
    """Longest reply, in tokens."""
    sample_seed: int = 0
    """Seed of the replies and of every draw; another one draws others."""

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; at least 1 constraint is drawn")


async def generate(
    prompts: Sequence[Prompt], models: Sequence[Model], config: Config
) -> AsyncIterator[Prompt | Completion]:
    """Yield the constrained prompts, and for each the two sides of a contrast, or the failures to write them."""
    known = [_constraint(line) for line in lines_of("generators", "constraints.txt", config.constraints)]
    sampling = sampling_of(config, config.sample_seed)
    for prompt in prompts:
        for name, settings, sentence in draw_several(known, config.n, config.sample_seed, prompt.id):
            stated = _stated(prompt, name, settings, sentence)
            yield stated
            for model in models:
                for side, asked in (("better", stated), ("worse", prompt)):
                    choice = await ask(model, asked.messages, sampling)
                    fault = fault_of(choice)
                    if fault:
                        sample = int(side == "worse")
                        yield failed(stated, model, NAME, fault, sampling=sampling, sample=sample)
                        continue
                    yield Completion.of(
                        prompt_id=stated.id,
                        model=model.name,
                        text=choice.text,
                        sampling=sampling,
                        generator=NAME,
                        origin=(model.id, side),
                        finish_reason=choice.finish_reason,
                        metadata={"side": side, "contrast": f"{NAME}/{model.name}", "constraint": name},
                    )


def _stated(prompt: Prompt, name: str, settings: dict[str, Any], sentence: str) -> Prompt:
    last = max(i for i, m in enumerate(prompt.messages) if m.role == "user")
    turns = [
        Message("user", f"{m.content.rstrip()} {sentence}") if i == last else m for i, m in enumerate(prompt.messages)
    ]
    return Prompt.of(
        turns,
        category=prompt.category,
        source=f"{NAME}/{prompt.source}" if prompt.source else NAME,
        key=prompt.key,
        metadata={
            **prompt.metadata,
            "without_constraint": prompt.id,
            "instruction_id_list": [name],
            "kwargs": [settings],
        },
    )


def _constraint(line: str) -> tuple[str, dict[str, Any], str]:
    parts = [part.strip() for part in line.split("|", 2)]
    try:
        settings = json.loads(parts[1]) if len(parts) == 3 else None
    except json.JSONDecodeError:
        settings = None
    if not isinstance(settings, dict) or not parts[2]:
        raise UserError(f"a constraint is written 'id | kwargs as JSON | sentence', not '{line[:60]}'")
    return parts[0], settings, parts[2]
