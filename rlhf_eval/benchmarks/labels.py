"""A judge against labels: one table of votes for every kind of judge.

A reward model grades each answer, a generative judge compares two, in one order or in both, a ranker takes all. Here each
of them becomes votes on an item: a vote is one score for each of the item's answers, in the item's own order. What a
benchmark makes of the votes is its own affair; how they were obtained is not, which is what lets one table hold classifier
and process reward models, implicit rewards and generative judges.

    for item in items(evidence, judge="grade/my-reward-model#1a2b3c4d"): ...
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.records import Completion, Judgment, Prompt
from rlhf_eval.stats.arrays import Bools, Floats
from rlhf_eval.stats.intervals import PairedDifference, paired


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One score for each answer of an item; which answer stood first where two were compared."""

    scores: Floats
    """Empty where the judge gave none that could be read."""
    first: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A prompt with right and wrong answers, and what one judge said about them."""

    prompt: Prompt
    answers: tuple[Completion, ...]
    right: Bools
    """Which answers are right, shape (answers,)."""
    votes: tuple[Vote, ...]
    graded: bool
    """Whether the answers were scored one by one."""

    @property
    def read(self) -> list[Vote]:
        """The votes that say something."""
        return [vote for vote in self.votes if len(vote.scores)]


def items(evidence: Evidence, judge: str) -> list[Item]:
    """Every labelled item of two answers or more that the judge was asked about, with its votes."""
    grades, verdicts, listed = _grades(evidence, judge), _verdicts(evidence, judge), set(evidence.labels)
    found = []
    for ids, label in evidence.labels.items():
        if len(ids) < 2:
            continue
        # Another item may hold the same answers the other way round: its verdicts are not this one's.
        asked = [
            j for j in verdicts.get(frozenset(ids), []) if j.completion_ids == ids or j.completion_ids not in listed
        ]
        graded = not asked
        votes = tuple(_vote(ids, judgment) for judgment in asked)
        if graded and any(identity in grades for identity in ids):
            votes = (_graded(ids, grades),)
        if votes:
            answers = tuple(evidence.completions[identity] for identity in ids)
            prompt = evidence.prompts[answers[0].prompt_id]
            right = np.array(label) == max(label) if max(label) > min(label) else np.zeros(len(label), dtype=np.bool_)
            found.append(Item(prompt=prompt, answers=answers, right=right, votes=votes, graded=graded))
    return found


def decided(evidence: Evidence, judge: str) -> list[Item]:
    """The items of ``items`` whose label names a right answer; those whose label is a tie are left out."""
    return [item for item in items(evidence, judge) if item.right.any()]


def pair_credit(scores: Floats, right: Bools, *, tie: float = 0.5) -> float:
    """1 where the lowest right answer beats the highest wrong one, ``tie`` where they are equal, else 0."""
    gap = scores[right].min() - scores[~right].max()
    return 1.0 if gap > 0 else tie if gap == 0 else 0.0


def credit(item: Item) -> float | None:
    """How right the judge was on an item, ties half; None where no vote could be read.

    Repeats of an order are averaged before the two orders are, so that an order asked more often does not weigh more.
    """
    by_order: dict[int | None, list[float]] = defaultdict(list)
    for vote in item.read:
        by_order[vote.first].append(pair_credit(vote.scores, item.right))
    return float(np.mean([np.mean(credits) for credits in by_order.values()])) if by_order else None


def agreement_gaps(rivals: Sequence[Evidence]) -> dict[str, PairedDifference | None]:
    """Judge to how much more often the best judge is right, paired over the items that both answered; None for the best.

    Every judge of every evidence takes part; a judge that shares no item with the best is left out.
    """
    found: dict[str, dict[tuple[str, ...], tuple[str, float]]] = {}
    for evidence in rivals:
        for judge in evidence.judges:
            known = [(item, credit(item)) for item in decided(evidence, judge)]
            found[judge] = {
                tuple(a.id for a in item.answers): (item.prompt.id, value) for item, value in known if value is not None
            }
    scored = {judge: own for judge, own in found.items() if own}
    if not scored:
        return {}
    best = max(scored, key=lambda judge: float(np.mean([value for _, value in scored[judge].values()])))
    gaps: dict[str, PairedDifference | None] = {best: None}
    for judge, own in scored.items():
        shared = sorted(own.keys() & scored[best].keys())
        if judge != best and shared:
            first, mine = ([side[item][1] for item in shared] for side in (scored[best], own))
            gaps[judge] = paired(first, mine, np.array([own[item][0] for item in shared]))
    return gaps


def _grades(evidence: Evidence, judge: str) -> dict[str, list[tuple[float, ...]]]:
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for judgment in evidence.by(judge):
        if len(judgment.completion_ids) == 1:
            found[judgment.completion_ids[0]].append(judgment.scores)
    return found


def _verdicts(evidence: Evidence, judge: str) -> dict[frozenset[str], list[Judgment]]:
    found: dict[frozenset[str], list[Judgment]] = defaultdict(list)
    for judgment in evidence.by(judge):
        if len(judgment.completion_ids) > 1:
            found[frozenset(judgment.completion_ids)].append(judgment)
    return found


def _graded(ids: Sequence[str], grades: Mapping[str, list[tuple[float, ...]]]) -> Vote:
    """The mean grade of each answer; nothing where one of them has no readable grade."""
    read = [[score for scores in grades.get(identity, []) for score in scores] for identity in ids]
    return Vote(scores=np.array([np.mean(own) for own in read]) if all(read) else np.empty(0))


def _vote(ids: Sequence[str], judgment: Judgment) -> Vote:
    place = {identity: n for n, identity in enumerate(judgment.completion_ids)}
    scores = np.array([judgment.scores[place[i]] for i in ids]) if judgment.scores else np.empty(0)
    shown = judgment.completion_ids[judgment.order[0]]
    return Vote(scores=scores, first=list(ids).index(shown))
