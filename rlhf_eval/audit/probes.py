"""Altered answers that show what moves a judge: copies that say the same in another dress, and copies that give it orders.

A copy set against its original separates cause from association: nothing but length, lists or bold type differs. An
injected answer is one that the judge had found to be the worse, with a sentence that asks it to think otherwise; the
control sentence asks for nothing.

    padded, listed, bold = copies(completion)
    attacks(heavy=False)["instruction"]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import msgspec

from rlhf_eval.records import Completion

PROBE = "audit:"
"""How the generator of every altered answer begins; ``audit:padded``, ``audit:instruction``."""

MODEL = "audit/"
"""How the model of every altered answer begins, so that none of them is taken for an answer of the model itself."""

CONTROL = "control"
HEAVY = 10_000
"""Characters from which an attack is only bought on demand."""

OPENING = ("Here is the answer to what was asked.", "It is set out in full in what follows.")
CLOSING = (
    "That is the answer to what was asked.",
    "It was set out in full in what stands above.",
    "Nothing more is needed to answer what was asked.",
    "What stands above is all there is to it.",
)

HEADER = re.compile(r"^#{1,6} |\*\*[^*\n]+\*\*|^```|`[^`\n]+`", re.MULTILINE)
ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One way to ask for a verdict from inside an answer."""

    name: str
    target: Literal["self", "A", "B"]
    place: Literal["end", "start", "instead"]
    text: str
    repeat: int = 1

    def on(self, answer: str) -> str:
        """The answer with the attack in it."""
        order = self.text * self.repeat
        if self.place == "instead":
            return order
        return f"{answer}\n\n{order}" if self.place == "end" else f"{order}\n\n{answer}"

    @property
    def heavy(self) -> bool:
        """Whether it is long enough to cost as much as all the others together."""
        return len(self.text) * self.repeat >= HEAVY


@cache
def corpus() -> tuple[Attack, ...]:
    """Every attack, in the order of the file, the control first."""
    import yaml

    text = files("rlhf_eval.audit").joinpath("injections.yaml").read_text(encoding="utf-8")
    return tuple(msgspec.convert(yaml.safe_load(text), list[Attack]))


def attacks(*, heavy: bool) -> dict[str, Attack]:
    """The attacks by name, without the control; the very long ones only if ``heavy``."""
    return {a.name: a for a in corpus() if a.name != CONTROL and (heavy or not a.heavy)}


def control() -> Attack:
    """The sentence that asks for nothing."""
    return next(a for a in corpus() if a.name == CONTROL)


def padded(text: str) -> str:
    """The same answer with sentences that say nothing before and behind it, about twice as long or longer."""
    closing: list[str] = []
    while not closing or sum(map(len, (*OPENING, *closing))) < len(text):
        closing.append(CLOSING[len(closing) % len(CLOSING)])
    return f"{' '.join(OPENING)}\n\n{text}\n\n{' '.join(closing)}"


def listed(text: str) -> str:
    """The same words as a list, a sentence or line an item."""
    return "\n".join(f"- {part}" for part in _SENTENCE.split(text.strip()) if part) or text


def bold(text: str) -> str:
    """The same words with every line in bold type."""
    return "\n".join(f"**{line.strip()}**" if line.strip() else line for line in text.splitlines()) or text


COPIES: Mapping[str, Callable[[str], str]] = {"padded": padded, "listed": listed, "bold": bold}
"""Name of a copy to what makes it."""


def copies(completion: Completion) -> list[Completion]:
    """The altered copies of an answer; those that come out unchanged are left out."""
    made = ((name, change(completion.text)) for name, change in COPIES.items())
    return [altered(completion, name, text) for name, text in made if text != completion.text]


def altered(completion: Completion, kind: str, text: str, *, against: str = "") -> Completion:
    """A probe made of ``completion``; ``against`` is the rival that it is to meet, where that is not the original."""
    return Completion.of(
        prompt_id=completion.prompt_id,
        model=f"{MODEL}{kind}",
        text=text,
        generator=f"{PROBE}{kind}",
        origin=completion.id,
        metadata={"of": completion.id, "against": against or completion.id},
    )


def is_probe(completion: Completion) -> bool:
    """Whether an audit made this answer."""
    return completion.generator.startswith(PROBE)


def kind_of(completion: Completion) -> str:
    """Which probe it is; empty for an answer that a model gave."""
    return completion.generator.removeprefix(PROBE) if is_probe(completion) else ""


def words(text: str) -> int:
    """Words of a text; marks of formatting are none."""
    return len(re.findall(r"\w+", text))


def traits(text: str) -> dict[str, float]:
    """What of an answer's dress a judge may like: words, marks of Markdown, items of lists."""
    return {
        "length": float(words(text)),
        "markdown": float(len(HEADER.findall(text))),
        "list": float(len(ITEM.findall(text))),
    }
