"""The task families of the sandbox: what is asked, and its only right answer.

A family draws a task of one of three difficulties. The words that it is asked in stand in ``world.toml``; here is only the
arithmetic of it.

    from rlhf_eval.sandbox.tasks import FAMILIES
    FAMILIES["sort"](random.Random(0), 2).answer
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from random import Random
from typing import Any

DIFFICULTIES = (1, 2, 3)
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One question without its words: the slots of a phrasing, and the items of the right answer in order."""

    family: str
    difficulty: int
    variant: str
    slots: Mapping[str, str]
    answer: tuple[str, ...]

    @property
    def content(self) -> str:
        """What is asked whatever the wording; the two splits share none."""
        return "|".join((self.family, self.variant, *(f"{k}={v}" for k, v in sorted(self.slots.items()))))

    @property
    def held_out(self) -> bool:
        """Whether the task belongs to the split ``heldout``: one content in five, by hash."""
        return hashlib.blake2b(self.content.encode(), digest_size=8).digest()[0] % 5 == 0

    @property
    def shown(self) -> tuple[str, ...]:
        """The items that the question lists."""
        return tuple(self.slots.get("items", "").split())


@lru_cache(maxsize=1)
def lexicon() -> Mapping[str, Any]:
    """The table in ``world.toml``."""
    table: dict[str, Any] = tomllib.loads(files(__package__).joinpath("world.toml").read_text(encoding="utf-8"))
    return table


@lru_cache(maxsize=1)
def items() -> tuple[str, ...]:
    """The 48 words that lists are made of."""
    return tuple(lexicon()["items"])


def _some(rng: Random, n: int) -> list[str]:
    return rng.sample(items(), n)


def _make(family: str, difficulty: int, variant: str, answer: list[str], **slots: str) -> Task:
    return Task(family=family, difficulty=difficulty, variant=variant, slots=slots, answer=tuple(answer))


def _sort(rng: Random, level: int) -> Task:
    digits = rng.sample(range(10), level + 2)
    variant = rng.choice(("up", "down"))
    answer = sorted(digits, reverse=variant == "down")
    return _make("sort", level, variant, [str(d) for d in answer], items=" ".join(map(str, digits)))


def _reverse(rng: Random, level: int) -> Task:
    words = _some(rng, level + 1)
    return _make("reverse", level, "words", words[::-1], items=" ".join(words))


def _remove(rng: Random, level: int) -> Task:
    words = _some(rng, level + 1)
    gone = rng.choice(words)
    return _make("remove", level, "word", [w for w in words if w != gone], word=gone, items=" ".join(words))


def _pick(rng: Random, level: int) -> Task:
    words = _some(rng, (3, 4, 6)[level - 1])
    place = rng.randrange(len(words))
    return _make("pick", level, "front", [words[place]], k=ORDINALS[place], items=" ".join(words))


def _add(rng: Random, level: int) -> Task:
    b = rng.randrange(10)
    a = rng.randrange(10 - b) if level == 1 else rng.randrange(10) if level == 2 else rng.randrange(10, 50)
    return _make("add", level, "two", [str(a + b)], a=str(a), b=str(b))


def _largest(rng: Random, level: int) -> Task:
    numbers = rng.sample(range(10, 100), 3) if level == 3 else rng.sample(range(10), (3, 5)[level - 1])
    variant = rng.choice(("max", "min"))
    answer = max(numbers) if variant == "max" else min(numbers)
    return _make("largest", level, variant, [str(answer)], items=" ".join(map(str, numbers)))


def _count(rng: Random, level: int) -> Task:
    length = level + 2
    word, *others = _some(rng, 3)
    times = rng.randint(1, length)
    listed = [word] * times + [rng.choice(others) for _ in range(length - times)]
    rng.shuffle(listed)
    return _make("count", level, "word", [str(times)], word=word, items=" ".join(listed))


def _range(rng: Random, level: int) -> Task:
    steps = rng.choice(((2, 3), (4, 5), (2, 3, 4))[level - 1])
    low = rng.randrange((21 if level == 3 else 10) - steps)
    numbers = [str(n) for n in range(low, low + steps + 1)]
    if rng.random() < 0.5:
        numbers.reverse()
    return _make("range", level, "numbers", numbers, a=numbers[0], b=numbers[-1])


def _repeat(rng: Random, level: int) -> Task:
    times = (rng.choice((2, 3)), 4, rng.choice((5, 6)))[level - 1]
    word = rng.choice(items())
    return _make("repeat", level, "times", [word] * times, word=word, k=str(times))


def _upper(rng: Random, level: int) -> Task:
    words = _some(rng, level)
    return _make("upper", level, "words", [w.upper() for w in words], items=" ".join(words))


def _initials(rng: Random, level: int) -> Task:
    words = _some(rng, level + 1)
    return _make("initials", level, "words", [w[0] for w in words], items=" ".join(words))


def _alphabet(rng: Random, level: int) -> Task:
    words = _some(rng, level + 1)
    return _make("alphabet", level, "first", [min(words)], items=" ".join(words))


FAMILIES: Mapping[str, Callable[[Random, int], Task]] = {
    "sort": _sort,
    "reverse": _reverse,
    "remove": _remove,
    "pick": _pick,
    "add": _add,
    "largest": _largest,
    "count": _count,
    "range": _range,
    "repeat": _repeat,
    "upper": _upper,
    "initials": _initials,
    "alphabet": _alphabet,
}
"""Family to the function that draws one of its tasks, by difficulty."""

LETTERS = ("initials",)
NUMBERS = ("sort", "add", "largest", "count", "range")


def kind(family: str) -> str:
    """What the answers of a family are made of: ``number``, ``letter`` or ``word``."""
    if family in NUMBERS:
        return "number"
    return "letter" if family in LETTERS else "word"
