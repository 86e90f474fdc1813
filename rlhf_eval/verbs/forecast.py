"""What a dry run's calls would cost: counted requests, times what earlier replies of the same models were like.

The pilot is whatever the store already holds of a model; ``--pilot 20`` buys the first 20 prompts for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rlhf_eval.models.door import Door
from rlhf_eval.models.rehearsal import TYPICAL, Forecast
from rlhf_eval.verbs.session import Session

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
    """One model's part of a dry run; costs are in US dollars, None where no price is known."""

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
    return [_forecast(session, session.doors[spec], r.forecast) for spec, r in session.rehearsals.items()]


def _forecast(session: Session, door: Door, seen: Forecast) -> ModelForecast:
    row = session.store.sql(_TOKENS, [door.name]).to_pylist()[0]
    tokens, seconds = (seen.least, round(seen.most * TYPICAL), seen.most), None
    if row["prompts"] >= 2:
        middle, half = seen.samples * row["mean"], 2 * seen.samples * row["sd"] / math.sqrt(row["prompts"])
        tokens = (round(max(seen.least, middle - half)), round(middle), round(middle + half))
        seconds = seen.samples * row["seconds"] / session.options.concurrency
    prices = [door.price_of(seen.prompt_tokens, count) for count in tokens]
    return ModelForecast(
        name=door.name,
        requests=seen.requests,
        samples=seen.samples,
        cached=door.traffic.cached,
        prompt_tokens=seen.prompt_tokens,
        exact=seen.exact,
        completion_tokens=tokens,
        cost=None if None in prices else (prices[0] or 0.0, prices[1] or 0.0, prices[2] or 0.0),
        seconds=seconds,
        pilot=int(row["samples"] or 0),
    )
