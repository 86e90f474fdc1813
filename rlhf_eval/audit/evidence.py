"""Everything that is known about a judge, sorted by the two answers that it was about.

Comparisons, rankings and grades become the same thing here: a share of the first answer in [0, 1] for each showing of a
pair. Which of two answers counts as the first is decided by their ids, which are hashes, so that no column (the new
model, the longer answer, the right answer) hides in it.

    evidence = gather("pairwise/gpt#1a2b3c4d", judgments, completions, {"gold": gold_judgments})
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from rlhf_eval.audit.probes import is_probe, kind_of
from rlhf_eval.records import Completion, Judgment

FIRST, SECOND, GRADED = 1, -1, 0
"""Which of the two stood first; a grade is given to each alone."""

RANK = ("gold", "human")
"""Which reference is the first, where there are several."""

MOST_GRADED = 16
"""Graded answers of one prompt that are compared with each other; with more, their pairs say little more."""

Key = tuple[str, str]


def role(judge: str) -> str:
    """What a judge is to the others: ``gold``, ``human``, or nothing."""
    if judge == "gold" or judge.startswith("gold#"):
        return "gold"
    return "human" if judge.startswith("human/") else ""


@dataclass(slots=True)
class Pair:
    """Two answers of one prompt and all that the judge said about them."""

    prompt: str
    a: Completion
    b: Completion
    kind: str
    """Empty for two answers of models; else the probe that one of them is."""
    said: dict[int, dict[int, float]] = field(default_factory=lambda: {FIRST: {}, SECOND: {}, GRADED: {}})
    """Which stood first, to repeat, to the share of ``a``."""

    @property
    def orders(self) -> tuple[float, float] | None:
        """The share of ``a`` when it stood first and when it stood second, each the first time it was asked; else None."""
        straight, swapped = self.said[FIRST], self.said[SECOND]
        if not straight or not swapped:
            return None
        return straight[min(straight)], swapped[min(swapped)]

    @property
    def single(self) -> list[tuple[int, float]]:
        """Which stood first, and the share of ``a``, the first time that each order was asked."""
        return [(order, by_repeat[min(by_repeat)]) for order, by_repeat in self.said.items() if by_repeat]

    @property
    def mean(self) -> float | None:
        """The share of ``a``, over both orders where both are known; None where nothing is."""
        shares = [share for _, share in self.single]
        return sum(shares) / len(shares) if shares else None

    @property
    def settled(self) -> bool:
        """Whether order can no longer move it: both orders are known, or it was graded."""
        return self.orders is not None or bool(self.said[GRADED])

    def of_probe(self, share: float) -> float:
        """A share of ``a`` as the share of the altered answer."""
        return share if is_probe(self.a) else 1.0 - share


@dataclass(frozen=True, slots=True)
class Label:
    """What a reference says about a pair: the share of ``a``, by rater."""

    votes: Mapping[str, float]

    @property
    def share(self) -> float:
        """Mean over raters."""
        return sum(self.votes.values()) / len(self.votes)

    @property
    def winner(self) -> int:
        """1 where ``a`` is better, -1 where ``b`` is, 0 where they are as good."""
        return sign(self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an audit is made from; plain records, sorted."""

    judge: str
    arity: int
    """Completions a call: 1 where it grades, 2 where it compares, 0 where it ranks."""
    pairs: tuple[Pair, ...]
    judgments: tuple[Judgment, ...]
    """All that the judge was asked, probes included."""
    completions: Mapping[str, Completion]
    references: Mapping[str, Mapping[Key, Label]]
    """``gold`` or ``human``, to pair, to label."""
    margins: Mapping[Key, float]
    """How much better ``a`` is by the first reference, where that one grades."""
    own: tuple[str, ...] = ()
    """Models whose answers are the judge's own."""

    def natural(self) -> Iterator[Pair]:
        """The pairs of two answers that models gave."""
        return (pair for pair in self.pairs if not pair.kind)

    def probes(self, *kinds: str) -> Iterator[Pair]:
        """The pairs with an altered answer of one of ``kinds``."""
        return (pair for pair in self.pairs if pair.kind in kinds)

    @property
    def truth(self) -> tuple[str, Mapping[Key, Label]]:
        """The reference that outranks the others, gold before people, with its name; empty where there is none."""
        for name in (*RANK, *self.references):
            if self.references.get(name):
                return name, self.references[name]
        return "", {}


def sign(share: float) -> int:
    """1 over one half, -1 under it, 0 at it; rounding errors are no preference."""
    return 0 if abs(share - 0.5) < 1e-9 else 1 if share > 0.5 else -1


