"""Rate answers on four aspects, each by a scale of its own and with a rationale: UltraFeedback's protocol.

Instruction following, honesty, truthfulness and helpfulness, 1 to 5; an answer's score is the mean of its aspects (Cui et
al., arXiv 2310.01377, section 3). All answers to a prompt are shown together, one call an aspect, so that a rater can
compare; ``together=false`` shows each alone. The ratings of every aspect stay in the metadata.

    rlhf-eval judge --judge aspects --judge-model openai:NAME@http://localhost:8000/v1
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from judges.reading import numbered_labels, strip_thinking
from rlhf_eval.models.base import ChatRequest, Choice, Model
from rlhf_eval.records import Completion, Message, Prompt, Sampling, Verdict
from rlhf_eval.templates import chosen, conversation, fill, read

ARITY = 0

Aspect = Literal["instruction_following", "honesty", "truthfulness", "helpfulness"]
RATINGS = ("1", "2", "3", "4", "5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the aspect judge."""

    aspects: tuple[Aspect, ...] = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    """Which aspects are rated."""
    together: bool = True
    """Show all answers to a prompt in one call an aspect; else each answer in a call of its own."""
    temperature: float = 0.0
    """Sampling temperature of the judge."""
    max_tokens: int = 2048
    """Longest reply of the judge, in tokens."""
    template: str = ""
    """A template file of your own with the slots {question}, {answers}, {aspect}."""

    def __post_init__(self) -> None:
        if not self.aspects or len(set(self.aspects)) != len(self.aspects):
            raise ValueError("aspects must name at least one aspect, and none of them twice")


def ask(prompt: Prompt, answers: Sequence[str], aspect: Aspect, config: Config) -> tuple[Message, ...]:
    """The messages that ask for a rating of each of ``answers`` on one aspect."""
    template = chosen(config.template, "judges", "aspects.txt", "answers")
    shown = "\n\n".join(f"Answer {k}:\n{text}" for k, text in enumerate(answers, start=1))
    slots = {
        "question": conversation(prompt),
        "answers": shown,
        "aspect": read("judges", f"aspects_{aspect}.txt"),
        "reference": prompt.reference or "",
    }
    return Message("system", read("judges", "aspects_system.txt")), Message("user", fill(template, slots))


def read_ratings(choice: Choice, count: int) -> list[int] | None:
    """One rating an answer; None unless the reply rates every one of ``count`` on the scale."""
    said = numbered_labels(choice.text[strip_thinking(choice.text)[1] :], count, RATINGS)
    return [int(rating) for rating in said] if said else None


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model, config: Config) -> Verdict:
    """Rate the completions, in the order given; raises RequestFailed where the model gives no reply."""
    texts = [completion.text for completion in completions]
    groups = [texts] if config.together else [[text] for text in texts]
    asked = [(aspect, group) for aspect in config.aspects for group in groups]
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens)
    requests = (ChatRequest(messages=ask(prompt, group, a, config), sampling=sampling) for a, group in asked)
    replies = await asyncio.gather(*map(model.chat, requests))
    ratings: dict[str, list[int]] = {aspect: [] for aspect in config.aspects}
    words: list[str] = []
    unread: list[str] = []
    for (aspect, group), reply in zip(asked, replies, strict=True):
        rated = read_ratings(reply.choices[0], len(group))
        ratings[aspect].extend(rated or [])
        words.append(f"{aspect}: {reply.choices[0].text}")
        if rated is None:
            unread.append(aspect)
    rationale = "\n\n".join(words)
    if unread:
        cause = f"unparsed: not every answer has a rating from 1 to 5 on {', '.join(dict.fromkeys(unread))}"
        return Verdict(error=cause, rationale=rationale)
    scores = tuple(sum(column) / len(column) for column in zip(*ratings.values(), strict=True))
    return Verdict(scores=scores, rationale=rationale, metadata={"aspects": ratings})
