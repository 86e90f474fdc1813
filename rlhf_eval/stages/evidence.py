"""What a data card measures of the judgments behind a set, and of the answers that rejection sampling kept.

Position bias and flips from both orders, labelers against each other and against gold or people, label noise from repeats,
failures and ties; and, for an SFT set, what selection gained over its pool, and the unbiased best-of-n curve.

    extra = of_judgments(judgments) + of_outcomes(outcomes) + of_selection(book.matrix, kept)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from rlhf_eval.records import Estimate, Judgment, Outcome, Usage
from rlhf_eval.stages.labels import Item, items_of, true_shares
from rlhf_eval.stages.matrix import Ints, Matrix
from rlhf_eval.stages.measures import estimate, noise_of_disagreement, share
from rlhf_eval.stats.agreement import agreement
from rlhf_eval.stats.best_of_n import best_of_n_curve, best_of_n_kl
from rlhf_eval.stats.intervals import mean_interval, paired, wilson
from rlhf_eval.stats.judge_quality import position_bias
from rlhf_eval.stats.strategyproof import label_influence

LEAST = 20
"""Items below which a rate about judgments is not worth printing."""


def of_judgments(judgments: Sequence[Judgment]) -> list[Estimate]:
    """Failures, flips and first-slot bias of each judge, and how the labelers agree with each other."""
    found: list[Estimate] = []
    by_judge: dict[str, list[Judgment]] = defaultdict(list)
    for judgment in judgments:
        by_judge[judgment.judge].append(judgment)
    for judge, group in sorted(by_judge.items()):
        failed = [j.error is not None for j in group]
        if any(failed):
            found += share("unreadable", failed, _numbered([j.prompt_id for j in group]), judge=judge)
        found += _orders(judge, group) + _repeats(judge, group)
    return found + _between(items_of(judgments))


def _orders(judge: str, group: Sequence[Judgment]) -> list[Estimate]:
    """Flips and first-slot bias, from comparisons that were shown both ways; identical answers were never shown."""
    shown: dict[tuple[str, str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for j in group:
        if len(j.scores) == 2 and not j.metadata.get("identical"):
            a, b = sorted(j.completion_ids)
            place = j.completion_ids.index(a)
            shown[j.prompt_id, a, b][j.order.index(place)].append(j.scores[place])
    both = {key: sides for key, sides in shown.items() if len(sides) == 2}
    if len(both) < LEAST:
        return []
    first, second = (np.array([np.mean(sides[place]) for sides in both.values()]) for place in (0, 1))
    prompts = _numbered([key[0] for key in both])
    bias = position_bias(first, second, prompts)
    flips = wilson((first - 0.5) * (second - 0.5) < 0, prompts)
    once = 1 - len(both) / len(shown)
    return [
        *estimate("order_flips", flips, judge=judge),
        *estimate("first_slot", bias.first_slot, judge=judge, once=once),
    ]


def _repeats(judge: str, group: Sequence[Judgment]) -> list[Estimate]:
    """Label noise of one judge, from the same question put several times in the same order."""
    votes: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for j in group:
        if len(j.scores) == 2 and j.scores[0] != j.scores[1] and not j.metadata.get("identical"):
            votes[j.prompt_id, j.completion_ids, j.order].append(float(j.scores[0] > j.scores[1]))
    several = [given for given in votes.values() if len(given) > 1]
    return noise_of_disagreement([_pairwise_disagreement(given) for given in several], f"repeats of {judge}")


def _pairwise_disagreement(given: Sequence[float]) -> float:
    n, first = len(given), sum(given)
    return 2 * first * (n - first) / (n * (n - 1))


def _between(items: Sequence[Item]) -> list[Estimate]:
    """Raw agreement and kappa of every two labelers on the comparisons that both decided."""
    compared = [item for item in items if len(item.completion_ids) == 2]
    labelers = sorted({labeler for item in compared for labeler in item.scores})
    found: list[Estimate] = []
    for a, b in combinations(labelers, 2):
        both = [i for i in compared if i.shares.get(a, 0.5) != 0.5 and i.shares.get(b, 0.5) != 0.5]
        if len(both) < LEAST:
            continue
        told = agreement(
            [i.shares[a] > 0.5 for i in both],
            [i.shares[b] > 0.5 for i in both],
            _numbered([i.prompt_id for i in both]),
            draws=200,
        )
        found += estimate("labeler_agreement", told.raw, labelers=f"{a} and {b}")
        found += estimate("labeler_kappa", told.kappa, labelers=f"{a} and {b}")
    return found + _influence(compared, labelers)


def _influence(compared: Sequence[Item], labelers: Sequence[str]) -> list[Estimate]:
    """How often each of several labelers decides: the winner by majority is another without it."""
    if len(labelers) < 3:
        return []
    votes = np.array([[item.shares.get(labeler, np.nan) for labeler in labelers] for item in compared])
    found: list[Estimate] = []
    for labeler, moved in zip(labelers, label_influence(votes).T, strict=True):
        told = np.isfinite(moved)
        if told.sum() >= LEAST:
            prompts = _numbered([item.prompt_id for item, known in zip(compared, told, strict=True) if known])
            found += share("labeler_influence", moved[told], prompts, labeler=labeler)
    return found


def against_truth(judgments: Sequence[Judgment], truth: Sequence[Judgment]) -> list[Estimate]:
    """Share of the comparisons, both orders taken together, that gold or people decide the same way."""
    decided = _decided(judgments)
    known = true_shares(decided, truth)
    both = [item for item in decided if known.get(item.completion_ids, 0.5) != 0.5]
    if len(both) < LEAST:
        return []
    right = [(np.mean([*i.shares.values()]) > 0.5) == (known[i.completion_ids] > 0.5) for i in both]
    names = {"judge": _names(judgments), "truth": _names(truth)}
    interval = wilson(np.array(right, dtype=np.float64), _numbered([i.prompt_id for i in both]))
    return estimate("agreement_with_truth", interval, **names)


def _decided(judgments: Sequence[Judgment]) -> list[Item]:
    return [i for i in items_of(judgments) if len(i.completion_ids) == 2 and np.mean([*i.shares.values()]) != 0.5]


def of_outcomes(outcomes: Sequence[Outcome]) -> list[Estimate]:
    """Share of prompts that ended as a tie, and as dropped."""
    return [
        *share("ties", [o.reason.startswith("tie") for o in outcomes]),
        *share("dropped", [o.reason.startswith("dropped") for o in outcomes]),
    ]


def of_selection(matrix: Matrix, kept: Ints) -> list[Estimate]:
    """Coverage, decidable prompts, what the kept answers gained over their prompts' pools, and copies among them."""
    if not len(kept):
        return []
    prompt, some = matrix.prompt, matrix.counts > 0
    best = matrix.best()
    alone = matrix.of_prompt(matrix.score[best]) == matrix.score
    single = np.bincount(prompt[alone], minlength=matrix.prompts)[some] == 1
    pool = np.zeros(matrix.prompts)
    pool[some] = np.bincount(prompt, weights=matrix.score, minlength=matrix.prompts)[some] / matrix.counts[some]
    gained = mean_interval(matrix.score[kept] - pool[prompt[kept]], prompt[kept])
    words = list(zip(prompt[kept].tolist(), matrix.words[kept].tolist(), strict=True))
    first = {w: i for i, w in reversed([*enumerate(words)])}
    return [
        *share("coverage", np.isin(np.arange(matrix.prompts), prompt[kept])),
        *share("decidable", single[matrix.counts[some] > 1]),
        *estimate("kept_score", mean_interval(matrix.score[kept], prompt[kept])),
        *estimate("selected_minus_pool", gained),
        *share("duplicate_answers", [first[w] != i for i, w in enumerate(words)]),
    ]


