"""The verb ``judge``: completions become judgments.

The plugin puts one question about one tuple of completions. This stage owns which tuples meet, in which orders, how often,
what is already known, failures and usage. A reply that cannot be read is stored as a failed judgment; a request that fails
is the prompt's outcome.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from rlhf_eval.errors import RequestFailed, UserError
from rlhf_eval.models.base import Model
from rlhf_eval.models.door import metered
from rlhf_eval.records import Completion, Judgment, Outcome, Prompt, Verdict, fingerprint
from rlhf_eval.stages.again import again
from rlhf_eval.stages.drive import Sink

Ask = Callable[[Prompt, Sequence[Completion], Any, Any], Awaitable[Verdict]]
Orders = Literal["both", "one"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """A judge ready to use: its question, settings and model, under one identity."""

    judge: Ask
    config: Any
    model: Model | Mapping[str, Model] | None
    """What the judge asks; a judge made of members has their models by spec."""
    arity: int
    """Completions a call: 1 grades, 2 compares, 0 takes all of a prompt at once."""
    name: str
    """Identity of the judge: plugin, model, and a hash of settings, templates and weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Which completions meet and how they are shown."""

    matches: str = "all"
    """``all`` pairs; ``first``: each against the first; ``ring:K``: each against the next K."""
    orders: Orders = "both"
    """``both`` orders of each comparison, or ``one``, with the sides balanced over the prompts."""
    repeats: int = 1
    """How often each question is put; each time for a sample of its own."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"all|first|ring:[1-9][0-9]*", self.matches):
            raise ValueError(f"matches is '{self.matches}'; allowed: all, first, ring:K (each against the next K)")
        if self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats}; every question is put at least once")


@dataclass(frozen=True, slots=True)
class Call:
    """One question to be put."""

    completions: tuple[Completion, ...]
    order: tuple[int, ...]
    repeat: int


def matches(completions: Sequence[Completion], arity: int, design: str) -> list[tuple[Completion, ...]]:
    """The tuples of completions that are judged together, in a fixed order."""
    if arity == 1:
        return [(c,) for c in completions]
    if arity == 0:
        return [tuple(completions)] if len(completions) > 1 else []
    if design == "all":
        return [*combinations(completions, 2)]
    if design == "first":
        return [(c, completions[0]) for c in completions[1:]]
    reach = int(design.removeprefix("ring:"))
    count = len(completions)
    seen: set[frozenset[int]] = set()
    ring: list[tuple[Completion, ...]] = []
    for i in range(count):
        for step in range(1, reach + 1):
            j = (i + step) % count
            if i != j and frozenset((i, j)) not in seen:
                seen.add(frozenset((i, j)))
                ring.append((completions[i], completions[j]))
    return ring


def balanced_sides(prompt_ids: Iterable[str], seed: int) -> dict[str, bool]:
    """Prompt to whether its comparison is shown swapped: half of the prompts each way, drawn by the seed."""
    drawn = sorted(set(prompt_ids), key=lambda identity: fingerprint(seed, identity))
    return {identity: bool(rank % 2) for rank, identity in enumerate(drawn)}


def calls(tuples: Iterable[tuple[Completion, ...]], design: Design, swapped: bool) -> list[Call]:
    """Every question about the tuples: orders and repeats laid out."""
    laid: list[Call] = []
    for position, group in enumerate(tuples):
        straight = tuple(range(len(group)))
        reverse = straight[::-1]
        if len(group) == 1:
            orders: tuple[tuple[int, ...], ...] = (straight,)
        elif design.orders == "both":
            orders = (straight, reverse)
        else:
            orders = (reverse,) if swapped ^ bool(position % 2) else (straight,)
        laid.extend(Call(group, order, repeat) for order in orders for repeat in range(design.repeats))
    return laid


async def put(prompt: Prompt, call: Call, instrument: Instrument) -> Judgment:
    """Put one question; raises RequestFailed where the model gives no reply.

    Answers of the same words are a tie that nobody needs to be asked about.
    """
    shown = [call.completions[i] for i in call.order]
    with metered() as meter:
        if len(shown) == 2 and shown[0].text == shown[1].text:
            verdict = Verdict(scores=(0.5, 0.5), metadata={"identical": True})
        else:
            verdict = await instrument.judge(prompt, shown, again(instrument.model, call.repeat), instrument.config)
    scores: tuple[float, ...] = ()
    if verdict.error is None:
        if len(verdict.scores) != len(shown):
            raise UserError(f"{instrument.name} returned {len(verdict.scores)} scores for {len(shown)} completions")
        scores = tuple(verdict.scores[call.order.index(i)] for i in range(len(shown)))
    return Judgment.of(
        prompt_id=prompt.id,
        completion_ids=tuple(c.id for c in call.completions),
        judge=instrument.name,
        order=call.order,
        repeat=call.repeat,
        scores=scores,
        rationale=verdict.rationale,
        error=verdict.error,
        usage=meter.usage,
        metadata=verdict.metadata,
    )


async def judge_prompt(
    prompt: Prompt, asked: Sequence[Call], instrument: Instrument, sink: Sink, known: set[str]
) -> Outcome:
    """Put every question about one prompt that has no answer yet, all at once, and store the answers as they come."""
    failures: list[str] = []

    def answered(call: Call) -> bool:
        identity = Judgment.id_of(
            prompt_id=prompt.id,
            completion_ids=tuple(c.id for c in call.completions),
            judge=instrument.name,
            order=call.order,
            repeat=call.repeat,
        )
        return identity in known

    async def one(call: Call) -> None:
        if known and answered(call):
            return
        try:
            judgment = await put(prompt, call, instrument)
        except RequestFailed as failure:
            failures.append(str(failure))
            return
        sink.append("judgments", judgment)

    if len(asked) == 1:  # needs no task of its own
        await one(asked[0])
        return _outcome(prompt, asked, failures)
    # A fatal error of one call must not orphan its neighbours: they are paid for, so they are let finish.
    ends = await asyncio.gather(*(one(call) for call in asked), return_exceptions=True)
    for end in ends:
        if end is not None:
            raise end
    return _outcome(prompt, asked, failures)


def _outcome(prompt: Prompt, asked: Sequence[Call], failures: Sequence[str]) -> Outcome:
    if not asked:
        return Outcome.of(prompt.id, "judge", "skipped", reason="too few completions to judge")
    if failures:
        reason = f"{len(failures)} of {len(asked)} calls failed: {failures[0]}"
        return Outcome.of(prompt.id, "judge", "failed", reason=reason, records=len(asked) - len(failures))
    return Outcome.of(prompt.id, "judge", "done", records=len(asked))
