"""A strong and a weak model answer the same prompts: the two sides of delta learning.

What is learned is the difference, which may be useful even where neither side is as good as the model that learns it (Geng
et al., arXiv 2507.06187). The strong model's answer is marked as the better side, the weak one's as the worse.

    rlhf-eval generate --generator delta --model big=openai:BIG@URL --model small=openai:SMALL@URL
    rlhf-eval pairs --rule contrast
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.models.base import ChatRequest, Model
from rlhf_eval.records import Completion, Prompt
from rlhf_eval.stages.writing import failed, fault_of, sampling_of

NAME = "delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of delta generation."""

    strong: str = ""
    """Name of the strong model; empty: the first that is given."""
    weak: str = ""
    """Name of the weak model; empty: the last that is given."""
    n: int = 1
    """Answers of each model; the k-th strong one stands against the k-th weak one."""
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
            raise ValueError(f"n is {self.n}; at least 1 answer is drawn")


async def generate(prompts: Sequence[Prompt], models: Sequence[Model], config: Config) -> AsyncIterator[Completion]:
    """Yield the answers of both models; raises UserError unless they are two."""
    strong, weak = _pick(models, config.strong, 0), _pick(models, config.weak, -1)
    if strong is weak:
        raise UserError("delta needs two models, a strong and a weak one: give --model twice")
    sampling = sampling_of(config, config.sample_seed)
    for prompt in prompts:
        for model, side in ((strong, "better"), (weak, "worse")):
            reply = await model.chat(ChatRequest(messages=prompt.messages, sampling=sampling, n=config.n))
            for index, choice in enumerate(reply.choices):
                # A weak model's refusal is what it is weak at.
                fault = fault_of(choice, may_refuse=side == "worse")
                if fault:
                    yield failed(prompt, model, NAME, fault, sampling=sampling, sample=index)
                    continue
                yield Completion.of(
                    prompt_id=prompt.id,
                    model=model.name,
                    text=choice.text,
                    sample=index,
                    sampling=sampling,
                    generator=NAME,
                    origin=model.id,
                    finish_reason=choice.finish_reason,
                    metadata={"side": side, "contrast": f"{NAME}/{index}"},
                )


def _pick(models: Sequence[Model], name: str, place: int) -> Model:
    names = [model.name for model in models]
    if name and name not in names:
        raise UserError(f"delta: no model '{name}' is given.{nearest(name, names)}")
    return models[names.index(name)] if name else models[place]