def gather(
    judge: str,
    judgments: Iterable[Judgment],
    completions: Mapping[str, Completion],
    references: Mapping[str, Sequence[Judgment]],
    *,
    own: Sequence[str] = (),
) -> Evidence:
    """Sort the records of one judge; ``references`` maps ``gold`` and ``human`` to the judgments of their raters.

    Judgments about completions that are not given are left out.
    """
    mine = [j for j in judgments if j.judge == judge and all(c in completions for c in j.completion_ids)]
    pairs: dict[Key, Pair] = {}
    for key, prompt, order, repeat, share in _showings(mine, completions):
        if key not in pairs:
            a, b = completions[key[0]], completions[key[1]]
            pairs[key] = Pair(prompt, a, b, kind_of(a) or kind_of(b))
        pairs[key].said[order].setdefault(repeat, share)
    labels = {name: _labels(theirs, completions, pairs) for name, theirs in references.items()}
    sizes = {len(j.completion_ids) for j in mine}
    return Evidence(
        judge=judge,
        arity=1 if sizes == {1} else 2 if sizes <= {2} else 0,
        pairs=tuple(pairs.values()),
        judgments=tuple(mine),
        completions=completions,
        references={name: found for name, found in labels.items() if found},
        margins=_margins(next((references[n] for n in (*RANK, *references) if labels.get(n)), ()), pairs),
        own=tuple(own),
    )


def _showings(
    judgments: Iterable[Judgment], completions: Mapping[str, Completion]
) -> Iterator[tuple[Key, str, int, int, float]]:
    """Every readable verdict about two answers: pair, prompt, who stood first, repeat, share of the pair's first."""
    grades: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for judgment in judgments:
        if judgment.error is not None or judgment.metadata.get("identical"):
            continue
        ids, scores = judgment.completion_ids, judgment.scores
        if len(ids) == 1:
            grades[judgment.prompt_id, judgment.repeat][ids[0]] = scores[0]
            continue
        for i, j in combinations(range(len(ids)), 2):
            a, b = (i, j) if ids[i] < ids[j] else (j, i)
            order = FIRST if judgment.order.index(a) < judgment.order.index(b) else SECOND
            yield (ids[a], ids[b]), judgment.prompt_id, order, judgment.repeat, _share(scores, a, b)
    for (prompt, repeat), graded in grades.items():
        for x, y in _rivals(graded, completions):
            yield (x, y), prompt, GRADED, repeat, _by_grade(graded[x], graded[y])


def _share(scores: Sequence[float], a: int, b: int) -> float:
    """The share of ``a``: as it is in a comparison whose shares sum to one, else by which score is higher."""
    if len(scores) == 2 and min(scores) >= 0 and abs(sum(scores) - 1) < 1e-6:
        return min(1.0, scores[a])
    return _by_grade(scores[a], scores[b])


def _by_grade(a: float, b: float) -> float:
    return 0.5 if a == b else float(a > b)


def _rivals(graded: Iterable[str], completions: Mapping[str, Completion]) -> Iterator[Key]:
    """Which graded answers of a prompt are compared: those of models, and an altered one with its rival."""
    known = sorted(graded)
    answers = [c for c in known if not is_probe(completions[c])]
    yield from ((x, y) for x, y in combinations(answers[:MOST_GRADED], 2) if completions[x].text != completions[y].text)
    for probe in (c for c in known if is_probe(completions[c])):
        rival = str(completions[probe].metadata.get("against"))
        if rival in answers:
            yield (probe, rival) if probe < rival else (rival, probe)


def _labels(
    judgments: Iterable[Judgment], completions: Mapping[str, Completion], wanted: Collection[Key]
) -> dict[Key, Label]:
    """The labels of the wanted pairs, by all raters together."""
    by_rater: dict[str, list[Judgment]] = defaultdict(list)
    for judgment in judgments:
        if all(c in completions for c in judgment.completion_ids):
            by_rater[judgment.judge].append(judgment)
    votes: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for rater, theirs in by_rater.items():
        for key, _, _, _, share in _showings((j for j in theirs if len(j.completion_ids) > 1), completions):
            if key in wanted:
                votes[key][rater].append(share)
        for key, margin in _margins(theirs, wanted).items():
            votes[key][rater].append(_by_grade(margin, 0.0))
    return {
        key: Label({rater: sum(shares) / len(shares) for rater, shares in found.items()})
        for key, found in votes.items()
    }


def _margins(judgments: Iterable[Judgment], wanted: Iterable[Key]) -> dict[Key, float]:
    """How much more a reference gave to the first of each wanted pair, where it gave grades."""
    graded = [j for j in judgments if j.error is None and len(j.completion_ids) == 1]
    grade = {j.completion_ids[0]: j.scores[0] for j in graded}
    return {(a, b): grade[a] - grade[b] for a, b in wanted if a in grade and b in grade}
