"""Check an answer against a weighted rubric, criterion by criterion, and keep every criterion's verdict.

Criteria of negative weight are pitfalls; a hard rule that is broken makes the score 0. The score is ``sum(w v)`` over the
sum of the positive weights, held to [0, 1] (Gunjal et al., "Rubrics as Rewards", arXiv 2507.17746; HealthBench, arXiv
2505.08775). The rubric comes from the prompt's metadata (``rubric``: a list of texts, or of tables with ``criterion``,
``weight``, ``hard``), from a file for all prompts, or is written by the model, once a prompt.

    rlhf-eval judge --judge rubric --judge-model openai:NAME@http://localhost:8000/v1 --set generate=true
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from weakref import WeakKeyDictionary

from judges.reading import last_label, numbered_labels, option_shares, strip_thinking
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import ChatRequest, Choice, Model
from rlhf_eval.records import Completion, Message, Prompt, Sampling, Verdict
from rlhf_eval.templates import chosen, conversation, fill, read, read_file

ARITY = 1

YES_NO = ("yes", "no")
TEXTS = ("criterion", "description", "text")
"""Keys under which a rubric's table may hold the criterion."""

REMEMBERED = 256
"""Rubrics that are kept in memory beside those being written; older ones are in the response cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the rubric judge."""

    rubric: str = ""
    """A JSON or YAML file with a list of criteria, for prompts that bring none of their own."""
    generate: bool = False
    """Let the model write a rubric for prompts that bring none and have no file."""
    separate: bool = False
    """Ask about each criterion in a call of its own: dearer, and soft where the server gives log-probabilities."""
    temperature: float = 0.0
    """Sampling temperature of the judge."""
    max_tokens: int = 2048
    """Longest reply of the judge, in tokens."""
    template: str = ""
    """A template file of your own with the slots {question}, {answer}, {criteria}, {task}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One thing to check."""

    criterion: str
    weight: float = 1.0
    """Its share of the score; negative for a fault."""
    hard: bool = False
    """A rule: not met, it makes the score 0."""


class NoRubric(Exception):
    """The model's reply is no rubric; ``text`` is that reply."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(why)
        self.text = text


_writing: WeakKeyDictionary[Model, dict[str, asyncio.Task[tuple[Criterion, ...]]]] = WeakKeyDictionary()
"""Rubrics that are being written, so that the answers to one prompt are all checked against the same one."""


def parse(items: Any, where: str) -> tuple[Criterion, ...]:
    """Criteria from plain values; raises UserError naming ``where`` and the item that is none."""
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        raise UserError(f"{where}: a rubric is a list of criteria with at least one item")
    criteria = tuple(_criterion(item, f"{where}, criterion {k}") for k, item in enumerate(items, start=1))
    if not any(c.weight > 0 for c in criteria):
        raise UserError(f"{where}: no criterion has a positive weight, so every answer would score 0")
    return criteria


def given_rubric(prompt: Prompt, config: Config) -> tuple[Criterion, ...] | None:
    """The prompt's own rubric, else that of the file; None where there is neither."""
    if "rubric" in prompt.metadata:
        return parse(prompt.metadata["rubric"], f"the rubric of prompt {prompt.id}")
    return _from_file(config.rubric) if config.rubric else None


def score(criteria: Sequence[Criterion], met: Sequence[float]) -> float:
    """The score of verdicts in [0, 1], one a criterion: weighted, 0 where a hard rule is not met."""
    if any(c.hard and (value < 0.5) == (c.weight > 0) for c, value in zip(criteria, met, strict=True)):
        return 0.0
    earned = sum(c.weight * value for c, value in zip(criteria, met, strict=True))
    return min(1.0, max(0.0, earned / sum(c.weight for c in criteria if c.weight > 0)))


def ask(prompt: Prompt, answer: str, criteria: Sequence[Criterion], config: Config) -> tuple[Message, ...]:
    """The messages that ask about ``criteria``: all of them, or the only one."""
    template = chosen(config.template, "judges", "rubric.txt", "answer")
    task = read("judges", "rubric_one.txt" if config.separate else "rubric_all.txt")
    listed = "\n".join(f"{k}. {c.criterion}" for k, c in enumerate(criteria, start=1))
    slots = {"question": conversation(prompt), "answer": answer, "criteria": listed, "task": task}
    return Message("system", read("judges", "rubric_system.txt")), Message("user", fill(template, slots))


def read_one(choice: Choice) -> float | None:
    """Whether the one criterion is met: the probability of yes where it is known; None for an unreadable reply."""
    start = strip_thinking(choice.text)[1]
    found = last_label(choice.text[start:], YES_NO)
    if found is None:
        return None
    shares = option_shares(choice, start + found[1], YES_NO)
    return shares.of["yes"] if shares else float(found[0] == "yes")


