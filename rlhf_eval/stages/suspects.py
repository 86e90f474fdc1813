"""The pairs of a preference set whose labels the other pairs speak against, the likeliest mistakes first.

What a linear reward can see is words, their number and their variety: enough for a first look at any file without a model,
and too little to know better than people. It finds labels that are odd, turned at random or swapped, not mistakes that
everybody makes; those are the pattern.

    found = suspects(read_sheet(Path("preferences.jsonl")))
    found.ranked[0].delta
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import scipy

from rlhf_eval.errors import UserError
from rlhf_eval.stages.sheet import Sheet
from rlhf_eval.stats.arrays import Bools, Floats
from rlhf_eval.stats.corruption import auroc
from rlhf_eval.stats.intervals import Interval, wilson
from rlhf_eval.stats.suspects import cross_fitted, perturbation

WORDS = 512
"""Buckets into which words are hashed."""
MOST = 200_000
"""Pairs whose features fit into memory beside everything else, at about a gigabyte."""
LAM = 0.7
"""A label is suspect where a model of the others gives it less than 1 - LAM."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A pair as ranked."""

    row: int
    """Its number in the set, from 0."""
    delta: float
    """What R3M would add to the margin to explain the label; over 0 it is suspect."""
    believed: float
    """Probability of the label under a model of the other prompts' pairs."""
    prompt: str
    chosen: str
    rejected: str
    labeler: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """All pairs, the likeliest mistakes first, and how good the ranking is where that is known."""

    ranked: tuple[Suspect, ...]
    flagged: int
    agreement: float
    """Share of the labels that the model of the others agrees with: near one half it knows nothing."""
    auroc: float | None
    """Chance that a turned label ranks above a sound one, where the set says which were turned."""
    split: tuple[Interval, Interval] | None
    """Share of the suspects, and of the others, on which people disagreed, where several labelled every pair."""


def suspects(sheet: Sheet, *, lam: float = LAM, seed: int = 0) -> Suspects:
    """Rank the pairs of a set; raises UserError where it has too few prompts, or more pairs than fit into memory."""
    if len(sheet) > MOST:
        raise UserError(f"{len(sheet):,} pairs are more than are audited at once, {MOST:,}; take a part with --limit")
    x = np.stack([_features(a) - _features(b) for a, b in zip(sheet.chosen, sheet.rejected, strict=True)])
    spread = x.std(axis=0)
    margin = cross_fitted(x / np.where(spread > 0, spread, 1), np.array(sheet.cluster), ridge=0.1, seed=seed)
    delta = perturbation(margin, lam)
    known = np.array([flag is not None for flag in sheet.flipped])
    turned = np.array([bool(flag) for flag in sheet.flipped])
    scored = auroc(-margin[known], turned[known]) if turned.any() and not turned[known].all() else None
    ranked = tuple(
        Suspect(
            row=int(n), delta=float(delta[n]), believed=float(scipy.special.expit(margin[n])), prompt=sheet.prompt[n],
            chosen=sheet.chosen[n], rejected=sheet.rejected[n], labeler=sheet.labeler[n],
        )
        for n in np.argsort(margin, kind="stable")
    )  # fmt: skip
    return Suspects(
        ranked=ranked, flagged=int((delta > 0).sum()), agreement=float((margin > 0).mean()), auroc=scored,
        split=_split(sheet, delta > 0),
    )  # fmt: skip


def _split(sheet: Sheet, suspect: Bools) -> tuple[Interval, Interval] | None:
    if None in sheet.split or not suspect.any() or suspect.all():
        return None
    split, prompt = np.array(sheet.split, dtype=np.float64), np.array(sheet.cluster)
    return wilson(split[suspect], prompt[suspect]), wilson(split[~suspect], prompt[~suspect])


def _features(text: str) -> Floats:
    """Square roots of hashed word counts, the logarithm of the length, and the share of distinct words."""
    words = _WORD.findall(text.lower())
    counts = np.bincount([crc32(word.encode()) % WORDS for word in words] or [0], minlength=WORDS) * bool(words)
    shape = [math.log1p(len(words)), len(set(words)) / max(1, len(words))]
    return np.concatenate([np.sqrt(counts), shape])
