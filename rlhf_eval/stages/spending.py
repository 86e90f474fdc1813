"""What a run has used beside what it was expected to use, in words that the command line and the pages share.

for line in spending(run): print(line)
"""

from __future__ import annotations

from datetime import datetime

from rlhf_eval.records import Forecast, Run


def seconds_of(run: Run) -> float:
    """From a run's start to its last sign of life; 0 where it does not say."""
    try:
        taken = datetime.fromisoformat(run.updated) - datetime.fromisoformat(run.started)
    except ValueError:
        return 0.0
    return max(0.0, taken.total_seconds())


def how_far(run: Run) -> tuple[int, int, str]:
    """What has ended, of how many, and what they are: prompts, or the steps of a training; of 0 where nobody knows."""
    if run.verb == "train":
        return run.counts.get("steps", 0), run.forecast.steps if run.forecast else 0, "steps"
    ended = sum(run.counts.get(name, 0) for name in ("done", "failed", "skipped"))
    return ended, run.counts.get("total", 0), "prompts"


def dollars(value: float) -> str:
    """Cents where there are any, and smaller parts where there are none."""
    return f"${value:,.2f}" if value >= 0.1 or value == 0 else f"${value:.2g}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def spending(run: Run) -> list[str]:
    """Dollars, tokens and time against the forecast, a line each; what there was no forecast of is left out."""
    told = run.forecast
    if told is None or not told.requests:
        return []
    lines = []
    if told.cost is not None and (told.cost or run.usage.cost):
        lines.append(f"{dollars(run.usage.cost)} of {forecast_cost(told)}")
    if told.tokens:
        bounds = f"{told.tokens_low:,} to {told.tokens_high:,}"
        lines.append(f"{run.usage.completion_tokens:,} of {told.tokens:,} tokens out ({bounds})")
    if told.seconds is not None:
        lines.append(f"{duration(seconds_of(run))} of {duration(told.seconds)}")
    lines.append(f"{told.requests:,} requests in all; {learned(told)}")
    return lines


def forecast_cost(told: Forecast) -> str:
    """The dollars that were expected, with their range; a dash where no price is known."""
    if told.cost is None or told.cost_low is None or told.cost_high is None:
        return "-"
    return f"{dollars(told.cost)} ({dollars(told.cost_low)} to {dollars(told.cost_high)})"


def learned(told: Forecast) -> str:
    """What a forecast rests on."""
    if told.replies:
        return f"learned from {told.replies:,} earlier replies"
    return "no earlier reply to learn from: a guess between one token an answer and the longest allowed"
