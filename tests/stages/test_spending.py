"""What a run has used beside its forecast, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlhf_eval.records import Forecast, Run, Usage
from rlhf_eval.stages.spending import dollars, duration, how_far, spending

TOLD = Forecast(
    requests=500, tokens=4000, tokens_low=3500, tokens_high=4500, cost=4.8, cost_low=3.9, cost_high=6.1, seconds=600,
    replies=40,
)  # fmt: skip
RUN = Run(
    id="x", verb="judge", config={}, usage=Usage(completion_tokens=1000, cost=1.2), forecast=TOLD,
    started="2026-01-01T12:00:00+00:00", updated="2026-01-01T12:01:30+00:00",
    counts={"total": 100, "done": 24, "failed": 1},
)  # fmt: skip


def test_spending_is_held_against_the_forecast() -> None:
    assert spending(RUN) == [
        "$1.20 of $4.80 ($3.90 to $6.10)",
        "1,000 of 4,000 tokens out (3,500 to 4,500)",
        "90 s of 10 min",
        "500 requests in all; learned from 40 earlier replies",
    ]


def test_what_nobody_could_foresee_is_left_out() -> None:
    blind = replace(TOLD, cost=None, cost_low=None, cost_high=None, seconds=None, replies=0)
    lines = spending(replace(RUN, forecast=blind))
    assert [line.partition(" ")[0] for line in lines] == ["1,000", "500"]
    assert "no earlier reply to learn from" in lines[-1]
    assert spending(replace(RUN, forecast=None)) == []
    assert spending(replace(RUN, verb="train", forecast=Forecast(steps=80))) == []


def test_how_far_a_run_is() -> None:
    assert how_far(RUN) == (25, 100, "prompts")
    training = replace(RUN, verb="train", counts={"total": 640, "steps": 20})
    assert how_far(replace(training, forecast=Forecast(steps=80))) == (20, 80, "steps")
    assert how_far(replace(training, forecast=None)) == (20, 0, "steps"), "rows are no steps"


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "$0.00"), (0.00123, "$0.0012"), (0.5, "$0.50"), (12.345, "$12.35"), (1234.5, "$1,234.50")]
)
def test_dollars(value: float, shown: str) -> None:
    assert dollars(value) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(42.4, "42 s"), (150, "2 min"), (7300, "2.0 h")])
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
