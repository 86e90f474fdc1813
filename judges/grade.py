"""Grade one answer on a scale, without a rival.

The judge ends with ``[[7]]``, or with ``[[yes]]`` or ``[[no]]``. Where the server gives log-probabilities of the score
tokens, the grade is their weighted mean, as in G-Eval (Liu et al., arXiv 2303.16634, section 2), a grade of two tokens
("1", "0") included; else it is the number itself, or the mean of ``samples`` replies.

    rlhf-eval judge --judge grade --judge-model openai:NAME@http://localhost:8000/v1 --set high=5
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from judges.reading import (
    average,
    check_samples,
    check_scale,
    last_label,
    last_rating,
    option_shares,
    strip_thinking,
)
from judges.scale import Grades, ask_splits, read_grades
from rlhf_eval.models.base import ChatRequest, Choice, Model
from rlhf_eval.records import Completion, Message, Prompt, Sampling, Verdict
from rlhf_eval.templates import chosen, conversation, fill, read

ARITY = 1

YES_NO = ("yes", "no")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the grading judge."""

    scale: Literal["numbers", "yes_no"] = "numbers"
    """Grades from low to high, or yes and no (scored 1 and 0)."""
    low: int = 1
    """Lowest grade."""
    high: int = 10
    """Highest grade."""
    decimals: bool = False
    """Accept grades such as [[8.5]]; they are taken as they are written, unweighted."""
    reasoning: bool = False
    """Let the judge explain itself before the grade."""
    reference: bool = False
    """Show the prompt's reference answer, where it has one."""
    soft: bool = True
    """Weight the grades by their probabilities where the server gives log-probabilities."""
    samples: int = 1
    """Replies to average: over reasonings, or where the server gives no log-probabilities."""
    temperature: float = 0.0
    """Sampling temperature of the judge."""
    max_tokens: int = 1024
    """Longest reply of the judge, in tokens."""
    template: str = ""
    """A template file of your own with the slots {question}, {answer}, {reference}."""

    def __post_init__(self) -> None:
        check_scale(self.low, self.high)
        check_samples(self.samples, self.temperature)


def ask(prompt: Prompt, answer: str, config: Config) -> tuple[Message, ...]:
    """The messages that ask for a grade of ``answer``."""
    stem = "grade" if config.scale == "numbers" else "grade_yes_no"
    name = f"{stem}_reference.txt" if config.reference and prompt.reference else f"{stem}.txt"
    template = chosen(config.template, "judges", name, "answer")
    slots = {"question": conversation(prompt), "answer": answer, "reference": prompt.reference or ""}
    rule = "First explain your judgment in a few sentences, then end" if config.reasoning else "Reply"
    scale = {"rule": rule, "low": str(config.low), "high": str(config.high)}
    return Message("system", fill(read("judges", f"{stem}_system.txt"), scale)), Message("user", fill(template, slots))


def read_verdict(choice: Choice, config: Config, grades: Grades | None = None) -> Verdict:
    """The grade in a reply: the last bracketed one on the scale, softened where its probabilities are known.

    ``grades`` is the distribution over the scale, if more is known about it than the reply shows.
    """
    thought, start = strip_thinking(choice.text)
    answer = choice.text[start:]
    metadata = {"thought": True} if thought else {}
    if config.scale == "yes_no":
        label = last_label(answer, YES_NO)
        if label is None:
            return _unparsed(choice, "no [[yes]] or [[no]]")
        shares = option_shares(choice, start + label[1], YES_NO) if config.soft else None
        score = shares.of["yes"] if shares else float(label[0] == "yes")
        return Verdict(scores=(score,), rationale=choice.text, metadata={"verdict": label[0], **metadata})
    if config.decimals:
        written = last_decimal(answer, config.low, config.high)
        if written is None:
            return _unparsed(choice, f"no [[number]] from {config.low} to {config.high}")
        return Verdict(scores=(written,), rationale=choice.text, metadata={"verdict": written, **metadata})
    found = last_rating(answer, config.low, config.high)
    if found is None:
        return _unparsed(choice, f"no [[number]] from {config.low} to {config.high}")
    grade, offset = found
    if grades is None and config.soft:
        grades = read_grades(choice, start + offset, low=config.low, high=config.high)
    score = grades.mean if grades and grades.known else float(grade)
    return Verdict(scores=(score,), rationale=choice.text, metadata={"verdict": grade, **metadata})


def last_decimal(text: str, low: int, high: int) -> float | None:
    """The last ``[[number]]``, whole or decimal, if it lies in ``low..high``."""
    numbers = re.findall(r"\[\[\s*(-?[0-9]{1,6}(?:\.[0-9]{1,6})?)\s*\]\]", text)
    return float(numbers[-1]) if numbers and low <= float(numbers[-1]) <= high else None


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model, config: Config) -> Verdict:
    """Grade one completion; raises RequestFailed where the model gives no reply."""
    request = ChatRequest(
        messages=ask(prompt, completions[0].text, config),
        sampling=Sampling(temperature=config.temperature, max_tokens=config.max_tokens),
        top_logprobs=20 if config.soft else 0,
    )
    choices = (await model.chat(request)).choices
    if config.samples > 1 and (config.reasoning or not choices[0].logprobs):
        more = await model.chat(replace(request, n=config.samples - 1, first_sample=1))
        return average([read_verdict(choice, config) for choice in (*choices, *more.choices)])
    grades = _grades(choices[0], config)
    if grades.unsplit and not grades.known and not config.reasoning:
        grades = await ask_splits(model, request, grades, "[[{}]]", low=config.low, high=config.high)
    return read_verdict(choices[0], config, grades)


def _grades(choice: Choice, config: Config) -> Grades:
    """The distribution over a plain scale as one reply shows it; empty where there is none to know."""
    start = strip_thinking(choice.text)[1]
    found = last_rating(choice.text[start:], config.low, config.high)
    if found is None or not config.soft or config.decimals or config.scale == "yes_no":
        return Grades()
    return read_grades(choice, start + found[1], low=config.low, high=config.high)


def _unparsed(choice: Choice, what: str) -> Verdict:
    cause = f"unparsed: {what} at the end of the reply"
    if choice.finish_reason == "length":
        cause += ", which was cut off at max_tokens"
    return Verdict(error=cause, rationale=choice.text)
