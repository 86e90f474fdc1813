"""Labels with their strength: several labelers kept apart, put together on demand, and calibrated on people or gold.

A label made of several is a ``Judgment`` like any other, of a judge whose name says how (``majority(a+b+c)``); its metadata
keep every labeler's own share and the ids of the judgments behind it, so no vote is ever lost in a mean.

Methods: ``mean`` of the shares; ``majority`` of the votes; ``dawid_skene``, the posterior under each labeler's own error
rates (Dawid and Skene, 1979); ``low_median`` of each answer's scores, which no single labeler can move by exaggeration
(order statistic (k - 1) // 2; strategyproof aggregation, arXiv 2503.09561).

    aggregate(judgments, "majority")
    calibrate(judgments, human_judgments, "temperature")
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.records import Judgment
from rlhf_eval.stages.matrix import Floats
from rlhf_eval.stats.calibration import fit_isotonic, fit_temperature
from rlhf_eval.stats.dawid_skene import dawid_skene

Method = Literal["mean", "majority", "dawid_skene", "low_median"]
Scale = Literal["temperature", "isotonic"]
EDGE = 1e-3
"""Shares are kept this far from 0 and 1 where their log-odds are taken: a hard verdict is not an infinite one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What all labelers say about the same completions, in the order of ``completion_ids``, which is sorted."""

    prompt_id: str
    completion_ids: tuple[str, ...]
    scores: Mapping[str, tuple[float, ...]]
    """Labeler to its mean scores over orders and repeats."""
    made_of: tuple[str, ...]
    """Ids of the judgments behind it."""

    @property
    def shares(self) -> dict[str, float]:
        """Labeler to its share for the first of two completions."""
        return {labeler: scores[0] for labeler, scores in self.scores.items()}


def items_of(judgments: Iterable[Judgment]) -> list[Item]:
    """The readable judgments by what they are about; orders and repeats of a labeler are averaged."""
    groups: dict[tuple[str, ...], list[Judgment]] = defaultdict(list)
    for judgment in judgments:
        if judgment.scores:
            groups[(judgment.prompt_id, *sorted(judgment.completion_ids))].append(judgment)
    made = []
    for (prompt_id, *ids), group in groups.items():
        given: dict[str, list[tuple[float, ...]]] = defaultdict(list)
        for judgment in group:
            by_id = dict(zip(judgment.completion_ids, judgment.scores, strict=True))
            given[judgment.judge].append(tuple(by_id[identity] for identity in ids))
        scores = {labeler: tuple(float(x) for x in np.mean(rows, axis=0)) for labeler, rows in sorted(given.items())}
        made_of = tuple(sorted(j.id for j in group))
        made.append(Item(prompt_id=prompt_id, completion_ids=tuple(ids), scores=scores, made_of=made_of))
    return made


def aggregate(judgments: Sequence[Judgment], method: Method) -> list[Judgment]:
    """One judgment for each item, or each answer (``low_median``), put together from all labelers.

    Raises UserError where the method needs comparisons and the judgments are grades.
    """
    items = items_of(judgments)
    labelers = sorted({labeler for item in items for labeler in item.scores})
    name = f"{method}({'+'.join(labelers)})"
    if method == "low_median":
        return _low_medians(items, name)
    if method == "mean":
        means = (tuple(float(x) for x in np.mean([*item.scores.values()], axis=0)) for item in items)
        return [_judgment(item, name, scores) for item, scores in zip(items, means, strict=True)]
    if any(len(item.completion_ids) != 2 for item in items):
        raise UserError(f"{method} counts votes, and grades are none; use mean or low_median, or judge pairwise")
    shares = _majority(items) if method == "majority" else _posterior(items, labelers)
    return [_judgment(item, name, (share, 1 - share)) for item, share in zip(items, shares, strict=True)]


def _majority(items: Sequence[Item]) -> list[float]:
    """Share of the labelers that vote for the first; one without a preference votes half."""
    return [float(np.mean([(np.sign(s - 0.5) + 1) / 2 for s in item.shares.values()])) for item in items]


def _posterior(items: Sequence[Item], labelers: Sequence[str]) -> list[float]:
    votes = np.full((len(items), len(labelers)), -1)
    column = {labeler: k for k, labeler in enumerate(labelers)}
    for row, item in enumerate(items):
        for labeler, share in item.shares.items():
            if share != 0.5:
                votes[row, column[labeler]] = int(share < 0.5)
    voted = (votes >= 0).any(axis=1)
    posterior = np.full(len(items), 0.5)
    if voted.any():
        posterior[voted] = dawid_skene(votes[voted], classes=2).posterior[:, 0]
    return [float(p) for p in posterior]


def _low_medians(items: Sequence[Item], name: str) -> list[Judgment]:
    """A grade for each completion: the low median over labelers of the mean score that each gives it."""
    given: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    behind: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in items:
        for place, identity in enumerate(item.completion_ids):
            for labeler, scores in item.scores.items():
                given[item.prompt_id, identity][labeler].append(scores[place])
            behind[item.prompt_id, identity] += item.made_of
    made = []
    for (prompt_id, identity), by_labeler in given.items():
        means = {labeler: float(np.mean(scores)) for labeler, scores in by_labeler.items()}
        ordered = sorted(means.values())
        made.append(
            Judgment.of(
                prompt_id=prompt_id,
                completion_ids=(identity,),
                judge=name,
                scores=(ordered[(len(ordered) - 1) // 2],),
                metadata={"labelers": means, "made_of": sorted(behind[prompt_id, identity])},
            )
        )
    return made


def _judgment(item: Item, name: str, scores: tuple[float, ...]) -> Judgment:
    labelers = item.shares if len(item.completion_ids) == 2 else {k: list(v) for k, v in item.scores.items()}
    return Judgment.of(
        prompt_id=item.prompt_id,
        completion_ids=item.completion_ids,
        judge=name,
        scores=scores,
        metadata={"labelers": labelers, "votes": len(item.scores), "made_of": list(item.made_of)},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """Judgments whose shares are probabilities, and what they were fitted on."""

    judgments: list[Judgment]
    scale: Scale
    temperature: float
    """Over 1: the labels were overconfident; 0 for an isotonic map."""
    labels: int
    """Items that had a true label."""


def calibrate(judgments: Sequence[Judgment], truth: Sequence[Judgment], scale: Scale) -> Calibrated:
    """The comparisons of one labeler, turned into probabilities that fit the labels of ``truth``.

    Every item enters the fit in both directions, so that the map has no favourite side. The labels that it was fitted on
    are not evidence of how well it does: keep others for that. Raises UserError without comparisons that both have.
    """
    items = _comparisons(judgments)
    known = true_shares(items, truth)
    both = [item for item in items if known.get(item.completion_ids, 0.5) != 0.5]
    if not both:
        raise UserError("nothing to calibrate on: no comparison has both a judge's label and a true one")
    share = np.array([_mean_share(item) for item in both])
    right = np.array([float(known[item.completion_ids] > 0.5) for item in both])
    every = np.array([_mean_share(item) for item in items])
    temperature = 0.0
    if scale == "temperature":
        temperature = fit_temperature(_log_odds(share), right)
        mapped = 1 / (1 + np.exp(-_log_odds(every) / temperature))
    else:
        curve = fit_isotonic(np.concatenate([share, 1 - share]), np.concatenate([right, 1 - right]))
        mapped = (curve(every) + 1 - curve(1 - every)) / 2
    # No preference stays none, whatever the fit says.
    mapped = np.where(every == 0.5, 0.5, mapped)
    labeler = "+".join(sorted({j.judge for j in judgments}))
    made = [
        _judgment(item, f"{scale}({labeler})", (float(p), float(1 - p))) for item, p in zip(items, mapped, strict=True)
    ]
    return Calibrated(judgments=made, scale=scale, temperature=temperature, labels=len(both))


def true_shares(items: Iterable[Item], truth: Sequence[Judgment]) -> dict[tuple[str, ...], float]:
    """What the truth says of each comparison that it knows: its own comparison, or else its two grades (1, 0, or .5)."""
    known = {item.completion_ids: _mean_share(item) for item in _comparisons(truth)}
    grades: dict[str, list[float]] = defaultdict(list)
    for judgment in truth:
        if len(judgment.scores) == 1:
            grades[judgment.completion_ids[0]].append(judgment.scores[0])
    for item in items:
        if item.completion_ids not in known and all(identity in grades for identity in item.completion_ids):
            first, second = (float(np.mean(grades[identity])) for identity in item.completion_ids)
            known[item.completion_ids] = (float(np.sign(first - second)) + 1) / 2
    return known


def grade_temperature(judgments: Sequence[Judgment], truth: Sequence[Judgment]) -> float:
    """The scale T at which ``sigmoid(margin / T)`` of a grader's margins fits the comparisons of ``truth``.

    Raises UserError without two graded answers that ``truth`` compares.
    """
    grades: dict[str, list[float]] = defaultdict(list)
    for judgment in judgments:
        if len(judgment.scores) == 1:
            grades[judgment.completion_ids[0]].append(judgment.scores[0])
    margins, right = [], []
    for item in _comparisons(truth):
        share = _mean_share(item)
        if share != 0.5 and all(identity in grades for identity in item.completion_ids):
            first, second = (float(np.mean(grades[identity])) for identity in item.completion_ids)
            margins.append(first - second)
            right.append(float(share > 0.5))
    if not margins:
        raise UserError("nothing to calibrate on: no two graded answers have a true comparison")
    return fit_temperature(margins, right)


def _comparisons(judgments: Iterable[Judgment]) -> list[Item]:
    return [item for item in items_of(judgments) if len(item.completion_ids) == 2]


def _mean_share(item: Item) -> float:
    return float(np.mean([*item.shares.values()]))


def _log_odds(share: Floats) -> Floats:
    inside = np.clip(share, EDGE, 1 - EDGE)
    return np.log(inside) - np.log1p(-inside)
