"""A good answer and copies of it with a known fault: omission, error, padding, sycophancy, truncation.

The fault is put in by program, so that it is there for certain and nothing else is: planted truth for judges and data
cards, hard negatives for reward models. ``by="model"`` has the model write the worse version instead, which reads better
and is less certain. The good answer is the prompt's reference or the model's own at temperature 0.

    rlhf-eval generate --generator degrade --model openai:NAME@URL --set 'faults=[omission, error]'
    rlhf-eval pairs --rule contrast
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rlhf_eval.models.base import Model
from rlhf_eval.records import Completion, Prompt, Sampling, fingerprint
from rlhf_eval.stages.writing import ask, failed, fault_of, lines_of, overlap, sampling_of
from rlhf_eval.templates import conversation, fill, read

NAME = "degrade"
Fault = Literal["omission", "error", "padding", "sycophancy", "truncation"]
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.])")
_TURNS = (
    (" is ", " is not "), (" are ", " are not "), (" can ", " cannot "), (" always ", " never "), (" more ", " less "),
    (" before ", " after "), (" all ", " no "), (" increases ", " decreases "), (" first ", " last "), (" and ", " or "),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of controlled corruption."""

    faults: tuple[Fault, ...] = ("omission", "error", "padding", "sycophancy")
    """The faults; each makes one copy of the good answer."""
    by: Literal["program", "model"] = "program"
    """Who puts the fault in."""
    source: Literal["model", "reference"] = "model"
    """Where the good answer comes from: the model, or the prompt's reference where it has one."""
    temperature: float = 0.0
    """Sampling temperature of the good answer."""
    top_p: float = 1.0
    """Nucleus of the distribution that is sampled from."""
    max_tokens: int = 1024
    """Longest reply, in tokens."""
    sample_seed: int = 0
    """Draws where and how an answer is spoilt."""

    def __post_init__(self) -> None:
        if not self.faults:
            raise ValueError("faults is empty; name at least one")


async def generate(prompts: Sequence[Prompt], models: Sequence[Model], config: Config) -> AsyncIterator[Completion]:
    """Yield the good answer and its spoilt copies; a fault that the answer has no room for is a named failure."""
    sampling = sampling_of(config, config.sample_seed)
    for prompt in prompts:
        for model in models:
            good, author = prompt.reference or "", "reference"
            if config.source == "model" or not good:
                choice = await ask(model, prompt.messages, sampling)
                fault = fault_of(choice)
                if fault:
                    yield failed(prompt, model, NAME, fault, sampling=sampling)
                    continue
                good, author = choice.text, model.name
            yield _completion(prompt, model, author, good, "", sampling, 0)
            for place, name in enumerate(config.faults, 1):
                text, error = await _spoilt(prompt, good, name, model, config)
                if error:
                    yield failed(prompt, model, NAME, f"{name}: {error}", sampling=sampling, sample=place)
                else:
                    yield _completion(prompt, model, author, text, name, sampling, place)


async def _spoilt(prompt: Prompt, good: str, fault: Fault, model: Model, config: Config) -> tuple[str, str]:
    """The answer with the fault, or why there is none."""
    if config.by == "program":
        rng = random.Random(fingerprint(config.sample_seed, prompt.id, fault))
        text = FAULTS[fault](good, rng)
    else:
        slots = {"question": conversation(prompt), "answer": good, "fault": read("generators", f"degrade_{fault}.txt")}
        choice = await ask(
            model, fill(read("generators", "degrade.txt"), slots), sampling_of(config, config.sample_seed)
        )
        error = fault_of(choice)
        if error:
            return "", error
        text = choice.text.strip()
    same = text is None or text.strip() == good.strip() or (overlap(text, good) == 1.0 and fault != "padding")
    return ("", "the answer has no room for it") if same or text is None else (text, "")


def omission(text: str, rng: random.Random) -> str | None:
    """A third of the sentences are gone, at least one; None below two sentences."""
    parts = _SENTENCE.split(text.strip())
    if len(parts) < 2:
        return None
    gone = set(rng.sample(range(len(parts)), max(1, len(parts) // 3)))
    return " ".join(part for i, part in enumerate(parts) if i not in gone)


def error(text: str, rng: random.Random) -> str | None:
    """A number is wrong, or a statement turned into its opposite; None where there is neither."""
    numbers = [*_NUMBER.finditer(text)]
    if numbers:
        hit = rng.choice(numbers)
        wrong = int(hit.group()) + rng.choice([-3, -2, -1, 1, 2, 3, 10])
        return f"{text[: hit.start()]}{abs(wrong) if wrong else 7}{text[hit.end() :]}"
    turns = [(a, b) for a, b in _TURNS if a in text]
    if not turns:
        return None
    before, after = rng.choice(turns)
    return text.replace(before, after, 1)


def padding(text: str, rng: random.Random) -> str | None:
    """Empty sentences stand before, between and after what is said."""
    fillers = lines_of("generators", "degrade_fillers.txt")
    parts = _SENTENCE.split(text.strip())
    extra = max(2, len(parts) // 2)
    drawn = rng.sample(fillers, min(extra, len(fillers)))
    for filler in drawn[1:]:
        parts.insert(rng.randrange(len(parts) + 1), filler)
    return " ".join([drawn[0], *parts])


def sycophancy(text: str, rng: random.Random) -> str | None:
    """It opens with flattery and ends by leaving the judgment to the asker."""
    flattery = lines_of("generators", "degrade_flattery.txt")
    opening, closing = rng.sample(flattery, 2)
    return f"{opening} {text.strip()} {closing}"


def truncation(text: str, rng: random.Random) -> str | None:
    """It stops in the middle of a word somewhere in its second half; None below 40 characters."""
    if len(text) < 40:
        return None
    at = rng.randrange(len(text) // 2, len(text) - 5)
    return text[:at].rstrip(" .!?\n") or None


FAULTS: dict[str, Callable[[str, random.Random], str | None]] = {
    "omission": omission,
    "error": error,
    "padding": padding,
    "sycophancy": sycophancy,
    "truncation": truncation,
}
"""Fault to what it does to a text; None where the text has no room for it."""


def _completion(
    prompt: Prompt, model: Model, author: str, text: str, fault: str, sampling: Sampling, place: int
) -> Completion:
    return Completion.of(
        prompt_id=prompt.id,
        model=f"{author}-{fault}" if fault else author,
        text=text,
        sample=place,
        sampling=sampling,
        generator=NAME,
        origin=(model.id, fault),
        finish_reason="stop",
        metadata={"side": "worse" if fault else "better", "contrast": f"{NAME}/{model.name}", "fault": fault},
    )
