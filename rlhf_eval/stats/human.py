"""A few human labels and many judge labels: an estimate that is right whatever the judge is worth.

Label a random part of this run's prompts: ``ppi_mean``. Labels drawn with unequal chances: keep the chances,
``ipw_mean``. Only an old confusion table at hand: ``rogan_gladen``, which assumes that the judge errs today as it did
then; errors that depend on the model break every reuse.

Sources: Angelopoulos et al. (arXiv 2301.09633) and PPI++ (arXiv 2311.01453); Zrnic and Candes (arXiv 2403.03208) for
active labels; Rogan and Gladen (1978) with the interval of Fieller (1954), or that of Lee et al. (arXiv 2511.21140).

    from rlhf_eval.stats.human import ppi_mean
    ppi_mean(human, judge_on_the_same, judge_on_the_rest)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats, floats, same_length
from rlhf_eval.stats.intervals import Interval, t_quantile, wilson_from_se, within

ENOUGH = 5
"""Calibration items in a cell of a confusion table below which its rates are known too coarsely for a normal interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected(Interval):
    """An interval from human labels, sharpened or corrected by a judge."""

    judge_weight: float
    """How much the judge was trusted: 0 is humans only, 1 the full correction."""


def ppi_mean(
    labels: ArrayLike,
    judge: ArrayLike,
    judge_unlabelled: ArrayLike,
    *,
    level: float = 0.95,
    small_sample: bool = True,
) -> Corrected:
    """Mean of the human score over all prompts by prediction-powered inference with a tuned weight (PPI++).

    ``labels`` and ``judge`` have shape (n,), the labelled prompts, a random part of the run; ``judge_unlabelled``
    shape (N,), the others; one row per prompt. The judge's quality changes the width, never the validity.
    ``small_sample`` uses ``n - 2`` in variances and the t quantile, which the published normal interval lacks below
    about 100 labels. Raises UserError below 3 labels or without unlabelled prompts.
    """
    y, f, rest = floats(labels, "labels"), floats(judge, "judge"), floats(judge_unlabelled, "judge_unlabelled")
    n, unlabelled = same_length(labels=y, judge=f), len(rest)
    if n < 3:
        raise UserError(f"{n} human labels are too few to learn a judge's weight from; label at least 3 prompts")
    everything = np.concatenate([f, rest])
    spread = float(everything.var(ddof=1))
    covariance = float(((y - y.mean()) * (f - f.mean())).mean())
    weight = min(1.0, max(0.0, covariance / ((1 + n / unlabelled) * spread))) if spread else 0.0
    value = float(y.mean() + weight * (rest.mean() - f.mean()))
    lost = 2 if small_sample else 0
    residual = y - weight * f
    variance = float(((residual - residual.mean()) ** 2).sum()) / (n - lost)
    se = math.sqrt(variance / n + weight**2 * float(rest.var()) / unlabelled)
    quantile = t_quantile(level, n - 2 if small_sample else math.inf)
    return _corrected(value, quantile * se, se, n, _effective(y, f, unlabelled), level, "ppi++", weight)


def ipw_mean(
    labels: ArrayLike, judge: ArrayLike, probabilities: ArrayLike, labelled: ArrayLike, *, level: float = 0.95
) -> Corrected:
    """Mean of the human score where each prompt was sent to a human with its own known chance.

    ``judge``, ``probabilities`` in (0, 1] and the booleans ``labelled`` have shape (prompts,); ``labels`` shape
    (labelled prompts,), in order. ``mean(w f + (xi/pi)(y - w f))`` with the weight of least variance.
    Raises UserError when the number of labels is not that of labelled prompts, or a probability is not positive.
    """
    f, chance = floats(judge, "judge"), floats(probabilities, "probabilities", low=1e-12, high=1)
    chosen, y = np.asarray(labelled, dtype=bool), floats(labels, "labels")
    n = same_length(judge=f, probabilities=chance, labelled=chosen)
    if len(y) != chosen.sum() or len(y) < 3:
        raise UserError(f"{len(y)} labels for {int(chosen.sum())} labelled prompts; they must match, and be 3 or more")
    inverse = chosen / chance
    human = np.zeros(n)
    human[chosen] = y
    control = f * (inverse - 1)
    spread = float(control.var())
    target = human * inverse
    weight = float(((target - target.mean()) * (control - control.mean())).mean() / spread) if spread else 0.0
    terms = target - weight * control
    value, se = float(terms.mean()), float(terms.std(ddof=2) / math.sqrt(n))
    half = t_quantile(level, len(y) - 2) * se
    return _corrected(
        value, half, se, n, float(y.var(ddof=1)) / se**2 if se else n, level, "inverse probability", weight
    )


