"""Preference Proxy Evaluations: what a reward model or judge is worth downstream (Frick et al., arXiv 2410.14872).

Written from the paper; its code and data have not been compared with. On people's votes: accuracy (ties of theirs left
out), and how well the judge's ranking of the models matches theirs. On answers known to be right or wrong: accuracy on
pairs of one each, and for judges that grade, within-prompt ROC-AUC, what the best of k is worth at the largest k, and how
far the curve lies below the best possible one in the mean over k.

    rlhf-eval evaluate ppe --prompts path/to/PPE-MATH-Best-of-K --judge reward_model --judge-model hf:PATH
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate, nothing_to_score
from rlhf_eval.benchmarks.labels import Item, credit, items
from rlhf_eval.benchmarks.votes import Votes, ranking_estimates
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Bools, Floats
from rlhf_eval.stats.best_of_n import best_of_n_scores
from rlhf_eval.stats.intervals import wilson

SHAPE: Shape = "labels"
FORMAT = "ppe"
"""How a file or folder of its data is read."""

HUMAN = "human"
"""The category of the prompts that people voted on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of Preference Proxy Evaluations."""

    level: float = 0.95
    """Confidence of the intervals."""
    draws: int = 200
    """Bootstrap draws of prompts behind separability, confident agreement and Brier score."""
    seed: int = 0
    """Seed of the bootstrap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Answers of one model to one prompt, each graded by the judge and known to be right or wrong."""

    prompt: str
    scores: Floats
    right: Bools


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Every judge's numbers: on people's votes, then on each correctness set."""
    found: list[Estimate] = []
    for judge in evidence.judges:
        labelled = items(evidence, judge)
        graded = checked(evidence, judge)
        votes = [item for item in labelled if item.prompt.category == HUMAN]
        if votes:
            found += _votes(judge, votes, config)
        for name in sorted({item.prompt.category for item in labelled} - {HUMAN} | set(graded)):
            pairs = [item for item in labelled if item.prompt.category == name]
            found += _accuracy(f"accuracy: {name}", judge, pairs, config.level) if pairs else []
            found += _curves(name, judge, graded.get(name, []), config.level)
    if not found:
        raise nothing_to_score("ppe", "judgment on a labelled answer")
    return found


def checked(evidence: Evidence, judge: str) -> dict[str, list[Checked]]:
    """Category to the groups of answers that have a label each and a grade each; a group that lacks a grade is left out."""
    right = {ids[0]: scores[0] > 0 for ids, scores in evidence.labels.items() if len(ids) == 1}
    grades: dict[str, list[float]] = defaultdict(list)
    for judgment in evidence.by(judge):
        if len(judgment.completion_ids) == 1 and judgment.scores:
            grades[judgment.completion_ids[0]].append(judgment.scores[0])
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for identity in right:
        completion = evidence.completions[identity]
        groups[completion.prompt_id, completion.model].append(identity)
    found: dict[str, list[Checked]] = defaultdict(list)
    for (prompt, _), ids in groups.items():
        if all(identity in grades for identity in ids):
            scores = np.array([np.mean(grades[identity]) for identity in ids])
            truth = np.array([right[identity] for identity in ids], dtype=np.bool_)
            found[evidence.prompts[prompt].category].append(Checked(prompt=prompt, scores=scores, right=truth))
    return dict(found)


def auc(scores: Floats, right: Bools) -> float:
    """Chance that a right answer is scored above a wrong one, ties half; both kinds must be there."""
    ranks = rankdata(scores)
    positives = int(right.sum())
    above = ranks[right].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(right) - positives)))


def _accuracy(name: str, judge: str, labelled: Sequence[Item], level: float) -> list[Estimate]:
    pairs = [(item, value) for item in labelled if item.right.any() and (value := credit(item)) is not None]
    if not pairs:
        return []
    prompts = np.array([item.prompt.id for item, _ in pairs])
    interval = wilson([value for _, value in pairs], prompts, level=level)
    unread = sum(not item.read for item in labelled)
    return [estimate(name, interval, settings={"judge": judge, "pairs": len(pairs), "unreadable": unread})]


def _votes(judge: str, labelled: Sequence[Item], config: Config) -> list[Estimate]:
    votes = Votes.of([item for item in labelled if item.read])
    ranked = ranking_estimates(votes, level=config.level, draws=config.draws, seed=config.seed)
    about = {"judge": judge, "models": len(votes.models)}
    return [
        *_accuracy(f"accuracy: {HUMAN}", judge, labelled, config.level),
        *(estimate(name, interval, settings=about) for name, interval in ranked.items()),
    ]


def _curves(name: str, judge: str, graded: Sequence[Checked], level: float) -> list[Estimate]:
    mixed = [group for group in graded if 0 < group.right.sum() < len(group.right)]
    if not mixed:
        return []
    about: Mapping[str, object] = {"judge": judge}
    prompts = np.array([group.prompt for group in mixed])
    areas = wilson([auc(group.scores, group.right) for group in mixed], prompts, level=level)
    most = min(len(group.right) for group in graded)
    sizes = list(range(1, most + 1))
    chosen, possible = (
        np.concatenate([
            best_of_n_scores([group.right if oracle else group.scores], [group.right], sizes) for group in graded
        ]).clip(0, 1)  # sums of chances round past 1
        for oracle in (False, True)
    )  # fmt: skip
    loss = (possible - chosen).mean(axis=1).clip(0)
    every = np.array([group.prompt for group in graded])
    return [
        estimate(f"auc: {name}", areas, settings=about),
        estimate(f"best of {most}: {name}", wilson(chosen[:, -1], every, level=level), settings=about),
        estimate(f"best of k, top: {name}", wilson(chosen[:, _top(chosen)], every, level=level),
                 settings={**about, "k": sizes[_top(chosen)]}),
        estimate(f"best of k, loss: {name}", wilson(loss, every, level=level), settings=about),
    ]  # fmt: skip


def _top(curves: Floats) -> int:
    return int(curves.mean(axis=0).argmax())
