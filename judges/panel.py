"""Several graders, one grade: the mean, which the loudest can bend, or the low median, which exaggeration does not move.

Members are judges that grade single answers: several reward models, people's tastes, graders. Their own grades stay in the
metadata. The low median (order statistic ``(k - 1) // 2``) is that of each answer; with answers to choose from instead of a
continuum no rule is proof against every lie (arXiv 2503.09561; ``rlhf_eval.stats.strategyproof`` says what one gains).

    judge: {judge: panel, method: low_median, members: [{judge: reward_model, model: "hf:rm-a"}, ...]}
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median_low
from typing import Any, Literal

from judges.members import Models, ask_models, model_of, seats
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Prompt, Verdict

ARITY = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the panel."""

    members: tuple[dict[str, Any], ...] = ({"judge": "grade"}, {"judge": "d_rlaif"})
    """The graders on it: tables with judge, model, settings, name."""
    method: Literal["mean", "low_median"] = "mean"
    """How their grades become one."""

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise ValueError("a panel needs at least two members")


def models(config: Config) -> tuple[str, ...]:
    """The models that members name, each once: what a verb must open for them."""
    return tuple(dict.fromkeys(one.model for one in seats(config.members, where="panel") if one.model))


def needs_model(config: Config) -> bool:
    """Whether any member asks a model."""
    return ask_models(config.members, where="panel")


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Models, config: Config) -> Verdict:
    """One grade of a completion; a failure where any member gives none, for a mean of fewer is on another scale.

    Raises UserError on a member that grades no single answers.
    """
    panel = seats(config.members, where="panel")
    if pair := next((one.name for one in panel if one.plugin.ARITY != 1), ""):
        raise UserError(f"the member {pair} compares answers; a panel takes those that grade one, a jury is for these")
    verdicts = await asyncio.gather(
        *(one.plugin.judge(prompt, completions, model_of(one, model), one.config) for one in panel)
    )
    failed = next((verdict.error for verdict in verdicts if verdict.error is not None), None)
    if failed is not None:
        return Verdict(error=failed)
    grades = {one.name: verdict.scores[0] for one, verdict in zip(panel, verdicts, strict=True)}
    whole = fmean(grades.values()) if config.method == "mean" else median_low(grades.values())
    return Verdict(scores=(whole,), metadata={"grades": grades})
