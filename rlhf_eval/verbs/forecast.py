"""What calls would cost: counted requests, times what earlier replies of the same models were like.

A dry run walks the whole line. A run that starts walks a few of its prompts and keeps what that says of all of them, for
its spending to be held against. Both learn from whatever the store already holds of a model; ``--dry-run --pilot 20``
buys the first 20 prompts for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlhf_eval.models.base import Model
from rlhf_eval.models.door import Door
from rlhf_eval.models.rehearsal import TYPICAL, Rehearsal, stand_in
from rlhf_eval.records import Completion, Forecast, Prompt, Record
from rlhf_eval.stages.flow import Generation, Judging, walk
from rlhf_eval.verbs.session import Session

LEAST, WALKED = 20, 20
"""Prompts from which a run is forecast when it starts, and how many of them are walked for it."""
RECENT = 5
"""Runs in which earlier replies of a model are looked for, the newest that name it."""

_TOKENS = """
with reply as (
    select run_id, prompt_id, model as name, usage from completions where error is null
    union all
    select run_id, prompt_id, regexp_extract(judge, '^[^/]*/(.*)#', 1), usage from judgments where error is null),
asked as (
    select sum(usage.completion_tokens) / count(*) as tokens, sum(usage.seconds) / count(*) as seconds, count(*) as samples
    from reply where name = $1 group by run_id, prompt_id having sum(usage.completion_tokens) > 0)
select count(*) as prompts, sum(samples) as samples, avg(tokens) as mean, stddev_samp(tokens) as sd, avg(seconds) as seconds
from asked
"""
# A request's tokens stand on its first sample, so they are shared out over the samples of its prompt.


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelForecast:
    """One model's part of what is to come; costs are in US dollars, None where no price is known."""

    name: str
    requests: int
    samples: int
    cached: int
    prompt_tokens: int
    exact: bool
    """Whether prompt tokens were counted by the model's tokenizer, not estimated."""
    completion_tokens: tuple[int, int, int]
    """Low, expected, high."""
    cost: tuple[float, float, float] | None
    seconds: float | None
    """Expected time at this concurrency; None where the model has never answered here."""
    pilot: int
    """Earlier replies that the expectation rests on; 0 means that it is a guess between one token and the longest."""


def forecasts(session: Session) -> list[ModelForecast]:
    """The forecast of every model that a dry run has asked."""
    return [_forecast(session, session.doors[spec], r, session.doors[spec]) for spec, r in session.rehearsals.items()]


