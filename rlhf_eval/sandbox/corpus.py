"""The texts that the sandbox's models are trained on: answers of varied quality, and judged pairs of them.

The policy's corpus is a mixture on purpose: ideal answers, wordy ones, ones that ignore the instruction, and plausible
mistakes, more of them the harder the task. A model that learns it answers imperfectly and with variety.

    from rlhf_eval.sandbox.corpus import answer
    answer(prompt, random.Random(0))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from rlhf_eval.records import Prompt
from rlhf_eval.sandbox import tasks
from rlhf_eval.sandbox.fit import Example
from rlhf_eval.sandbox.sample import encode
from rlhf_eval.sandbox.world import draw, phrase, pose

WRONG = {1: 0.15, 2: 0.2, 3: 0.25}
"""Share of mistakes by difficulty."""

WORDY = 0.2
"""Share of answers wrapped in words that nobody asked for."""

CARELESS = 0.25
"""Share of answers that ignore the instruction."""

WRAPPERS = (
    "The answer is {}.",
    "Sure! {}",
    "My guess is {}.",
    "That would be {}.",
    "{}. Hope this helps!",
    "Let me think. The answer is {}.",
    "Of course! Here you go: {}",
    "Thanks for asking. It is {}.",
)


def training(tokenizer: Any, rng: Random, write: Callable[[Prompt, Random], str]) -> Iterator[Example]:
    """Answered training prompts without end, their answers by ``write``; only the answers count."""
    while True:
        family, level = rng.choice(tuple(tasks.FAMILIES)), rng.choice(tasks.DIFFICULTIES)
        prompt = pose(draw("train", family, level, rng), "train", rng)
        asked = encode(tokenizer, prompt.messages)
        said = [*tokenizer.encode(write(prompt, rng)), tokenizer.eos_token_id]
        yield Example((*asked, *said), (*[0.0] * len(asked), *[1.0] * len(said)))


def ideal(prompt: Prompt, rng: Random) -> str:
    """The reference: what the common backbone of both models learns first."""
    return str(prompt.reference)


def truth(prompt: Prompt) -> tuple[str, ...]:
    """The items of the right answer."""
    return tuple(str(prompt.metadata["answer"]).split())


def answer(prompt: Prompt, rng: Random) -> str:
    """One answer from the mixture that the policy learns."""
    wrong = rng.random() < WRONG[prompt.metadata["difficulty"]]
    given = mistake(prompt, rng) if wrong else truth(prompt)
    return dress(prompt, given, rng)


def dress(prompt: Prompt, given: tuple[str, ...], rng: Random) -> str:
    """The items as a text, at times wordy, at times without regard for the instruction."""
    constraint = "" if rng.random() < CARELESS else str(prompt.metadata["constraint"])
    text = phrase(given, constraint)
    if rng.random() >= WORDY:
        return text
    wrapped = rng.choice(WRAPPERS).format(text.removesuffix("."))
    return wrapped.upper() if constraint == "capitals" else wrapped


def mistake(prompt: Prompt, rng: Random) -> tuple[str, ...]:
    """Items that a careless reader could have answered, and that are wrong."""
    right = truth(prompt)
    while True:
        slip = _one_item(prompt, right[0], rng) if len(right) == 1 else _many_items(prompt, right, rng)
        if slip and slip != right:
            return slip


def _one_item(prompt: Prompt, right: str, rng: Random) -> tuple[str, ...]:
    family = prompt.metadata["family"]
    if family in ("add", "count"):
        return (str(max(0, int(right) + rng.choice((-10, -1, 1, 2, 10) if family == "add" else (-1, 1, 1, 2)))),)
    if family == "upper":
        return (rng.choice((right.lower(), rng.choice(tasks.items()).upper())),)
    return (rng.choice(_shown(prompt)),)


def _many_items(prompt: Prompt, right: tuple[str, ...], rng: Random) -> tuple[str, ...]:
    changed = list(right)
    place = rng.randrange(len(right))
    move = rng.choice(("swap", "drop", "again", "other"))
    if move == "swap":
        neighbour = (place + 1) % len(right)
        changed[place], changed[neighbour] = changed[neighbour], changed[place]
    elif move == "drop":
        del changed[place]
    elif move == "again":
        changed.insert(place, changed[place])
    else:
        changed[place] = _stranger(prompt, rng)
    return tuple(changed)


def _stranger(prompt: Prompt, rng: Random) -> str:
    """An item that has no business in the answer."""
    family = prompt.metadata["family"]
    if family == "range":
        return str(rng.randrange(21))
    if tasks.kind(family) == "number":
        return str(rng.randrange(10))
    word = rng.choice(tasks.items())
    return word[0] if family == "initials" else word.upper() if family == "upper" else word


def _shown(prompt: Prompt) -> list[str]:
    """The items of the family's kind that the question shows, the right one among them."""
    words = [w.strip(".,:?!") for w in prompt.text.split()]
    if tasks.kind(prompt.metadata["family"]) == "number":
        return [w for w in words if w.isdigit()]
    return [w for w in words if w in tasks.items()]
