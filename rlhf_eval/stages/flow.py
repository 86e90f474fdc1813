"""The line for one prompt: obtain its answers, then judge them, with no barrier between prompts.

A prompt is judged as soon as its own completions exist, whatever the others do; what an earlier process finished is taken
from the store and not asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rlhf_eval.records import Completion, Outcome, Prompt
from rlhf_eval.stages.drive import Sink
from rlhf_eval.stages.generate import Writer, complete
from rlhf_eval.stages.judge import Call, Instrument, judge_prompt

T = TypeVar("T")
Plan = Callable[[Prompt, Sequence[Completion]], list[Call]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One source of new completions."""

    writer: Writer
    sink: Sink
    known: set[str]
    """Ids that an earlier process has stored."""
    finished: Mapping[str, list[Completion]] = field(default_factory=dict)
    """Prompt to completions, for the prompts whose generation had ended."""
    own_account: bool = True
    """Whether the sink is a run of its own, which wants an outcome a prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """One judge with the questions that it will be asked."""

    instrument: Instrument
    plan: Plan
    sink: Sink
    known: set[str]


async def walk(
    prompt: Prompt,
    generations: Sequence[Generation],
    judgings: Sequence[Judging],
    answers: Mapping[str, list[Completion]],
) -> Outcome:
    """All the work on one prompt; its outcome is the first failure, or else that of the first judge.

    A run that judges gets exactly one outcome a prompt and walk, whatever failed before the judges could be asked.
    """
    ends = await _all(_obtain(prompt, generation) for generation in generations)
    completions = [*answers.get(prompt.id, ()), *(c for found, _ in ends for c in found)]
    outcomes = [outcome for _, outcome in ends]
    if all(outcome.status != "failed" for outcome in outcomes):
        outcomes = [await _judged(prompt, judging, completions) for judging in judgings] or outcomes
    outcome = next((o for o in outcomes if o.status == "failed"), outcomes[0])
    for sink in {id(judging.sink): judging.sink for judging in judgings}.values():
        sink.append("outcomes", outcome)
    return outcome


async def _judged(prompt: Prompt, judging: Judging, completions: Sequence[Completion]) -> Outcome:
    asked = judging.plan(prompt, completions)
    return await judge_prompt(prompt, asked, judging.instrument, judging.sink, judging.known)


async def _all(steps: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Every step's result; a fatal error is raised when all have ended, so that none is orphaned while it is paid for."""
    every = list(steps)
    if len(every) == 1:  # the usual case needs no task of its own
        return [await every[0]]
    ends = await asyncio.gather(*every, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return [end for end in ends if not isinstance(end, BaseException)]


async def _obtain(prompt: Prompt, generation: Generation) -> tuple[list[Completion], Outcome]:
    if prompt.id in generation.finished:
        stored = generation.finished[prompt.id]
        return stored, Outcome.of(prompt.id, "generate", "done", records=len(stored))
    completions, outcome = await complete(prompt, generation.writer, generation.sink, generation.known)
    if generation.own_account:
        generation.sink.append("outcomes", outcome)
    return completions, outcome
