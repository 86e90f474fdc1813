"""Compare two answers: which is better, and by how much the judge thinks so.

The judge answers ``[[A]]`` or ``[[B]]`` (``[[C]]`` for a tie, where ties are allowed), or one of five steps from
``[[A>>B]]`` to ``[[B>>A]]``. Where the server gives log-probabilities, the score is the probability of the verdict's
letter, as in RLAIF (Lee et al., arXiv 2309.00267, section 2.1) and AlpacaEval 2; else it is 1, 0 or .5, or the mean of
``samples`` replies. The stage shows both orders; position bias then cancels or shows.

    rlhf-eval judge --judge pairwise --model openai:NAME@http://localhost:8000/v1
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from judges.reading import (
    average,
    bare_letter_probabilities,
    check_samples,
    last_label,
    last_verdict,
    letter_probabilities,
    strip_thinking,
)
from rlhf_eval.models.base import ChatRequest, Choice, Model
from rlhf_eval.records import Completion, Message, Prompt, Sampling, Verdict
from rlhf_eval.templates import chosen, conversation, fill, read

ARITY = 2

STEPS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
"""The five-step verdicts (Arena-Hard, arXiv 2406.11939)."""

SAME_STEP = {"A<B": "B>A", "A<<B": "B>>A", "B<A": "A>B", "B<<A": "A>>B", "B=A": "A=B"}
"""Other ways to write the same five."""

CATEGORIES = {
    "math": ("math", "maths", "mathematics", "reasoning", "gsm8k", "logic"),
    "code": ("code", "coding", "programming", "software"),
    "writing": ("writing", "creative", "creative writing", "roleplay", "poetry"),
}
"""Kinds of question that have criteria of their own, with the prompt categories that belong to each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the pairwise judge."""

    ties: bool = False
    """Allow the verdict [[C]]: the answers are equally good."""
    reasoning: bool = False
    """Let the judge explain itself before the verdict."""
    reference: bool = False
    """Show the prompt's reference answer, where it has one."""
    steps: bool = False
    """Ask for one of five steps, from A>>B to B>>A, in place of a letter."""
    slight: float = 0.75
    """The winner's score where it is only slightly better (with steps)."""
    letters: str = "AB"
    """The two letters that stand for the answers: AB, or those of a template of your own."""
    bracketed: bool = True
    """Look for [[A]]; else for the bare letter that the reply begins with, or might have by its log-probabilities."""
    by_category: bool = False
    """Add criteria of its own for a prompt whose category is math, code or writing."""
    soft: bool = True
    """Score by the probability of the verdict's letter where the server gives log-probabilities."""
    constrain: bool = False
    """Ask the server to allow nothing but the verdicts (only without reasoning)."""
    samples: int = 1
    """Replies to average: over reasonings, or where the server gives no log-probabilities."""
    temperature: float = 0.0
    """Sampling temperature of the judge."""
    max_tokens: int = 1024
    """Longest reply of the judge, in tokens."""
    template: str = ""
    """A template file of your own with the slots {question}, {answer_a}, {answer_b}, {reference}."""

    def __post_init__(self) -> None:
        if self.constrain and self.reasoning:
            raise ValueError("constrain leaves no room for reasoning; choose one of the two")
        if len(set(self.letters)) != 2 or not self.letters.isalpha():
            raise ValueError(f"letters is '{self.letters}'; two different letters are needed, for instance AB")
        if not self.bracketed and (self.ties or self.reasoning):
            raise ValueError("a bare letter leaves no room for ties and reasoning; set bracketed=true for them")
        if self.letters != "AB" and (self.ties or self.steps or not self.template):
            raise ValueError("letters other than AB need a template of your own, without ties and steps")
        if self.steps and (self.ties or not self.bracketed):
            raise ValueError("steps already has a verdict for ties and is always bracketed; choose one of the two")
        if not 0.5 < self.slight <= 1:
            raise ValueError(f"slight is {self.slight}; it must lie over .5 and up to 1")
        check_samples(self.samples, self.temperature)


def ask(prompt: Prompt, answers: tuple[str, str], config: Config) -> tuple[Message, ...]:
    """The messages that put the question, with ``answers`` in the order shown."""
    slots = {
        "question": conversation(prompt),
        "answer_a": answers[0],
        "answer_b": answers[1],
        "reference": prompt.reference or "",
    }
    shows_reference = config.reference and prompt.reference
    name = "pairwise_reference.txt" if shows_reference else "pairwise.txt"
    template = chosen(config.template, "judges", name, "answer_a", "answer_b")
    system = fill(read("judges", "pairwise_system.txt"), {"verdicts": _verdict_rule(config)})
    if config.by_category and (kind := kind_of(prompt.category)):
        system = f"{system} {read('judges', f'pairwise_category_{kind}.txt')}"
    return Message("system", system), Message("user", fill(template, slots))


