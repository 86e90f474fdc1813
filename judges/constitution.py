"""Compare two answers by principles drawn from a constitution: the preference phase of Constitutional AI.

Each item is judged by ``principles`` of the list, drawn by the seed and the item, the same in both orders; the score is the
mean share of the letter over them (Bai et al., arXiv 2212.08073, section 4.1). The list is a text file with one principle a
line; the one shipped is written for this project. Each principle's own verdict stays in the metadata.

    rlhf-eval judge --judge constitution --judge-model openai:NAME@http://localhost:8000/v1 --set file=mine.txt
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from judges.reading import last_verdict, letter_probabilities, strip_thinking
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import ChatRequest, Choice, Model
from rlhf_eval.records import Completion, Message, Prompt, Sampling, Verdict, fingerprint
from rlhf_eval.templates import chosen, conversation, fill, read, read_file

ARITY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the constitutional judge."""

    file: str = ""
    """A constitution of your own: a text file with one principle a line."""
    principles: int = 1
    """How many principles each item is judged by; 0 for all of them."""
    seed: int = 0
    """Draws other principles."""
    reasoning: bool = False
    """Let the judge explain itself before the verdict."""
    soft: bool = True
    """Score by the probability of the verdict's letter where the server gives log-probabilities."""
    temperature: float = 0.0
    """Sampling temperature of the judge."""
    max_tokens: int = 1024
    """Longest reply of the judge, in tokens."""
    template: str = ""
    """A template file of your own with the slots {question}, {answer_a}, {answer_b}, {principle}, {task}."""

    def __post_init__(self) -> None:
        if self.principles < 0:
            raise ValueError(f"principles is {self.principles}; it must be at least 0")


def constitution(config: Config) -> list[str]:
    """The principles, blank lines left out; raises UserError where there are none."""
    text = read_file(config.file) if config.file else read("judges", "constitution_principles.txt")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{config.file} holds no principle; write one a line")
    return lines


def drawn(prompt: Prompt, completions: Sequence[Completion], config: Config) -> list[str]:
    """The principles for one item: a function of the seed, the prompt and the answers, whatever their order."""
    known = constitution(config)
    if config.principles == 0 or config.principles >= len(known):
        return known
    key = fingerprint("constitution", config.seed, prompt.id, sorted(c.id for c in completions))
    return random.Random(key).sample(known, config.principles)


def ask(prompt: Prompt, answers: tuple[str, str], principle: str, config: Config) -> tuple[Message, ...]:
    """The message that asks which answer fits ``principle`` better."""
    template = chosen(config.template, "judges", "constitution.txt", "answer_a", "answer_b")
    task = "Explain your judgment in a few sentences, then end" if config.reasoning else "Reply"
    slots = {
        "question": conversation(prompt),
        "answer_a": answers[0],
        "answer_b": answers[1],
        "principle": principle,
        "task": f"{task} with [[A]] or [[B]].",
    }
    return (Message("user", fill(template, slots)),)


def read_share(choice: Choice, config: Config) -> float | None:
    """The share of A in a reply; None where it holds no verdict."""
    start = strip_thinking(choice.text)[1]
    found = last_verdict(choice.text[start:], "AB")
    if found is None:
        return None
    shares = letter_probabilities(choice, start + found[1], "AB") if config.soft else None
    return shares.get("A", 0.0) if shares else float(found[0] == "A")


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model, config: Config) -> Verdict:
    """Compare two completions, in the order given; raises RequestFailed where the model gives no reply."""
    first, second = completions
    principles = drawn(prompt, completions, config)
    requests = [
        ChatRequest(
            messages=ask(prompt, (first.text, second.text), principle, config),
            sampling=Sampling(temperature=config.temperature, max_tokens=config.max_tokens),
            top_logprobs=5 if config.soft else 0,
        )
        for principle in principles
    ]
    choices = [reply.choices[0] for reply in await asyncio.gather(*map(model.chat, requests))]
    shares = [read_share(choice, config) for choice in choices]
    rationale = "\n\n".join(f"{p}\n{choice.text}" for p, choice in zip(principles, choices, strict=True))
    known = [share for share in shares if share is not None]
    if not known:
        cut = ", which was cut off at max_tokens" if choices[0].finish_reason == "length" else ""
        return Verdict(error=f"unparsed: no [[A]] or [[B]] in the reply{cut}", rationale=rationale)
    mean = sum(known) / len(known)
    metadata = {"principles": principles, "shares": shares, "unparsed": len(shares) - len(known)}
    return Verdict(scores=(mean, 1 - mean), rationale=rationale, metadata=metadata)
