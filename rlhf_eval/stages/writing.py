"""What generators that ask for text have in common: one question, named failures, drawing by hash, lists read strictly.

A reply that is not what was asked for becomes a ``Completion`` with an error that says how, never a prompt or an answer:
it is counted, shown, and trained on by nobody.

    choice = await ask(model, "Write a question.", sampling)
    fault = fault_of(choice)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from rlhf_eval.errors import UserError
from rlhf_eval.models.base import ChatRequest, Choice, Model
from rlhf_eval.records import Completion, Message, Prompt, Sampling, fingerprint
from rlhf_eval.stages.texts import jaccard, plain, refuses, shingles
from rlhf_eval.templates import read, read_file

T = TypeVar("T")
_ITEM = re.compile(r"^\s*(?:\d{1,3}[.):]|[-*•])\s+(.*\S)\s*$")
_LABEL = re.compile(r"^\s*(?:#+\s*|\*\*)?(?:new |rewritten |revised |final )?(?:prompt|instruction|task|question)\s*(?:\*\*)?:\s*(?:\*\*)?\s*", re.IGNORECASE)  # fmt: skip  # noqa: E501


class Drawing(Protocol):
    """Settings of a generator that say how replies are drawn."""

    @property
    def temperature(self) -> float:
        """Sampling temperature; 0 is greedy."""

    @property
    def top_p(self) -> float:
        """Nucleus of the distribution that is sampled from."""

    @property
    def max_tokens(self) -> int:
        """Longest reply, in tokens."""


def sampling_of(config: Drawing, seed: int) -> Sampling:
    """How a generator's settings draw replies."""
    return Sampling(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens, seed=seed)


async def ask(model: Model, question: str | Sequence[Message], sampling: Sampling, sample: int = 0) -> Choice:
    """One reply to a text or a conversation; raises RequestFailed where the model gives none."""
    messages = (Message("user", question),) if isinstance(question, str) else tuple(question)
    reply = await model.chat(ChatRequest(messages=messages, sampling=sampling, first_sample=sample))
    return reply.choices[0]


def fault_of(choice: Choice, *, least: int = 1, may_refuse: bool = False) -> str:
    """What is wrong with a reply, as a failure is named; empty where nothing is. ``least`` counts characters."""
    text = choice.text.strip()
    if not text:
        return "empty: the reply has no text"
    if choice.finish_reason == "length":
        return "truncated: the reply was cut off at max_tokens"
    if choice.finish_reason == "content_filter":
        return "filtered: the server withheld the reply"
    if not may_refuse and refuses(text):
        return f"refused: {text[:60]}"
    if len(text) < least:
        return f"malformed: the reply has {len(text)} characters, and {least} are the least"
    return ""


def failed(
    prompt: Prompt, model: Model, generator: str, error: str, *, sampling: Sampling, sample: int = 0
) -> Completion:
    """The record of a reply that is of no use."""
    return Completion.of(
        prompt_id=prompt.id, model=model.name, text="", sample=sample, sampling=sampling, generator=generator,
        origin=model.id, error=error,
    )  # fmt: skip


def draw(items: Sequence[T], *parts: object) -> T:
    """One of the items, by the hash of ``parts``: the same draw for the same prompt, whatever ran before."""
    return items[int(fingerprint(*parts)[:12], 16) % len(items)]


def draw_several(items: Sequence[T], k: int, *parts: object) -> list[T]:
    """Up to ``k`` different items, by the hash of ``parts``."""
    order = sorted(range(len(items)), key=lambda i: fingerprint(*parts, i))
    return [items[i] for i in order[:k]]


def seed_for(prompt: Prompt, seed: int) -> int:
    """A seed that differs from prompt to prompt, for questions whose words do not."""
    return int(fingerprint("seed", prompt.id, seed)[:7], 16)


def listed(text: str) -> list[str]:
    """The items of a numbered or bulleted list; lines that are none are left out."""
    return [match.group(1) for line in text.splitlines() if (match := _ITEM.match(line))]


def unlabelled(text: str) -> str:
    """A text without the label (``Question:``) and the quotation marks that models like to put around it."""
    bare = _LABEL.sub("", text.strip(), count=1).strip()
    if len(bare) > 1 and bare[0] == bare[-1] == '"' and bare.count('"') == 2:
        return bare[1:-1].strip()
    return bare


def overlap(first: str, second: str) -> float:
    """How alike two texts are: the share of 3-word runs that they have in common, 1 where the words are the same."""
    if plain(first) == plain(second):
        return 1.0
    return jaccard(shingles(first), shingles(second))


def lines_of(package: str, name: str, path: str = "") -> list[str]:
    """The lines of a text file beside a plugin, or of the user's own; empty ones and those that begin with # are left out.

    Raises UserError where none is left.
    """
    text = read_file(str(Path(path))) if path else read(package, name)
    found = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        raise UserError(f"{path or name}: no line in it; write one entry a line")
    return found
