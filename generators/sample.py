"""Draw n answers a prompt from each model: the M x N completions that rejection sampling and judging start from.

RLHF book (arXiv 2504.12501), chapter on rejection sampling: several completions a prompt at a temperature that gives
variety.

    rlhf-eval generate --generator sample --model sandbox:policy --set n=8
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rlhf_eval.models.base import ChatRequest, Model
from rlhf_eval.records import Completion, Prompt, Sampling

MOST = 100_000
"""Completions a prompt that are taken for meant: all of them are in memory at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of plain sampling."""

    n: int = 1
    """Completions a prompt and model."""
    first_sample: int = 0
    """Number of the first sample: 8 asks for samples 8, 9, ..., independent of the first eight."""
    temperature: float = 1.0
    """Sampling temperature; 0 is greedy."""
    top_p: float = 1.0
    """Nucleus of the distribution that is sampled from."""
    max_tokens: int = 512
    """Longest completion, in tokens."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion."""
    sample_seed: int = 0
    """Seed of the samples; another one draws other answers."""

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MOST:
            raise ValueError(f"n is {self.n}; a prompt takes 1 to {MOST:,} completions")


async def generate(prompts: Sequence[Prompt], models: Sequence[Model], config: Config) -> AsyncIterator[Completion]:
    """Yield ``n`` completions for each prompt and model; raises RequestFailed where a model gives no reply."""
    sampling = Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
        stop=config.stop,
        seed=config.sample_seed,
    )
    for prompt in prompts:
        for model in models:
            reply = await model.chat(
                ChatRequest(messages=prompt.messages, sampling=sampling, n=config.n, first_sample=config.first_sample)
            )
            for index, choice in enumerate(reply.choices, start=config.first_sample):
                yield Completion.of(
                    prompt_id=prompt.id,
                    model=model.name,
                    text=choice.text,
                    sample=index,
                    sampling=sampling,
                    origin=model.id,
                    finish_reason=choice.finish_reason,
                )
