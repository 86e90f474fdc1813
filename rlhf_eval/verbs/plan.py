"""``plan``: before anything is spent, how many prompts and calls a difference needs, and in which design.

Designs for "is A better than B?": both against a baseline in both orders, as published benchmarks do; head to head in both
orders; head to head in one balanced order; and the last with ten looks, stopping as soon as it is decided. Variances per
prompt are planning values for verdicts with ties, or measured from a run (``--like``).

    rlhf-eval plan --effect 0.05 --price 0.004
    rlhf-eval plan --prompts 805 --like latest:evaluate
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlhf_eval.benchmarks.comparisons import Comparisons, comparisons
from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.sequential import group_sequential_boundary, group_sequential_drift, stop_chances
from rlhf_eval.verbs.decide import LOOKS
from rlhf_eval.verbs.session import Session

BETWEEN, WITHIN = 0.16, 0.09
"""Planning values: variance of a prompt's true share, and of one verdict around it."""

VIA_BASELINE = 1.11
"""How many more prompts it takes to see a gap through a common baseline, four calls each, than head to head with one call.

The median world of ``tests/bench/judge_calls.py``: the gap shows at a fraction of its size in two rates whose noise adds.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """One way to ask the question, and what it costs."""

    name: str
    variance: float
    """Per prompt, of the estimated difference in win rate points (head to head: of the win rate)."""
    calls_a_prompt: float
    prompts: int
    calls: int
    expected_calls: int
    """Fewer than ``calls`` where the run may stop early, if the effect is as large as planned."""
    dollars: float | None
    effect: float
    """The smallest true distance from .5 that is found with the wanted power."""
    power: float
    flags: str = ""
    """Of ``evaluate winrate``: how the design is run."""
    best: bool = False


def plan(
    session: Session,
    *,
    effect: float | None = None,
    prompts: int | None = None,
    power_wanted: float = 0.8,
    level: float = 0.95,
    price: float | None = None,
    like: str = "",
) -> list[Design]:
    """The designs, the cheapest that reaches the wanted power marked; raises UserError without an effect or a size.

    ``effect`` is a distance of the head-to-head win rate from .5: .05 is 55 %. ``price`` is dollars a judge call.
    """
    if effect is None and prompts is None:
        raise UserError("plan needs --effect (the smallest difference that matters, .05 is 55 %) or --prompts, or both")
    if effect is not None and not 0 < abs(effect) < 0.5:
        raise UserError(f"--effect is {effect}; it is a distance of the win rate from .5, for instance .05")
    if prompts is not None and prompts < 1:
        raise UserError(f"--prompts is {prompts}; a plan has at least 1")
    if not 1 - level < power_wanted < 1:
        chance = f"{1 - level:.2g}, what chance alone finds,"
        raise UserError(f"--power is {power_wanted:g}; it must lie between {chance} and 1, for instance .8")
    if price is not None and not 0 <= price < math.inf:
        raise UserError(f"--price is {price}; it is dollars a judge call, at least 0")
    between, within = _variances(session, like)
    made = [
        replace(_design(name, variance, calls, looks, effect, prompts, power_wanted, level, price), flags=flags)
        for name, variance, calls, looks, flags in _designs(between, within)
    ]
    able = [design for design in made if design.power >= power_wanted - 1e-9] or made
    cheapest = min(able, key=lambda design: design.expected_calls)
    return [replace(design, best=design is cheapest) for design in made]


def _designs(between: float, within: float) -> list[tuple[str, float, float, int, str]]:
    """Name, variance of a prompt, calls a prompt, looks, and flags of every design."""
    via, single = VIA_BASELINE * (between + within), between + within
    return [
        ("both against a baseline, both orders", via, 4, 1, "--model A --model B --baseline C --orders both"),
        ("head to head, both orders", between + within / 2, 2, 1, "--model A --baseline B --orders both"),
        ("head to head, one balanced order", single, 1, 1, "--model A --baseline B --orders one"),
        (
            f"head to head, one balanced order, {LOOKS} looks", single, 1, LOOKS,
            "--model A --baseline B --orders one --stop-when decided",
        ),
    ]  # fmt: skip


def _design(
    name: str, variance: float, calls: float, looks: int, effect: float | None, prompts: int | None, wanted: float,
    level: float, price: float | None,
) -> Design:  # fmt: skip
    drift = group_sequential_drift(looks, power=wanted, level=level)
    size = prompts if prompts is not None else math.ceil(drift**2 * variance / (effect or math.nan) ** 2 - 1e-9)
    found = drift * math.sqrt(variance / size)
    chances = stop_chances(
        np.array(group_sequential_boundary(looks, level=level)), abs(effect or found) * math.sqrt(size / variance)
    )
    share = 1 - float(chances[:-1] @ np.arange(looks - 1, 0, -1)) / looks
    spent = round(size * calls * share)
    return Design(
        name=name, variance=variance, calls_a_prompt=calls, prompts=size, calls=round(size * calls), expected_calls=spent,
        dollars=None if price is None else spent * price, power=float(chances.sum()), effect=found,
    )  # fmt: skip


def _variances(session: Session, like: str) -> tuple[float, float]:
    """Variance between prompts and within one, measured from a run's judgments, or the planning values."""
    if not like:
        return BETWEEN, WITHIN
    run = session.store.find(like)
    groups = [group for group in comparisons(session.store, runs=[run.id]) if len(group.share) > 1]
    if not groups:
        raise UserError(f"run {run.id} holds no comparison of two models to learn from; leave --like out")
    return _measured(groups)


def _measured(groups: Sequence[Comparisons]) -> tuple[float, float]:
    within, between = [], []
    for group in groups:
        _, index = np.unique(group.prompt.astype(str), return_inverse=True)
        counts = np.bincount(index)
        share = _without_sides(group)
        means = np.bincount(index, weights=share) / counts
        spread = np.bincount(index, weights=(share - means[index]) ** 2)
        free = float((counts - 1).sum())
        noise = float(spread.sum()) / free if free else 0.0
        within.append(noise)
        between.append(max(0.01, float(means.var(ddof=1)) - noise / float(counts.mean())))
    return float(np.mean(between)), float(np.mean(within))


def _without_sides(group: Comparisons) -> Floats:
    """The shares, each less what its order adds on average: balanced sides keep the position bias out of the noise."""
    share = group.share.copy()
    for side in (group.shown_first, ~group.shown_first):
        if side.any():
            share[side] -= group.share[side].mean()
    return share
