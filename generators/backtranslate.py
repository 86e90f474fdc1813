"""The instruction that a text answers: prompts from documents, by instruction backtranslation.

Each given prompt holds a good text (an article, an answer from a forum, code). The model writes the request to which that
text would be the ideal reply (Li et al., arXiv 2308.06259). The new prompt keeps the text as its reference, and the text
itself becomes a completion of it, by the author ``document``: a human-written demonstration. ``judge`` and ``threshold``
then play the paper's curation.

    rlhf-eval generate --prompts documents.jsonl --generator backtranslate --model openai:NAME@URL
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rlhf_eval.models.base import Model
from rlhf_eval.records import Completion, Prompt
from rlhf_eval.stages.writing import ask, failed, fault_of, overlap, sampling_of, unlabelled
from rlhf_eval.templates import fill, read

NAME = "backtranslate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of backtranslation."""

    n: int = 1
    """Instructions written for each text."""
    author: str = "document"
    """Name under which the texts appear among the models."""
    longest: int = 600
    """Most characters of an instruction."""
    temperature: float = 0.8
    """Sampling temperature."""
    top_p: float = 1.0
    """Nucleus of the distribution that is sampled from."""
    max_tokens: int = 256
    """Longest reply, in tokens."""
    sample_seed: int = 0
    """Seed of the replies and of every draw; another one draws others."""

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; at least 1 instruction is written")


async def generate(
    prompts: Sequence[Prompt], models: Sequence[Model], config: Config
) -> AsyncIterator[Prompt | Completion]:
    """Yield a prompt and its document as a completion, or the failure to write the instruction."""
    sampling = sampling_of(config, config.sample_seed)
    for prompt in prompts:
        document = prompt.text
        for model in models:
            for index in range(config.n):
                question = fill(read("generators", "backtranslate.txt"), {"text": document})
                choice = await ask(model, question, sampling, sample=index)
                text = unlabelled(choice.text)
                fault = fault_of(choice, least=8) or _fault(text, document, config)
                if fault:
                    yield failed(prompt, model, NAME, fault, sampling=sampling, sample=index)
                    continue
                made = Prompt.of(
                    text,
                    reference=document,
                    category=prompt.category,
                    source=f"{NAME}/{model.name}",
                    metadata={"document": prompt.id},
                )
                yield made
                yield Completion.of(
                    prompt_id=made.id, model=config.author, text=document, generator=NAME, origin=prompt.id
                )


def _fault(text: str, document: str, config: Config) -> str:
    if len(text) > config.longest:
        return f"malformed: the instruction has {len(text)} characters, more than {config.longest}"
    return "copy: the instruction repeats the text" if overlap(text, document) > 0.5 else ""