def by_truth(matrix: Matrix, ids: Sequence[str], truth: Sequence[Judgment]) -> Matrix | None:
    """The matrix with the grades of ``truth`` for scores, NaN where it gave none; None where it grades no answer."""
    grades: dict[str, list[float]] = defaultdict(list)
    for judgment in truth:
        if len(judgment.scores) == 1:
            grades[judgment.completion_ids[0]].append(judgment.scores[0])
    score = np.array([float(np.mean(grades[identity])) if identity in grades else np.nan for identity in ids])
    return replace(matrix, score=score) if np.isfinite(score).any() else None


def against_control(matrix: Matrix, kept: Ints, control: Ints, name: str) -> list[Estimate]:
    """Mean score of the kept answers minus that of the control's, paired by the prompts that both have a score in."""
    means = []
    for numbers in (kept, control):
        known = numbers[np.isfinite(matrix.score[numbers])]
        rows, inverse = np.unique(matrix.prompt[known], return_inverse=True)
        sums = np.bincount(inverse, weights=matrix.score[known]) / np.bincount(inverse)
        means.append(dict(zip(rows.tolist(), sums.tolist(), strict=True)))
    both = sorted(means[0].keys() & means[1].keys())
    if len(both) < 2:
        return []
    return estimate(name, paired([means[0][p] for p in both], [means[1][p] for p in both]))


def best_of_n(matrix: Matrix, gold: Matrix | None = None) -> list[Estimate]:
    """The unbiased best-of-n curve over powers of two, by the scores that select, or by another judge's (``gold``).

    Prompts with the commonest number of judged answers count. Each point carries ``kl``, in nats: the bound
    ``log n - (n - 1) / n``, which is exact where no two answers tie. Source: arXiv 2112.09332, appendix I.
    """
    judged = ~np.isnan(matrix.score) if gold is None else ~(np.isnan(matrix.score) | np.isnan(gold.score))
    counts = np.bincount(matrix.prompt[judged], minlength=matrix.prompts)
    usable = counts[counts > 1]
    if not len(usable):
        return []
    size = int(np.bincount(usable).argmax())
    rows = np.flatnonzero(judged & (counts[matrix.prompt] == size)).reshape(-1, size)
    if len(rows) < 2:
        return []
    steps = [2**k for k in range(int(math.log2(size)) + 1)]
    value = (matrix if gold is None else gold).score[rows]
    curve = best_of_n_curve(matrix.score[rows], value, steps)
    name = "best_of_n" if gold is None else "best_of_n_gold"
    return [
        e
        for n, point, kl in zip(steps, curve, best_of_n_kl(steps), strict=True)
        for e in estimate(name, point, n=n, of=size, kl=float(kl))
    ]


def cost_of(judgments: Sequence[Judgment]) -> Usage:
    """What the judgments used."""
    total = Usage()
    for judgment in judgments:
        total = total + judgment.usage
    return total


def _numbered(names: Sequence[str]) -> list[int]:
    code: dict[str, int] = {}
    return [code.setdefault(name, len(code)) for name in names]


def _names(judgments: Sequence[Judgment]) -> str:
    return "+".join(sorted({j.judge for j in judgments}))
