"""Grade one answer on a scale, without a rival.

The judge ends with ``[[7]]``. Where the server gives log-probabilities of the score token, the grade is their weighted
mean, as in G-Eval (Liu et al., arXiv 2303.16634, section 2); else it is the number itself.

    rlhf-eval judge --judge grade --judge-model openai:NAME@http://localhost:8000/v1 --set high=10
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from judges.reading import last_rating, token_at
from rlhf_eval.models.base import ChatRequest, Choice, Model
from rlhf_eval.records import Completion, Message, Prompt, Sampling, Verdict
from rlhf_eval.templates import conversation, fill, read, read_file

ARITY = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the grading judge."""

    low: int = 1
    """Lowest grade."""
    high: int = 10
    """Highest grade."""
    reasoning: bool = False
    """Let the judge explain itself before the grade."""
    reference: bool = False
    """Show the prompt's reference answer, where it has one."""
    soft: bool = True
    """Weight the grades by their probabilities where the server gives log-probabilities."""
    temperature: float = 0.0
    """Sampling temperature of the judge."""
    max_tokens: int = 1024
    """Longest reply of the judge, in tokens."""
    template: str = ""
    """A template file of your own with the slots {question}, {answer}, {reference}."""

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(f"the scale {self.low} to {self.high} must rise and lie within 0 to 100")


def ask(prompt: Prompt, answer: str, config: Config) -> tuple[Message, ...]:
    """The messages that ask for a grade of ``answer``."""
    name = "grade_reference.txt" if config.reference and prompt.reference else "grade.txt"
    template = read_file(config.template) if config.template else read("judges", name)
    slots = {"question": conversation(prompt), "answer": answer, "reference": prompt.reference or ""}
    rule = "First explain your judgment in a few sentences, then end" if config.reasoning else "Reply"
    scale = {"rule": rule, "low": str(config.low), "high": str(config.high)}
    return Message("system", fill(read("judges", "grade_system.txt"), scale)), Message("user", fill(template, slots))


def read_verdict(choice: Choice, config: Config) -> Verdict:
    """The grade in a reply: the last bracketed number on the scale, softened where its probabilities are known."""
    found = last_rating(choice.text, config.low, config.high)
    if found is None:
        cause = f"unparsed: no [[number]] from {config.low} to {config.high} at the end of the reply"
        if choice.finish_reason == "length":
            cause += ", which was cut off at max_tokens"
        return Verdict(error=cause, rationale=choice.text)
    grade, offset = found
    score = _expected(choice, offset, grade, config) if config.soft else float(grade)
    return Verdict(scores=(score,), rationale=choice.text, metadata={"verdict": grade})


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model, config: Config) -> Verdict:
    """Grade one completion; raises RequestFailed where the model gives no reply."""
    request = ChatRequest(
        messages=ask(prompt, completions[0].text, config),
        sampling=Sampling(temperature=config.temperature, max_tokens=config.max_tokens),
        top_logprobs=20 if config.soft else 0,
    )
    reply = await model.chat(request)
    return read_verdict(reply.choices[0], config)


def _expected(choice: Choice, offset: int, grade: int, config: Config) -> float:
    """Mean grade under the score token's distribution; the plain grade where that is not known.

    Only grades that are one token can be weighed against each other. Where the tokenizer splits a grade ("10" as "1" and
    "0") the digit "1" stands for two grades, so nothing is weighed and the grade is taken as it was written.
    """
    located = token_at(choice, offset)
    if located is None or not located[0].top:
        return float(grade)
    token, at = located
    before, after = token.token[:at], token.token[at + len(str(grade)) :]
    if token.token != f"{before}{grade}{after}":
        return float(grade)
    known = {**dict(token.top), token.token: token.logprob}
    scale = range(config.low, config.high + 1)
    mass = {g: math.exp(known[f"{before}{g}{after}"]) for g in scale if f"{before}{g}{after}" in known}
    total = sum(mass.values())
    if total == 0 or _ambiguous(mass, config.high):
        return float(grade)
    return sum(g * p for g, p in mass.items()) / total


def _ambiguous(grades: Collection[int], high: int) -> bool:
    """Whether a digit among the alternatives may be the start of a longer grade that is split into digits."""
    starts = {int(str(grade)[0]) for grade in range(10, high + 1)}
    return not any(grade > 9 for grade in grades) and not starts.isdisjoint(grades)