def share_of(found: Corrected, labelled: int) -> Corrected:
    """A corrected estimate of a share: within [0, 1], and Wilson's interval where ``labelled`` labels do not vary."""
    share = replace(found, value=min(1.0, max(0.0, found.value)))
    if found.se > 0 and found.low < 1 and found.high > 0:
        return within(share, 0, 1)
    unit = wilson_from_se(share.value, 0.0, labelled, level=found.level)
    return replace(share, low=unit.low, high=unit.high, method=f"{found.method}, wilson", note=unit.note)


def rogan_gladen(
    positive: int,
    n: int,
    *,
    true_negative: int,
    negatives: int,
    true_positive: int,
    positives: int,
    level: float = 0.95,
    published: bool = False,
) -> Corrected:
    """True share from a judge's share and its confusion table on other, human-labelled items.

    The judge said yes ``positive`` times of ``n``; of ``negatives`` items it recognised ``true_negative``, of
    ``positives`` it recognised ``true_positive``. ``(p + spec - 1)/(sens + spec - 1)``. The interval holds every share that
    the judge's would not contradict (Fieller 1954, half an item added to each cell): unlike the ``published`` one of
    arXiv 2511.21140, which is Lang and Reiczigel's (2014), it does not take the judge's quality, below the line of that
    fraction, for known. Valid under another share of true positives, not under other error rates. A judge no better than
    chance gives [0, 1]. Raises UserError without judged items or either kind of calibration items.
    """
    if min(n, negatives, positives) < 1:
        raise UserError("rogan_gladen needs judged items and both kinds of calibration items; one of them has none")
    share, spec, sens = positive / n, true_negative / negatives, true_positive / positives
    if spec + sens <= 1:
        note = "sensitivity + specificity <= 1: the judge carries no information, and the value shown is its own"
        return _unknown(share, n, level, note)
    value = min(1.0, max(0.0, (share + spec - 1) / (spec + sens - 1)))
    z = float(scipy.special.ndtri((1 + level) / 2))
    added = 1.0 if published else 0.5
    size, m0, m1 = n + z**2, negatives + 2 * added, positives + 2 * added
    p, spec, sens = (positive + z**2 / 2) / size, (true_negative + added) / m0, (true_positive + added) / m1
    v, v0, v1 = p * (1 - p) / size, spec * (1 - spec) / m0, sens * (1 - sens) / m1
    shown, quality = p + spec - 1, spec + sens - 1
    # The shares t with (shown - t quality)^2 <= z^2 (v + (1-t)^2 v0 + t^2 v1), as a t^2 - 2 b t + c <= 0.
    a, b, c = quality**2 - z**2 * (v0 + v1), shown * quality - z**2 * v0, shown**2 - z**2 * (v + v0)
    if quality <= 0 or (a <= 0 and not published):
        return _unknown(value, n, level, "the calibration items are too few to tell the judge from a coin")
    middle = min(1.0, max(0.0, shown / quality))
    se = math.sqrt(v + (1 - middle) ** 2 * v0 + middle**2 * v1) / quality
    if published:
        shift = 2 * z**2 * (middle * v1 - (1 - middle) * v0)
        ends = middle + shift - z * se, middle + shift + z * se
    else:
        root = math.sqrt(b * b - a * c)
        ends = (b - root) / a, (b + root) / a
        if ends[1] < 0 or ends[0] > 1:
            note = "no share fits: the judge errs otherwise today than on the calibration items"
            return _unknown(value, n, level, note)
    scarcest = min(true_negative, negatives - true_negative, true_positive, positives - true_positive)
    rough = f"a cell of the confusion table has fewer than {ENOUGH} items: a rough interval, mostly too wide"
    return Corrected(
        value=value,
        low=min(value, max(0.0, ends[0])),
        high=max(value, min(1.0, ends[1])),
        se=se,
        n=n,
        n_eff=middle * (1 - middle) / se**2,
        level=level,
        method="rogan-gladen, adjusted" if published else "rogan-gladen, fieller",
        judge_weight=1.0,
        note=rough if scarcest < ENOUGH else "",
    )


