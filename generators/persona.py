"""Prompts that different people would write: a persona drawn for each, and the model asks what they would ask.

A list of people is the cheapest source of variety there is (Ge et al., arXiv 2406.20094; Tulu 3, arXiv 2411.15124, section
4.2). The given prompt sets the kind of task, the persona the subject and the voice; the persona stays in the metadata.

    rlhf-eval generate --generator persona --model openai:NAME@URL --set n=3
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rlhf_eval.models.base import Model
from rlhf_eval.records import Completion, Prompt
from rlhf_eval.stages.writing import (
    ask,
    draw_several,
    failed,
    fault_of,
    lines_of,
    overlap,
    sampling_of,
    seed_for,
    unlabelled,
)
from rlhf_eval.templates import fill, read

NAME = "persona"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of persona-driven prompts."""

    n: int = 1
    """People drawn at each given prompt; each asks once."""
    personas: str = ""
    """A file of personas, one a line; empty for those that ship."""
    most_overlap: float = 0.6
    """Share of 3-word runs in common from which a prompt copies the example."""
    temperature: float = 1.0
    """Sampling temperature."""
    top_p: float = 1.0
    """Nucleus of the distribution that is sampled from."""
    max_tokens: int = 512
    """Longest reply, in tokens."""
    sample_seed: int = 0
    """Seed of the replies and of every draw; another one draws others."""

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; at least 1 persona is drawn")


async def generate(
    prompts: Sequence[Prompt], models: Sequence[Model], config: Config
) -> AsyncIterator[Prompt | Completion]:
    """Yield one prompt a persona and model, and a failed completion where the reply is none."""
    people = lines_of("generators", "persona_people.txt", config.personas)
    for prompt in prompts:
        for model in models:
            sampling = sampling_of(config, seed_for(prompt, config.sample_seed))
            for index, person in enumerate(draw_several(people, config.n, config.sample_seed, prompt.id)):
                question = fill(read("generators", "persona.txt"), {"persona": person, "example": prompt.text})
                choice = await ask(model, question, sampling, sample=index)
                text = unlabelled(choice.text)
                fault = fault_of(choice, least=8)
                if not fault and overlap(text, prompt.text) > config.most_overlap:
                    fault = "copy: it repeats the example"
                if fault:
                    yield failed(prompt, model, NAME, fault, sampling=sampling, sample=index)
                    continue
                yield Prompt.of(
                    text,
                    category=prompt.category,
                    source=f"{NAME}/{model.name}",
                    metadata={"persona": person, "example": prompt.id},
                )
