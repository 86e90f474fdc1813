"""New prompts from example tasks: Self-Instruct (Wang et al., arXiv 2212.10560), with its overlap filter.

The given prompt and a few tasks drawn from ``seeds`` are shown; the model continues the list. A new task that shares more
than ``most_overlap`` of its 3-word runs with a shown or an earlier new one is recorded as a failure, and so is one that
needs what text cannot show. Duplicates between different given prompts are for ``pairs --set duplicates=near``.

    rlhf-eval generate --generator self_instruct --model openai:NAME@URL --set n=4
"""

from __future__ import annotations

import re
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
    listed,
    overlap,
    sampling_of,
    seed_for,
)
from rlhf_eval.templates import fill, read

NAME = "self_instruct"
_BEYOND_TEXT = re.compile(r"\b(?:image|picture|photo|graph|video|audio|attached|file|map|draw)s?\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of Self-Instruct."""

    n: int = 4
    """New tasks asked for at each given prompt."""
    shown: int = 5
    """Example tasks beside the given prompt."""
    seeds: str = ""
    """A file of example tasks, one a line; empty for those that ship."""
    most_overlap: float = 0.5
    """Share of 3-word runs in common from which a new task counts as a copy."""
    beyond_text: bool = False
    """Keep tasks about pictures, files and other things that text cannot show."""
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
            raise ValueError(f"n is {self.n}; at least 1 task is asked for")


async def generate(
    prompts: Sequence[Prompt], models: Sequence[Model], config: Config
) -> AsyncIterator[Prompt | Completion]:
    """Yield new prompts, and a failed completion for every task that is of no use."""
    seeds = lines_of("generators", "self_instruct_seeds.txt", config.seeds)
    for prompt in prompts:
        for model in models:
            sampling = sampling_of(config, seed_for(prompt, config.sample_seed))
            shown = [prompt.text.replace("\n", " "), *draw_several(seeds, config.shown, config.sample_seed, prompt.id)]
            question = fill(
                read("generators", "self_instruct.txt"),
                {
                    "tasks": "\n".join(f"{i}. {task}" for i, task in enumerate(shown, 1)),
                    "first": str(len(shown) + 1),
                    "last": str(len(shown) + config.n),
                    "n": str(config.n),
                },
            )
            choice = await ask(model, question, sampling)
            fault = fault_of(choice)
            tasks = [] if fault else listed(choice.text)[: config.n]
            if not fault and len(tasks) < config.n:
                fault = f"malformed: {len(tasks)} of {config.n} tasks could be read as a list"
            if fault:
                yield failed(prompt, model, NAME, fault, sampling=sampling)
            earlier = list(shown)
            for place, task in enumerate(tasks):
                error = _fault(task, earlier, config)
                if error:
                    yield failed(prompt, model, NAME, error, sampling=sampling, sample=place + 1)
                    continue
                earlier.append(task)
                yield Prompt.of(
                    task, category=prompt.category, source=f"{NAME}/{model.name}", metadata={"seed_prompt": prompt.id}
                )


def _fault(task: str, earlier: Sequence[str], config: Config) -> str:
    if len(task.split()) < 3:
        return f"malformed: the task '{task[:40]}' has fewer than 3 words"
    if not config.beyond_text and _BEYOND_TEXT.search(task):
        return f"beyond text: {task[:60]}"
    share, copied = max((overlap(task, other), other) for other in earlier)
    return f"copy: {share:.0%} of it stands in '{copied[:40]}'" if share > config.most_overlap else ""