def _unknown(value: float, n: int, level: float, note: str) -> Corrected:
    return Corrected(
        value=value, low=0.0, high=1.0, se=math.inf, n=n, n_eff=0.0, level=level, method="rogan-gladen", judge_weight=0.0,
        note=note,
    )  # fmt: skip


def allocate_calibration(
    total: int, *, share: float, specificity: float, sensitivity: float, pilot: int
) -> tuple[int, int]:
    """How to split ``total`` calibration labels into (negatives, positives) for the narrowest Rogan-Gladen interval.

    ``share`` is the judge's share of yes, the rates are guesses from ``pilot`` items of each kind.
    Source: arXiv 2511.21140, section 5.
    """
    kappa = (pilot * (1 - specificity) + 1) / (pilot * (1 - sensitivity) + 1)
    positives = round(total / (1 + (1 / share - 1) * math.sqrt(kappa)))
    return total - positives, positives


def labels_needed(half_width: float, rho: float, *, variance: float = 0.25, level: float = 0.95) -> int:
    """Human labels for an interval of ``+-half_width`` when the judge correlates with humans by ``rho``, judged for free.

    ``z^2 variance (1 - rho^2)/h^2``; .25 is the worst variance of a share.
    """
    z = float(scipy.special.ndtri((1 + level) / 2))
    return math.ceil(z**2 * variance * (1 - rho**2) / half_width**2 - 1e-9)


def effective_labels(labels: int, unlabelled: int, rho: float) -> float:
    """How many human labels alone would be as precise as PPI++: ``n (n+N)/(n + (1-rho^2) N)``."""
    return labels * (labels + unlabelled) / (labels + (1 - rho**2) * unlabelled)


def label_probabilities(judge: ArrayLike, budget: int, *, uniform: float = 0.2) -> Floats:
    """Chance of sending each prompt to a human so that ``budget`` are sent on average.

    ``judge`` holds calibrated probabilities in [0, 1], shape (prompts,). Chances follow ``sqrt(p(1-p))``, mixed with a
    share ``uniform`` of equal chances, so that a judge that is sure and wrong is still found out; none exceeds 1.
    Raises UserError when the budget exceeds the number of prompts.
    """
    p = floats(judge, "judge", low=0, high=1)
    if not 0 < budget <= len(p):
        raise UserError(
            f"a budget of {budget} labels for {len(p)} prompts; it must lie between 1 and the number of prompts"
        )
    doubt = np.sqrt(p * (1 - p))
    doubt = doubt / doubt.mean() if doubt.any() else np.ones_like(p)
    wish = (1 - uniform) * doubt + uniform
    chance: Floats = np.minimum(1, wish * budget / wish.sum())
    for _ in range(100):
        free = chance < 1
        missing = budget - float(chance.sum())
        if missing < 1e-9 or not free.any():
            break
        chance[free] = np.minimum(1, chance[free] * (1 + missing / float(chance[free].sum())))
    return chance


def _effective(y: Floats, f: Floats, unlabelled: int) -> float:
    spread = float(y.std() * f.std())
    rho = float(((y - y.mean()) * (f - f.mean())).mean()) / spread if spread else 0.0
    return effective_labels(len(y), unlabelled, max(0.0, rho))


def _corrected(
    value: float, half: float, se: float, n: int, n_eff: float, level: float, method: str, weight: float
) -> Corrected:
    return Corrected(
        value=value,
        low=value - half,
        high=value + half,
        se=se,
        n=n,
        n_eff=n_eff,
        level=level,
        method=method,
        judge_weight=weight,
    )