def read_all(choice: Choice, count: int) -> list[float] | None:
    """Whether each of ``count`` criteria is met; None unless the reply says it of every one."""
    said = numbered_labels(choice.text[strip_thinking(choice.text)[1] :], count, YES_NO)
    return [float(word == "yes") for word in said] if said else None


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model, config: Config) -> Verdict:
    """Check one completion; raises RequestFailed where the model gives no reply, UserError where there is no rubric."""
    criteria = given_rubric(prompt, config)
    written = criteria is None
    if criteria is None:
        if not config.generate:
            raise UserError(
                f"prompt {prompt.id} has no 'rubric' in its metadata; give a file for all prompts "
                "(--set rubric=PATH) or let the judge write them (--set generate=true)"
            )
        try:
            criteria = await _rubric_for(prompt, model, config)
        except NoRubric as failure:
            return Verdict(error=f"unparsed: {failure}", rationale=failure.text)
    met, rationale = await _check(prompt, completions[0].text, criteria, model, config)
    if met is None:
        return Verdict(
            error=f"unparsed: not every one of {len(criteria)} criteria has a yes or no", rationale=rationale
        )
    kept = [{**asdict(c), "met": value} for c, value in zip(criteria, met, strict=True)]
    return Verdict(
        scores=(score(criteria, met),), rationale=rationale, metadata={"criteria": kept, "generated": written}
    )


async def _check(
    prompt: Prompt, answer: str, criteria: Sequence[Criterion], model: Model, config: Config
) -> tuple[list[float] | None, str]:
    """The verdict on each criterion, None where one cannot be read, and the judge's words."""
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens)
    if not config.separate:
        messages = ask(prompt, answer, criteria, config)
        choice = (await model.chat(ChatRequest(messages=messages, sampling=sampling))).choices[0]
        return read_all(choice, len(criteria)), choice.text
    requests = [
        ChatRequest(messages=ask(prompt, answer, [criterion], config), sampling=sampling, top_logprobs=20)
        for criterion in criteria
    ]
    choices = [reply.choices[0] for reply in await asyncio.gather(*map(model.chat, requests))]
    met = [read_one(choice) for choice in choices]
    rationale = "\n".join(f"{k}. {choice.text}" for k, choice in enumerate(choices, start=1))
    known = [value for value in met if value is not None]
    return (known if len(known) == len(met) else None), rationale


async def _rubric_for(prompt: Prompt, model: Model, config: Config) -> tuple[Criterion, ...]:
    tasks = _writing.setdefault(model, {})
    task = tasks.get(prompt.id)
    if task is None:
        for finished in [key for key, known in tasks.items() if known.done()][: max(0, len(tasks) - REMEMBERED)]:
            del tasks[finished]
        task = tasks[prompt.id] = asyncio.ensure_future(_write(prompt, model, config))
        task.add_done_callback(
            lambda done: tasks.pop(prompt.id, None) if done.cancelled() or done.exception() else None
        )
    return await asyncio.shield(task)


async def _write(prompt: Prompt, model: Model, config: Config) -> tuple[Criterion, ...]:
    text = fill(read("judges", "rubric_write.txt"), {"question": conversation(prompt)})
    sampling = Sampling(temperature=0.0, max_tokens=config.max_tokens)
    reply = await model.chat(ChatRequest(messages=(Message("user", text),), sampling=sampling))
    said = reply.choices[0].text
    answer = said[strip_thinking(said)[1] :]
    begin, end = answer.find("["), answer.rfind("]")
    try:
        return parse(json.loads(answer[begin : end + 1]), "the rubric that the model wrote")
    except (ValueError, RecursionError, UserError) as error:
        raise NoRubric(f"the reply is no rubric ({error})", said) from error


def _from_file(path: str) -> tuple[Criterion, ...]:
    import yaml

    try:
        return parse(yaml.safe_load(read_file(path)), path)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: neither JSON nor YAML: {error}") from error


def _criterion(item: Any, where: str) -> Criterion:
    if isinstance(item, str):
        item = {"criterion": item}
    if not isinstance(item, Mapping):
        raise UserError(f"{where}: a text or a table is wanted, not {type(item).__name__}")
    text = next((str(item[key]).strip() for key in TEXTS if item.get(key)), "")
    weight = item.get("weight", item.get("points", 1))
    if not text or isinstance(weight, bool) or not isinstance(weight, int | float) or weight == 0:
        raise UserError(f"{where}: it needs a text under {' or '.join(TEXTS)} and a weight other than 0")
    hard = bool(item.get("hard")) or re.match(r"\[hard rule\]", text, re.IGNORECASE) is not None
    return Criterion(criterion=" ".join(text.split()), weight=float(weight), hard=hard)