def kind_of(category: str) -> str | None:
    """The kind of question that a category belongs to, where that kind has criteria of its own."""
    plain = category.strip().lower().replace("_", " ").replace("-", " ")
    return next((kind for kind, names in CATEGORIES.items() if plain in names), None)


def read_verdict(choice: Choice, config: Config) -> Verdict:
    """The scores in a reply: its last verdict, softened by its log-probabilities where they are known.

    What a reasoning model thought before its answer holds no verdict; it stays in the rationale.
    """
    thought, start = strip_thinking(choice.text)
    answer = choice.text[start:]
    shares = bare_letter_probabilities(choice, start, config.letters) if config.soft and not config.bracketed else None
    found = (max(shares, key=shares.__getitem__), 0) if shares else _found(answer, config)
    if found is None:
        cause = f"unparsed: no {_wanted(config)} in the reply"
        if choice.finish_reason == "length":
            cause += ", which was cut off at max_tokens"
        return Verdict(error=cause, rationale=choice.text)
    verdict, offset = found
    metadata = {"verdict": verdict, **({"thought": True} if thought else {})}
    if config.steps:
        first = dict(zip(STEPS, (1.0, config.slight, 0.5, 1 - config.slight, 0.0), strict=True))[verdict]
        return Verdict(scores=(first, 1.0 - first), rationale=choice.text, metadata=metadata)
    if config.soft and config.bracketed:
        shares = letter_probabilities(choice, start + offset, _letters(config))
    shares = shares or {verdict: 1.0}
    tie = shares.get("C", 0.0) / 2 if config.ties else 0.0
    first = shares.get(config.letters[0], 0.0) + tie
    return Verdict(scores=(first, 1.0 - first), rationale=choice.text, metadata=metadata)


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model, config: Config) -> Verdict:
    """Compare two completions, in the order given; raises RequestFailed where the model gives no reply."""
    first, second = completions
    request = ChatRequest(
        messages=ask(prompt, (first.text, second.text), config),
        sampling=Sampling(temperature=config.temperature, max_tokens=config.max_tokens),
        top_logprobs=5 if config.soft and not config.steps else 0,
        choices=_verdicts(config) if config.constrain else (),
    )
    choices = (await model.chat(request)).choices
    if config.samples > 1 and (config.reasoning or not choices[0].logprobs):
        more = await model.chat(replace(request, n=config.samples - 1, first_sample=1))
        return average([read_verdict(choice, config) for choice in (*choices, *more.choices)])
    return read_verdict(choices[0], config)


def _letters(config: Config) -> str:
    return config.letters + "C" if config.ties else config.letters


def _verdicts(config: Config) -> tuple[str, ...]:
    """Every allowed verdict as it is written."""
    names = STEPS if config.steps else tuple(_letters(config))
    return tuple(f"[[{name}]]" if config.bracketed else name for name in names)


def _wanted(config: Config) -> str:
    return " or ".join(_verdicts(config))


def _found(answer: str, config: Config) -> tuple[str, int] | None:
    """The verdict in the answer part of a reply, and its offset there."""
    if config.steps:
        found = last_label(answer, (*STEPS, *SAME_STEP))
        return (SAME_STEP.get(found[0], found[0]), found[1]) if found else None
    if config.bracketed:
        return last_verdict(answer, _letters(config))
    bare = re.match(rf"\s*([{_letters(config)}])\b", answer)
    return (bare.group(1), bare.start(1)) if bare else None


def _verdict_rule(config: Config) -> str:
    tie = " If they are equally good, reply with [[C]]." if config.ties else ""
    if config.steps:
        opening = (
            "Explain your judgment in a few sentences, then end with your verdict." if config.reasoning else "Reply"
        )
        steps = read("judges", "pairwise_steps.txt")
        return f"{opening} {steps}" if config.reasoning else f"{opening} with nothing but your verdict. {steps}"
    if config.reasoning:
        return f"Explain your judgment in a few sentences, then end with [[A]] or [[B]].{tie}"
    if not config.bracketed:
        return f"Reply with the letter {config.letters[0]} or {config.letters[1]} and nothing else."
    return f"Reply with [[A]] or [[B]].{tie}"
