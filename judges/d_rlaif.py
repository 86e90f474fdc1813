"""Direct RLAIF: a language model's own 1-to-10 score of one response as its reward, with no reward model between.

The score is the mean of 1..10 under the log-probabilities of the score tokens, mapped to [-1, 1] (Lee et al., arXiv
2309.00267v3, section 2.2.2). "10" is two tokens in many tokenizers; its probability is split from that of "1", by a second
call where the reply does not show the split.

    rlhf-eval judge --judge d_rlaif --judge-model openai:NAME@http://localhost:8000/v1
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from judges.reading import average, check_samples, check_scale, strip_thinking
from judges.scale import Grades, ask_splits, read_grades
from rlhf_eval.models.base import ChatRequest, Choice, Model
from rlhf_eval.records import Completion, Message, Prompt, Sampling, Verdict
from rlhf_eval.templates import chosen, conversation, fill

ARITY = 1

_WRITTEN = re.compile(r"[\s\[(*\"'`]*+(?i:score\s*+:?)?[\s\[(*\"'`]*+(\d{1,3})(?![\d.]\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the direct scorer."""

    low: int = 1
    """Lowest score."""
    high: int = 10
    """Highest score; 9 with low 0 makes every score one token."""
    normalize: bool = True
    """Map the scale to [-1, 1]; else the score is the mean itself."""
    samples: int = 1
    """Where the server gives no log-probabilities: replies to average."""
    temperature: float = 0.0
    """Sampling temperature."""
    max_tokens: int = 8
    """Longest reply, in tokens; more for a model that thinks first."""
    template: str = ""
    """A template file of your own with the slots {question}, {answer}, {low}, {high}."""

    def __post_init__(self) -> None:
        check_scale(self.low, self.high)
        check_samples(self.samples, self.temperature)


def ask(prompt: Prompt, answer: str, config: Config) -> tuple[Message, ...]:
    """The message that asks for a score of ``answer``."""
    template = chosen(config.template, "judges", "d_rlaif.txt", "answer")
    slots = {
        "question": conversation(prompt),
        "answer": answer,
        "reference": prompt.reference or "",
        "low": str(config.low),
        "high": str(config.high),
    }
    return (Message("user", fill(template, slots)),)


def find(choice: Choice, config: Config) -> tuple[int, int] | None:
    """The score that a reply begins with, and its offset; None where there is none on the scale."""
    start = strip_thinking(choice.text)[1]
    written = _WRITTEN.match(choice.text, start)
    if written is None or not config.low <= int(written.group(1)) <= config.high:
        return None
    return int(written.group(1)), written.start(1)


def reward(mass: Mapping[int, float], config: Config) -> float:
    """The mean score under ``mass``, on [-1, 1] if that is wanted."""
    mean = sum(g * p for g, p in mass.items()) / sum(mass.values())
    return normalized(mean, config)


def normalized(score: float, config: Config) -> float:
    """``score`` on [-1, 1], the middle of the scale at 0, where that is wanted."""
    if not config.normalize:
        return score
    return (score - (config.low + config.high) / 2) / ((config.high - config.low) / 2)


def read_verdict(choice: Choice, config: Config, grades: Grades | None = None) -> Verdict:
    """The score in a reply; ``grades`` is its distribution, where more is known than the reply shows."""
    found = find(choice, config)
    if found is None:
        cut = ", which was cut off at max_tokens" if choice.finish_reason == "length" else ""
        cause = f"unparsed: the reply begins with no number from {config.low} to {config.high}{cut}"
        return Verdict(error=cause, rationale=choice.text)
    written, offset = found
    known = grades or read_grades(choice, offset, low=config.low, high=config.high)
    score = reward(known.mass, config) if known.known else normalized(float(written), config)
    return Verdict(scores=(score,), rationale=choice.text, metadata={"verdict": written, "soft": known.known})


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model, config: Config) -> Verdict:
    """Score one completion; raises RequestFailed where the model gives no reply."""
    request = ChatRequest(
        messages=ask(prompt, completions[0].text, config),
        sampling=Sampling(temperature=config.temperature, max_tokens=config.max_tokens),
        top_logprobs=20,
        n=config.samples,
    )
    choices = (await model.chat(request)).choices
    if config.samples > 1:
        return average([read_verdict(choice, config) for choice in choices])
    found = find(choices[0], config)
    if found is None:
        return read_verdict(choices[0], config)
    grades = read_grades(choices[0], found[1], low=config.low, high=config.high)
    if grades.unsplit and not grades.known:
        grades = await ask_splits(model, request, grades, "{}", low=config.low, high=config.high)
    return read_verdict(choices[0], config, grades)
