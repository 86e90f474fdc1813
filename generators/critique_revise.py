"""Answers criticised by a principle and revised, several rounds: the supervised phase of Constitutional AI.

Each round draws a principle by hash, asks what in the answer offends against it, and has the answer rewritten (Bai et al.,
arXiv 2212.08073, section 3). The clauses that were applied stay on every record, with their critiques. The last revision
against the first answer is a contrast.

    rlhf-eval generate --generator critique_revise --model openai:NAME@URL --set rounds=2
    rlhf-eval pairs --rule contrast
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlhf_eval.models.base import Choice, Model
from rlhf_eval.records import Completion, Prompt, Sampling
from rlhf_eval.stages.writing import ask, draw_several, failed, fault_of, lines_of, sampling_of
from rlhf_eval.templates import conversation, fill, read

NAME = "critique_revise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of critique and revision."""

    rounds: int = 1
    """Critiques and revisions of each answer."""
    principles: str = ""
    """A file of principles, one a line; empty for those that ship."""
    temperature: float = 1.0
    """Sampling temperature."""
    top_p: float = 1.0
    """Nucleus of the distribution that is sampled from."""
    max_tokens: int = 1024
    """Longest reply, in tokens."""
    sample_seed: int = 0
    """Seed of the replies and of every draw; another one draws others."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; at least 1 is needed")


async def generate(prompts: Sequence[Prompt], models: Sequence[Model], config: Config) -> AsyncIterator[Completion]:
    """Yield the first answer and every revision, or the failure that ended the rounds; one contrast a prompt and model."""
    clauses = lines_of("generators", "critique_revise_principles.txt", config.principles)
    sampling = sampling_of(config, config.sample_seed)
    for prompt in prompts:
        for model in models:
            # May refuse: declining is one of the answers that a principle is about.
            choice = await ask(model, prompt.messages, sampling)
            fault = fault_of(choice, may_refuse=True)
            if fault:
                yield failed(prompt, model, NAME, fault, sampling=sampling)
                continue
            first, revised = choice, 0
            history: list[dict[str, Any]] = []
            drawn = draw_several(clauses, config.rounds, config.sample_seed, prompt.id)
            made: list[Completion] = []
            for turn, clause in enumerate(drawn, 1):
                critique, better = await _round(prompt, choice.text, clause, model, sampling, turn)
                fault = fault_of(critique, may_refuse=True) or fault_of(better, may_refuse=True)
                if fault:
                    yield failed(prompt, model, NAME, f"round {turn}: {fault}", sampling=sampling, sample=turn)
                    break
                history.append({"clause": clause, "critique": critique.text})
                choice, revised = better, turn
                made.append(_completion(prompt, model, sampling, choice, turn, history))
            sides = {0: "worse", revised: "better"} if revised else {}
            for turn, completion in enumerate([_completion(prompt, model, sampling, first, 0, []), *made]):
                yield _with_side(completion, sides.get(turn, ""), model)


async def _round(
    prompt: Prompt, answer: str, clause: str, model: Model, sampling: Sampling, turn: int
) -> tuple[Choice, Choice]:
    slots = {"question": conversation(prompt), "answer": answer, "principle": clause}
    critique = await ask(model, fill(read("generators", "critique_revise_critique.txt"), slots), sampling, turn)
    if fault_of(critique, may_refuse=True):
        return critique, critique
    slots["critique"] = critique.text
    return critique, await ask(model, fill(read("generators", "critique_revise_revision.txt"), slots), sampling, turn)


def _completion(
    prompt: Prompt, model: Model, sampling: Sampling, choice: Choice, turn: int, history: Sequence[dict[str, Any]]
) -> Completion:
    return Completion.of(
        prompt_id=prompt.id,
        model=model.name,
        text=choice.text.strip(),
        sample=turn,
        sampling=sampling,
        generator=NAME,
        origin=model.id,
        finish_reason=choice.finish_reason,
        metadata={"round": turn, "principles": [dict(step) for step in history]},
    )


def _with_side(completion: Completion, side: str, model: Model) -> Completion:
    marked = {"side": side, "contrast": f"{NAME}/{model.name}"} if side else {}
    return replace(completion, metadata={**completion.metadata, **marked})
