"""Do a judge's votes rank models as people's do? The measures of Preference Proxy Evaluations (arXiv 2410.14872).

A model's score is the mean share of the votes on its answers. Spearman and Kendall compare the scores; the row-wise Pearson
correlation compares whom each model beats; separability is the share of model pairs whose 95 % bootstrap intervals do not
overlap, and confident agreement the share of the pairs that people separate which the judge separates the same way. The
Brier score holds the bootstrap chance that A leads B by the judge against whether A does by people. Their intervals
resample models, which is what one wants to generalise to; a dozen models give wide ones.

    ranking_estimates(Votes.of(items), level=0.95, draws=200, seed=0)["spearman"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.benchmarks.labels import Item, Vote
from rlhf_eval.stats.arrays import Bools, Floats, Ints
from rlhf_eval.stats.bootstrap import cluster_draws, from_replicates
from rlhf_eval.stats.correlation import FEW_MODELS, ROUGH, rank_correlation
from rlhf_eval.stats.intervals import Interval, bounded_mean

FEWEST = 3
"""Models below which nothing can be said about a ranking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """Comparisons of models' answers; arrays are aligned, one entry a comparison."""

    models: tuple[str, ...]
    first: Ints
    """Number of the first answer's model."""
    second: Ints
    human: Floats
    """The first answer's share by people."""
    judge: Floats
    prompt: Ints

    @classmethod
    def of(cls, labelled: Sequence[Item]) -> Votes:
        """Votes from items of two answers that the judge's verdict on could be read."""
        names = sorted({answer.model for item in labelled for answer in item.answers})
        number = {name: n for n, name in enumerate(names)}
        prompts = {identity: n for n, identity in enumerate(dict.fromkeys(item.prompt.id for item in labelled))}
        return cls(
            models=tuple(names),
            first=np.array([number[item.answers[0].model] for item in labelled], dtype=np.int64),
            second=np.array([number[item.answers[1].model] for item in labelled], dtype=np.int64),
            human=np.array([_share(*map(float, item.right)) for item in labelled]),
            judge=np.array([np.mean([_share_of(vote, item.graded) for vote in item.read]) for item in labelled]),
            prompt=np.array([prompts[item.prompt.id] for item in labelled], dtype=np.int64),
        )


def ranking_estimates(votes: Votes, *, level: float, draws: int, seed: int) -> Mapping[str, Interval]:
    """Every measure with its interval; none where there are fewer than three models, or a ranking is flat."""
    human, judge = (_scores(votes, shares, None) for shares in (votes.human, votes.judge))
    if len(votes.models) < FEWEST or np.ptp(human) == 0 or np.ptp(judge) == 0:
        return {}
    ranks = rank_correlation(judge, human, level=level, seed=seed)
    found = {"spearman": ranks.spearman, "kendall": ranks.kendall}
    rows = _row_correlations(votes)
    if len(rows):
        found["row_pearson"] = bounded_mean(rows, -1, 1, level=level)
    weights = np.concatenate(list(cluster_draws(int(votes.prompt.max()) + 1, draws, seed)))
    replicates = [
        np.stack([_scores(votes, shares, weight[votes.prompt]) for weight in weights])
        for shares in (votes.human, votes.judge)
    ]
    apart = [_separated(table) for table in replicates]
    pairs = np.triu(np.ones((len(votes.models),) * 2, dtype=np.bool_), 1)
    leads = (human[:, None] > human).astype(np.float64)
    with np.errstate(invalid="ignore"):
        chance = (replicates[1][:, :, None] > replicates[1][:, None, :]).mean(axis=0)
    measures = {
        "separability": (np.abs(apart[1]).astype(np.float64), pairs),
        "confident_agreement": ((apart[0] == apart[1]).astype(np.float64), pairs & (apart[0] != 0)),
        "brier": ((chance - leads) ** 2, pairs),
    }
    for name, (values, wanted) in measures.items():
        if wanted.any():
            found[name] = _over_pairs(values, wanted, level, draws, seed)
    return found


def _share(first: float, second: float) -> float:
    return 0.5 + float(np.sign(first - second)) / 2


def _share_of(vote: Vote, graded: bool) -> float:
    """The first answer's share of a vote: of a comparison as it was given, of two grades by which is higher."""
    first, second = vote.scores.tolist()
    return _share(first, second) if graded else float(first)


def _scores(votes: Votes, shares: Floats, weights: Floats | None) -> Floats:
    """Mean share of each model over its comparisons, from both sides; NaN where a model has none."""
    count = len(votes.models)
    w = np.ones(len(shares)) if weights is None else weights
    won = np.bincount(votes.first, w * shares, count) + np.bincount(votes.second, w * (1 - shares), count)
    met = np.bincount(votes.first, w, count) + np.bincount(votes.second, w, count)
    with np.errstate(invalid="ignore"):
        return np.asarray(won / met, dtype=np.float64)


def _row_correlations(votes: Votes) -> Floats:
    """For each model the Pearson correlation of its win rates against the others, judge and people."""
    tables = [_matrix(votes, shares) for shares in (votes.human, votes.judge)]
    found = []
    for mine, theirs in zip(*tables, strict=True):
        known = ~np.isnan(mine)
        if known.sum() >= FEWEST and np.ptp(mine[known]) > 0 and np.ptp(theirs[known]) > 0:
            found.append(float(np.corrcoef(mine[known], theirs[known])[0, 1]))
    return np.array(found)


def _matrix(votes: Votes, shares: Floats) -> Floats:
    count = len(votes.models)
    won, met = np.zeros((count, count)), np.zeros((count, count))
    for first, second, values in ((votes.first, votes.second, shares), (votes.second, votes.first, 1 - shares)):
        np.add.at(won, (first, second), values)
        np.add.at(met, (first, second), 1.0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(met > 0, won / met, np.nan), dtype=np.float64)


def _separated(replicates: Floats) -> NDArray[np.int64]:
    """For each pair of models 1 if the first lies surely above, -1 if below, 0 if their intervals overlap."""
    low, high = np.nanquantile(replicates, [0.025, 0.975], axis=0)
    above: Bools = low[:, None] > high
    return above.astype(np.int64) - above.T.astype(np.int64)


def _over_pairs(values: Floats, wanted: Bools, level: float, draws: int, seed: int) -> Interval:
    """Mean over the wanted pairs of models, with a bootstrap of models."""
    count = len(values)
    both = wanted | wanted.T
    table = np.where(wanted, values, 0) + np.where(wanted.T & ~wanted, values.T, 0)
    weights = np.concatenate(list(cluster_draws(count, draws, seed)))
    totals = np.einsum("di,ij,dj->d", weights, both.astype(np.float64), weights)
    sums = np.einsum("di,ij,dj->d", weights, table, weights)
    value = float(values[wanted].mean())
    made = sums[totals > 0] / totals[totals > 0]
    return from_replicates(
        value, made, count, level=level, method=f"bootstrap of models, {draws} draws, seed {seed}", bounds=(0, 1),
        note=FEW_MODELS if count < ROUGH else "",
    )  # fmt: skip
