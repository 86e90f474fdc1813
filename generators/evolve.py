"""Prompts made harder or wider, round by round, with failed evolutions taken out: Evol-Instruct.

Each round draws an operation by hash: add a constraint, deepen, make concrete, ask for more steps of reasoning, or write a
new prompt on a rarer subject (Xu et al., arXiv 2304.12244). The paper's elimination rules apply: no copy of what it came
from, no refusal, no words of the instruction itself, no essay; a failed evolution is recorded with its reason, and the
next round starts from the last good prompt.

    rlhf-eval generate --generator evolve --model openai:NAME@URL --set rounds=3
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rlhf_eval.models.base import Model
from rlhf_eval.records import Completion, Prompt
from rlhf_eval.stages.writing import ask, draw, failed, fault_of, overlap, sampling_of, seed_for, unlabelled
from rlhf_eval.templates import fill, read

NAME = "evolve"
DEEPEN = ("constrain", "deepen", "concretise", "reason")
WIDEN = ("widen",)
_LEAKED = re.compile(r"\b(?:given prompt|rewritten prompt|original prompt|new prompt)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of prompt evolution."""

    rounds: int = 2
    """Evolutions of each prompt, one after the other."""
    widen: float = 0.2
    """Share of rounds that write a new prompt in breadth instead of deepening this one."""
    longest: int = 1200
    """Most characters of an evolved prompt."""
    most_overlap: float = 0.9
    """Share of 3-word runs in common from which an evolution has changed nothing."""
    temperature: float = 0.9
    """Sampling temperature."""
    top_p: float = 1.0
    """Nucleus of the distribution that is sampled from."""
    max_tokens: int = 512
    """Longest reply, in tokens."""
    sample_seed: int = 0
    """Seed of the replies and of every draw; another one draws others."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; at least 1 is needed")
        if not 0 <= self.widen <= 1:
            raise ValueError(f"widen is {self.widen}; it is a share")


async def generate(
    prompts: Sequence[Prompt], models: Sequence[Model], config: Config
) -> AsyncIterator[Prompt | Completion]:
    """Yield every good evolution as a prompt, and a failed completion for every eliminated one."""
    for prompt in prompts:
        for model in models:
            current = prompt.text
            for turn in range(1, config.rounds + 1):
                operation = _operation(prompt, turn, config)
                sampling = sampling_of(config, seed_for(prompt, config.sample_seed))
                question = fill(read("generators", f"evolve_{operation}.txt"), {"prompt": current})
                choice = await ask(model, question, sampling, sample=turn)
                evolved = unlabelled(choice.text)
                fault = fault_of(choice, least=8) or _eliminated(current, evolved, config)
                if fault:
                    yield failed(prompt, model, NAME, fault, sampling=sampling, sample=turn)
                    continue
                current = evolved
                yield Prompt.of(
                    evolved,
                    category=prompt.category,
                    source=f"{NAME}/{model.name}",
                    metadata={"evolved_from": prompt.id, "round": turn, "operation": operation},
                )


def _operation(prompt: Prompt, turn: int, config: Config) -> str:
    wide = draw(range(1000), config.sample_seed, prompt.id, turn, "width") < 1000 * config.widen
    return draw(WIDEN if wide else DEEPEN, config.sample_seed, prompt.id, turn)


def _eliminated(before: str, after: str, config: Config) -> str:
    """Why an evolution does not count; empty where it does."""
    if overlap(before, after) > config.most_overlap:
        return "eliminated: it repeats the prompt that it came from"
    if _LEAKED.search(after) and not _LEAKED.search(before):
        return "eliminated: it speaks of the instruction that was given for writing it"
    if len(after) > config.longest:
        return f"eliminated: {len(after)} characters, more than {config.longest}"
    return ""