async def foresee(
    session: Session,
    prompts: Sequence[Prompt],
    generations: Sequence[Generation],
    judgings: Sequence[Judging],
    answers: Mapping[str, list[Completion]],
) -> list[Forecast | None]:
    """What a generation or judging is expected to use, in their order; None for one that asks no model."""
    walked = prompts[:: max(1, len(prompts) // WALKED)][:WALKED]
    stages = [_Rehearsed(g.writer.models) for g in generations]
    stages += [_Rehearsed(_models(j.instrument.model)) for j in judgings]
    written = [
        replace(g, writer=replace(g.writer, models=[stage.put(m) for m in g.writer.models]), sink=NOWHERE)
        for g, stage in zip(generations, stages, strict=False)
    ]
    judged = [
        replace(j, instrument=replace(j.instrument, model=stage.all(j.instrument.model)), sink=NOWHERE)
        for j, stage in zip(judgings, stages[len(generations) :], strict=True)
        if stage.doors  # a judge by program costs nothing that is forecast
    ]
    if written or judged:  # all that an audit does by program alone is neither
        await asyncio.gather(*(walk(prompt, written, judged, answers) for prompt in walked))
    return [stage.forecast(session, len(prompts) / len(walked)) for stage in stages]


def _models(given: Model | Mapping[str, Model] | None) -> Iterable[Model]:
    if given is None:
        return ()
    return given.values() if isinstance(given, Mapping) else (given,)


class _Nowhere:
    """Where a rehearsal writes."""

    def ids(self, table: str) -> set[str]:
        """Nothing is there."""
        return set()

    def append(self, table: str, record: Record) -> None:
        """Keep nothing."""


NOWHERE = _Nowhere()


class _Rehearsed:
    """The doors of one stage, each with the rehearsal that stands in for its model."""

    def __init__(self, models: Iterable[Model]) -> None:
        self.doors: dict[int, tuple[Door, Door, Rehearsal]] = {
            id(door): (door, *stand_in(door)) for door in models if isinstance(door, Door)
        }

    def put(self, model: Model) -> Model:
        """What stands in for a model."""
        return self.doors[id(model)][1] if id(model) in self.doors else model

    def all(self, given: Model | Mapping[str, Model] | None) -> Model | Mapping[str, Model] | None:
        """The same for all models of a judge."""
        if given is None:
            return None
        return {spec: self.put(m) for spec, m in given.items()} if isinstance(given, Mapping) else self.put(given)

    def forecast(self, session: Session, scale: float) -> Forecast | None:
        """What ``scale`` times as many requests are expected to use."""
        return _summed(
            [
                _forecast(session, door, rehearsal, stood, scale=scale)
                for door, stood, rehearsal in self.doors.values()
                if stood.traffic.samples
            ]
        )


def added(parts: Sequence[Forecast | None]) -> Forecast | None:
    """The forecast of several stages of one run; None where none has one."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return Forecast(
        requests=sum(f.requests for f in known), tokens=sum(f.tokens for f in known),
        tokens_low=sum(f.tokens_low for f in known), tokens_high=sum(f.tokens_high for f in known),
        cost=_total(f.cost for f in known), cost_low=_total(f.cost_low for f in known),
        cost_high=_total(f.cost_high for f in known), seconds=_total(f.seconds for f in known),
        replies=min(f.replies for f in known),
    )  # fmt: skip


def _summed(models: Sequence[ModelForecast]) -> Forecast | None:
    return added(
        [
            Forecast(
                requests=f.requests, tokens_low=f.completion_tokens[0], tokens=f.completion_tokens[1],
                tokens_high=f.completion_tokens[2], cost_low=f.cost[0] if f.cost else None,
                cost=f.cost[1] if f.cost else None, cost_high=f.cost[2] if f.cost else None, seconds=f.seconds,
                replies=f.pilot,
            )
            for f in models
        ]
    )  # fmt: skip


def _total(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else sum(value or 0.0 for value in known)


def _forecast(session: Session, door: Door, rehearsal: Rehearsal, stood: Door, *, scale: float = 1.0) -> ModelForecast:
    seen, row = rehearsal.forecast, _earlier(session, door.name)
    samples = scale * seen.samples
    low, middle, high = scale * seen.least, scale * seen.most * TYPICAL, scale * seen.most
    seconds = None
    if row["prompts"] >= 2:
        middle, half = samples * row["mean"], 2 * samples * row["sd"] / math.sqrt(row["prompts"])
        low, high = max(low, middle - half), middle + half
        seconds = samples * row["seconds"] / session.options.concurrency
    tokens = (round(low), round(middle), round(high))
    prompt_tokens = round(scale * seen.prompt_tokens)
    prices = [door.price_of(prompt_tokens, count) for count in tokens]
    return ModelForecast(
        name=door.name,
        requests=round(scale * seen.requests),
        samples=round(samples),
        cached=round(scale * stood.traffic.cached),
        prompt_tokens=prompt_tokens,
        exact=seen.exact,
        completion_tokens=tokens,
        cost=None if None in prices else (prices[0] or 0.0, prices[1] or 0.0, prices[2] or 0.0),
        seconds=seconds,
        pilot=int(row["samples"] or 0),
    )


def _earlier(session: Session, name: str) -> Mapping[str, Any]:
    """What earlier replies of a model were like: how many, their tokens and seconds."""
    runs = session.store.runs() if session.store.path.is_dir() else []
    named = [run for run in reversed(runs) if run.usage.completion_tokens and name in str(run.config)][:RECENT]
    row: Mapping[str, Any] = {"prompts": 0, "samples": 0}
    return session.store.sql(_TOKENS, [name], runs=named).to_pylist()[0] if named else row
