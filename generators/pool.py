"""Answers from a pool of models, each under a principle of its own: the completions that UltraFeedback was made of.

Every prompt gets ``members`` of the given models, drawn by hash, and always the ``on_policy`` one where it is named (Tulu
3, arXiv 2411.15124, section 5.2.1). Each answer is written under a system prompt drawn from ``pool.txt`` (Cui et al., arXiv
2310.01377): variety in what is good about an answer is what a judge can then tell apart.

    rlhf-eval generate --generator pool --model a=openai:A@URL --model b=openai:B@URL --set on_policy=b
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.models.base import ChatRequest, Model
from rlhf_eval.records import Completion, Message, Prompt
from rlhf_eval.stages.writing import draw, draw_several, lines_of, sampling_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of a pool."""

    n: int = 1
    """Answers a model and prompt, each under its own draw of a principle."""
    members: int = 4
    """Models that answer a prompt; with fewer in the pool, all do."""
    on_policy: str = ""
    """Name of a model that answers every prompt, as tables show it."""
    principles: str = ""
    """A file of principles, one a line as ``name: system prompt``; empty for those that ship; ``none`` for none."""
    temperature: float = 1.0
    """Sampling temperature."""
    top_p: float = 1.0
    """Nucleus of the distribution that is sampled from."""
    max_tokens: int = 1024
    """Longest answer, in tokens."""
    sample_seed: int = 0
    """Draws models, principles and answers."""

    def __post_init__(self) -> None:
        if self.n < 1 or self.members < 1:
            raise ValueError(f"n is {self.n} and members {self.members}; both count from 1")


async def generate(prompts: Sequence[Prompt], models: Sequence[Model], config: Config) -> AsyncIterator[Completion]:
    """Yield the pool's answers to each prompt; raises UserError where the on-policy model is not in the pool."""
    principles = _principles(config)
    for prompt in prompts:
        for model in _members(prompt, models, config):
            for index in range(config.n):
                name, system = draw(principles, config.sample_seed, prompt.id, model.id, index)
                sampling = sampling_of(config, config.sample_seed)
                request = ChatRequest(messages=_under(prompt, system), sampling=sampling, first_sample=index)
                choice = (await model.chat(request)).choices[0]
                yield Completion.of(
                    prompt_id=prompt.id,
                    model=model.name,
                    text=choice.text,
                    sample=index,
                    sampling=sampling,
                    generator="pool",
                    origin=(model.id, system),
                    finish_reason=choice.finish_reason,
                    metadata={"principle": name, "system": system} if system else None,
                )


def _principles(config: Config) -> list[tuple[str, str]]:
    if config.principles == "none":
        return [("", "")]
    found = []
    for line in lines_of("generators", "pool.txt", config.principles):
        name, colon, text = line.partition(":")
        if not colon or not text.strip():
            raise UserError(f"a principle is written 'name: system prompt', not '{line[:60]}'")
        found.append((name.strip(), text.strip()))
    return found


def _members(prompt: Prompt, models: Sequence[Model], config: Config) -> list[Model]:
    names = [model.name for model in models]
    if not config.on_policy:
        return draw_several(models, config.members, config.sample_seed, prompt.id)
    if config.on_policy not in names:
        raise UserError(
            f"pool: the on-policy model '{config.on_policy}' is not given.{nearest(config.on_policy, names)}"
        )
    own = models[names.index(config.on_policy)]
    others = [model for model in models if model is not own]
    return [own, *draw_several(others, config.members - 1, config.sample_seed, prompt.id)]


def _under(prompt: Prompt, system: str) -> tuple[Message, ...]:
    """The conversation with the principle before what the prompt's own system turn says."""
    if not system:
        return prompt.messages
    if prompt.messages[0].role == "system":
        return (Message("system", f"{system}\n\n{prompt.messages[0].content}"), *prompt.messages[1:])
    return (Message("system", system), *prompt.messages)
