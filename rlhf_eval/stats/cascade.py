"""A cheap judge everywhere and a strong judge on some prompts, without bias; and when not to bother.

Escalating the unsure verdicts and keeping the rest is biased (coverage .11 where this holds .95). Here the strong
judge takes the place of the human: judge everything cheaply, send a random or ``label_probabilities`` part to the
strong judge, estimate with ``ppi_mean`` or ``ipw_mean``. Below a correlation of about .6 it does not pay.

Sources: the cost-optimal share is that of arXiv 2506.07949; selective acceptance follows "Trust or Escalate"
(arXiv 2407.18370) with a guard for judges that no threshold makes good enough.

    from rlhf_eval.stats.cascade import plan_cascade
    plan_cascade(pilot_strong, pilot_cheap, strong_cost=.01, cheap_cost=.0005).verdict
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import floats, same_length


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadePlan:
    """Whether to cascade, and how."""

    pays: bool
    verdict: str
    fraction: float
    """Share of the prompts to send to the strong judge as well."""
    cost_ratio: float
    """Cost at equal variance, relative to the strong judge alone."""
    rho: float
    rho_low: float
    level: float


def cascade_cost_ratio(rho: float, cost_ratio: float) -> float:
    """Cost at equal variance relative to the strong judge alone: ``(sqrt(1-rho^2) + rho sqrt(c1/c2))^2``.

    ``rho`` is the correlation of the two judges' scores, ``cost_ratio`` the cheap price over the strong one. 1 where
    nothing beats the strong judge alone.
    """
    if cascade_fraction(rho, cost_ratio) == 1:
        return 1.0
    return min(1.0, (math.sqrt(1 - rho**2) + rho * math.sqrt(cost_ratio)) ** 2)


def cascade_fraction(rho: float, cost_ratio: float) -> float:
    """Share of prompts for the strong judge at the least cost: ``sqrt((1-rho^2)/rho^2 * c1/c2)``, at most 1."""
    if cost_ratio <= 0 or not -1 <= rho <= 1:
        raise UserError(f"rho is {rho:g} and the cost ratio {cost_ratio:g}; they must lie in [-1, 1] and above 0")
    return min(1.0, math.sqrt((1 - rho**2) / rho**2 * cost_ratio)) if rho > 0 else 1.0


def plan_cascade(
    strong: ArrayLike,
    cheap: ArrayLike,
    *,
    strong_cost: float,
    cheap_cost: float,
    level: float = 0.95,
    least_saving: float = 0.1,
) -> CascadePlan:
    """Decide from a pilot in which both judges scored the same prompts, shape (prompts,).

    It pays when the estimated saving is at least ``least_saving`` and there is still one at the lower end of the
    correlation's ``level`` interval (Fisher's z). Raises UserError below 10 prompts.
    """
    y, f = floats(strong, "strong"), floats(cheap, "cheap")
    n = same_length(strong=y, cheap=f)
    if n < 10:
        raise UserError(f"a pilot of {n} prompts says nothing about a correlation; judge at least 10 with both")
    spread = float(y.std() * f.std())
    rho = float(((y - y.mean()) * (f - f.mean())).mean()) / spread if spread else 0.0
    rho = min(0.999999, max(-0.999999, rho))
    rho_low = math.tanh(math.atanh(rho) - float(scipy.special.ndtri((1 + level) / 2)) / math.sqrt(n - 3))
    price = cheap_cost / strong_cost
    ratio, worst = cascade_cost_ratio(rho, price), cascade_cost_ratio(rho_low, price)
    pays = ratio <= 1 - least_saving and worst < 1
    found = f"the judges correlate by {rho:.2f} (at least {rho_low:.2f}), the price ratio is {price:.3g}"
    if pays:
        verdict = f"cascade: {found}; equal precision for {ratio:.0%} of the cost"
    else:
        verdict = f"do not cascade: {found}; that does not pay, use the strong judge alone"
    return CascadePlan(
        pays=pays,
        verdict=verdict,
        fraction=cascade_fraction(rho, price),
        cost_ratio=ratio,
        rho=rho,
        rho_low=rho_low,
        level=level,
    )


def error_bound(errors: int, n: int, *, delta: float = 0.1) -> float:
    """Clopper and Pearson's upper bound on an error rate, exceeded with chance at most ``delta``."""
    return 1.0 if errors >= n else float(scipy.special.betaincinv(errors + 1, n - errors, 1 - delta))


def acceptance_threshold(
    confidence: ArrayLike, correct: ArrayLike, *, alpha: float, delta: float = 0.1, least: int = 30
) -> float | None:
    """The lowest confidence from which verdicts may be kept with an error rate of at most ``alpha``.

    ``confidence`` and ``correct`` (0 or 1) of calibration items have shape (items,). Thresholds are tried from strict
    to loose in a fixed order, in steps of ``least`` items, and the first failure ends it, so that the error rate
    exceeds ``alpha`` with chance at most ``delta``. None where not even the strictest passes: keep nothing.
    """
    sure, right = floats(confidence, "confidence"), floats(correct, "correct", low=0, high=1)
    n = same_length(confidence=sure, correct=right)
    order = np.argsort(-sure, kind="stable")
    ranked, mistakes = sure[order], np.cumsum(1 - right[order])
    accepted: float | None = None
    for size in range(least, n + 1, least):
        last = int(np.searchsorted(-ranked, -ranked[size - 1], side="right"))  # ties stand or fall together
        if error_bound(int(mistakes[last - 1]), last, delta=delta) > alpha:
            break
        accepted = float(ranked[size - 1])
    return accepted
