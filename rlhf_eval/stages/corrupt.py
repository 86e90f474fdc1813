"""Preference pairs with wrong labels on purpose, for every method that claims to stand them or to find them.

A turned pair has its answers changed about and keeps the strength that its label states, as a wrong label does; its
metadata say ``flipped``, which trainers do not read and audits of labels are scored by.

    made = corrupt(pairs, Corruption(kind="top_margin", rate=0.1))
    made.flipped.mean()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.records import PreferencePair, fingerprint
from rlhf_eval.stages.texts import markup
from rlhf_eval.stats import corruption
from rlhf_eval.stats.arrays import Bools, Floats

Kind = Literal["random", "top_margin", "irrational", "stochastic", "myopic", "systematic"]
FEATURES: Mapping[str, Callable[[str], float]] = {
    "length": lambda text: float(len(text.split())),
    "markup": lambda text: float(markup(text)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """Which labels go wrong, and how many."""

    kind: Kind = "random"
    """random, top_margin, irrational, stochastic, myopic, or systematic."""
    rate: float | None = None
    """Share of the labels that are turned, to the nearest pair; what the kind brings with it where it is not given."""
    temperature: float = 1.0
    """stochastic: labels are drawn from sigmoid(margin / temperature)."""
    power: float = 0.5
    """irrational: of a batch of B pairs the B ** power clearest are turned."""
    batch: int = 64
    """irrational: pairs a batch."""
    part: float = 0.5
    """myopic: share of an answer, at its end, that the labeler looks at."""
    feature: Literal["length", "markup"] = "length"
    """systematic: what the labeler takes for quality."""

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 <= self.rate <= 1:
            raise ValueError(f"rate is {self.rate}; it is a share, from 0 to 1")
        if self.rate is None and self.kind in ("random", "top_margin"):
            raise ValueError(f"'{self.kind}' needs a rate: the share of the labels that are turned")
        if self.rate is not None and self.kind == "irrational":
            raise ValueError("the rate of 'irrational' follows from power and batch; leave rate out")
        if not 0 < self.part <= 1:
            raise ValueError(f"part is {self.part}; it is a share of an answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupted:
    """Pairs in their old order, and which of them were turned; shape (pairs,)."""

    pairs: tuple[PreferencePair, ...]
    flipped: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """What the answers are truly worth: of the whole answers, chosen minus rejected, and of their last parts."""

    margin: Floats
    part: Floats | None = None


def corrupt(
    pairs: Sequence[PreferencePair], settings: Corruption, *, rewards: Rewards | None = None, seed: int = 0
) -> Corrupted:
    """Turn some labels; without ``rewards`` the margins that the labels state count as the true ones.

    Raises UserError where the kind needs what the pairs do not have, or there are not so many pairs of its kind.
    """
    if not pairs:
        raise UserError("there are no pairs whose labels could be turned")
    flipped = _flips(pairs, settings, rewards, seed)
    made = tuple(turned(pair) if flip else _marked(pair) for pair, flip in zip(pairs, flipped, strict=True))
    return Corrupted(pairs=made, flipped=flipped)


def _flips(pairs: Sequence[PreferencePair], settings: Corruption, rewards: Rewards | None, seed: int) -> Bools:
    if settings.kind == "random":
        return corruption.random(len(pairs), rate=settings.rate or 0.0, seed=seed)
    if settings.kind == "systematic":
        count = FEATURES[settings.feature]
        gap = [count(pair.chosen[-1].content) - count(pair.rejected[-1].content) for pair in pairs]
        return corruption.systematic(gap, rate=settings.rate)
    if settings.kind == "myopic":
        if rewards is None or rewards.part is None:
            raise UserError(
                "'myopic' looks at the end of each answer, and nothing here says what that is worth; name a judge"
            )
        return corruption.myopic(rewards.part, rate=settings.rate)
    margin = stated_margins(pairs) if rewards is None else rewards.margin
    if settings.kind == "top_margin":
        return corruption.top_margin(margin, rate=settings.rate or 0.0)
    if settings.kind == "irrational":
        return corruption.irrational(margin, power=settings.power, batch=settings.batch, seed=seed)
    return corruption.stochastic(margin, temperature=settings.temperature, rate=settings.rate, seed=seed)


def stated_margins(pairs: Sequence[PreferencePair]) -> Floats:
    """How much better the chosen answers are said to be: the labels' margins, or else the log-odds of their probabilities.

    Raises UserError where all are the same: then no pair is clearer than another.
    """
    margins = np.array([pair.margin for pair in pairs])
    if not margins.any():
        inside = np.clip([pair.probability for pair in pairs], 0.5, 1 - 1e-6)
        margins = np.log(inside) - np.log1p(-inside)
    if len(pairs) > 1 and np.ptp(margins) == 0:
        raise UserError("these labels state no strength: no margin, and the same probability for all; name a judge")
    return margins


def last_part(text: str, share: float) -> str:
    """The last words of a text, ``share`` of them and at least one."""
    words = text.split()
    return " ".join(words[-max(1, math.ceil(share * len(words))) :])


def turned(pair: PreferencePair) -> PreferencePair:
    """The pair with its answers changed about; its labeler is the same, and wrong."""
    told = dict(pair.metadata) | {"flipped": True}
    for mine, other in (("chosen_model", "rejected_model"), ("rejected_model", "chosen_model")):
        if other in pair.metadata:
            told[mine] = pair.metadata[other]
    return replace(
        pair,
        id=fingerprint("pair", pair.prompt_id, pair.rejected_id, pair.chosen_id, pair.labeler, pair.rule),
        chosen=pair.rejected,
        rejected=pair.chosen,
        chosen_id=pair.rejected_id,
        rejected_id=pair.chosen_id,
        metadata=told,
    )


def _marked(pair: PreferencePair) -> PreferencePair:
    return replace(pair, metadata={**pair.metadata, "flipped": False})
