"""The reward matrix: what is known about every completion, as arrays in which a selection rule is a few lines.

Row i of the book's M x N matrix is ``score[start[i]:start[i + 1]]``; prompts may have any number of completions. Records
are walked once, here; a rule never sees one, which is what lets it run over a million completions in a second.

Source: the reward matrix of Lambert, "Reinforcement Learning from Human Feedback" (arXiv 2504.12501), chapter on rejection
sampling.

    book = tabulate(prompts, completions, judgments)
    book.matrix.best()
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, Prompt

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
R = TypeVar("R", Completion, Judgment)

SIDES: Mapping[str, int] = {"better": 1, "worse": -1}
"""What a generator that builds contrasts writes as ``side`` into the metadata of a completion."""

MOST_PAIRS = 50_000_000
"""Pairs that fit into memory beside everything else; more is refused before it is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contests:
    """Comparisons of two completions of a prompt, each pair of completions once: ``first`` < ``second``."""

    first: Ints
    second: Ints
    share: Floats
    """Mean score of ``first`` over orders, repeats and judges."""

    def between(self, a: Ints, b: Ints, size: int) -> tuple[Floats, Bools]:
        """The share of each ``a`` against its ``b``, and whether the two met; ``size`` is the number of completions."""
        if not len(self.first):
            return np.full(len(a), 0.5), np.zeros(len(a), dtype=np.bool_)
        keys = self.first * size + self.second
        wanted = np.minimum(a, b) * size + np.maximum(a, b)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        met = keys[at] == wanted
        share = np.where(a < b, self.share[at], 1.0 - self.share[at])
        return np.where(met, share, 0.5), met


NOBODY = Contests(first=np.empty(0, np.int64), second=np.empty(0, np.int64), share=np.empty(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Completions as arrays of shape (completions,), those of one prompt side by side, in the order of the prompts."""

    start: Ints
    """Where each prompt's completions begin, shape (prompts + 1,)."""
    score: Floats
    """Mean readable score, a grade or a share of comparisons won; NaN where there is none."""
    length: Ints
    """Characters."""
    words: Ints
    """Equal within a prompt where the texts are the same."""
    model: Ints
    """Number of the model in ``models``."""
    models: tuple[str, ...]
    side: Ints
    """1 and -1 for the better and the worse side of a contrast that a generator built; else 0."""
    contrast: Ints
    """Number of that contrast; completions of one contrast belong together."""
    contests: Contests = NOBODY
    compared: bool = False
    """Whether scores are shares of comparisons won."""
    temperature: float = 0.0
    """Scale of grades: a margin m makes a probability of sigmoid(m / temperature); at 0 every margin is certain."""
    index: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Number of each completion in the book that the matrix was made from."""

    @property
    def size(self) -> int:
        """Number of completions."""
        return len(self.score)

    @property
    def prompts(self) -> int:
        """Number of prompts."""
        return len(self.start) - 1

    @property
    def counts(self) -> Ints:
        """Completions of each prompt, shape (prompts,)."""
        return np.diff(self.start)

    @property
    def prompt(self) -> Ints:
        """The prompt of each completion."""
        return np.repeat(np.arange(self.prompts), self.counts)

    def only(self, wanted: Bools) -> Matrix:
        """The completions of a mask; every prompt stays, if need be without any."""
        number = np.cumsum(wanted) - 1
        contests = self.contests
        kept = wanted[contests.first] & wanted[contests.second] if len(contests.first) else np.empty(0, np.bool_)
        return replace(
            self,
            start=np.concatenate([[0], np.cumsum(np.bincount(self.prompt[wanted], minlength=self.prompts))]),
            score=self.score[wanted],
            length=self.length[wanted],
            words=self.words[wanted],
            model=self.model[wanted],
            side=self.side[wanted],
            contrast=self.contrast[wanted],
            index=self.index[wanted],
            contests=Contests(
                first=number[contests.first[kept]], second=number[contests.second[kept]], share=contests.share[kept]
            ),
        )

    def judged(self) -> Matrix:
        """The completions that have a score."""
        return self.only(~np.isnan(self.score))

    def adjusted(self, per_thousand: float) -> Matrix:
        """With ``per_thousand`` score points taken off for every 1000 characters: a price on length."""
        return replace(self, score=self.score - per_thousand * self.length / 1000) if per_thousand else self

    def ranked(self) -> Ints:
        """Completions by prompt, the best first; of equal scores the earlier one."""
        return np.lexsort((-self.score, self.prompt))

    def best(self) -> Ints:
        """The best completion of each prompt that has any."""
        return self.ranked()[self.start[:-1][self.counts > 0]]

    def worst(self) -> Ints:
        """The worst completion of each prompt that has any; of equal scores the earlier one."""
        return np.lexsort((self.score, self.prompt))[self.start[:-1][self.counts > 0]]

    def of_prompt(self, per_prompt: Floats | Ints) -> Floats:
        """A number of each prompt that has completions, spread over its completions."""
        return np.repeat(np.asarray(per_prompt, dtype=np.float64), self.counts[self.counts > 0])

    def draw(self, wanted: Bools, rng: np.random.Generator, most: int = 1) -> Ints:
        """Up to ``most`` random completions of each prompt, among those of the mask."""
        pool = np.flatnonzero(wanted)
        pool = pool[np.lexsort((rng.random(len(pool)), self.prompt[pool]))]
        return pool[place_in_group(self.prompt[pool]) < most]

    def pairs(self) -> tuple[Ints, Ints]:
        """Every two completions of a prompt, the better first (of equal scores the earlier); shape (pairs,) each.

        Raises UserError where they would not fit into memory.
        """
        counts = self.counts
        total = int((counts * (counts - 1) // 2).sum())
        if total > MOST_PAIRS:
            raise UserError(f"{total:,} pairs are more than {MOST_PAIRS:,}; use a rule that takes fewer a prompt")
        firsts, seconds = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for count in np.unique(counts[counts > 1]):
            i, j = np.triu_indices(int(count), 1)
            base = self.start[:-1][counts == count][:, None]
            firsts.append((base + i).ravel())
            seconds.append((base + j).ravel())
        first, second = np.concatenate(firsts), np.concatenate(seconds)
        swap = self.score[first] < self.score[second]
        return np.where(swap, second, first), np.where(swap, first, second)


def dice(seed: int) -> np.random.Generator:
    """The random numbers of a rule; salted, so that scores which somebody drew with the same seed are independent of it."""
    return np.random.default_rng([0x5E1EC7, seed])


def place_in_group(groups: Ints) -> Ints:
    """The place of each entry among its equals: 0, 1, 2, ...; equal entries must stand together."""
    if not len(groups):
        return np.empty(0, np.int64)
    begins = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    sizes = np.diff(np.append(begins, len(groups)))
    return np.arange(len(groups)) - np.repeat(begins, sizes)


def matched(first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Where the keys that both arrays hold stand in each; the keys of an array must all differ."""
    keys, at = np.unique(first, return_index=True)
    others, against = np.unique(second, return_index=True)
    return at[np.isin(keys, others, assume_unique=True)], against[np.isin(others, keys, assume_unique=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """Records and their matrix: what turns a rule's numbers back into records."""

    prompts: tuple[Prompt, ...]
    completions: tuple[Completion, ...]
    """By prompt, then by model, sample and id."""
    judgments: Mapping[str, Sequence[Judgment]]
    """Prompt to its judgments, by id."""
    matrix: Matrix


def tabulate(
    prompts: Iterable[Prompt],
    completions: Iterable[Completion],
    judgments: Iterable[Judgment],
    *,
    temperature: float = 0.0,
    length_penalty: float = 0.0,
) -> Book:
    """Put records into a matrix; failed completions and judgments stay out of it.

    ``temperature`` is the scale of grades, ``length_penalty`` the score points that 1000 characters cost.
    """
    kept = tuple(prompts)
    answers = _by_prompt(c for c in completions if c.error is None)
    verdicts = _by_prompt(judgments)
    flat: list[Completion] = []
    words: list[int] = []
    start = [0]
    for prompt in kept:
        mine = sorted(answers.get(prompt.id, ()), key=lambda c: (c.model, c.sample, c.id))
        codes: dict[str, int] = {}
        words += [codes.setdefault(c.text, len(codes)) for c in mine]
        flat += mine
        start.append(len(flat))
    number = {c.id: i for i, c in enumerate(flat)}
    models = tuple(sorted({c.model for c in flat}))
    code = {name: i for i, name in enumerate(models)}
    contrasts: dict[str, int] = {}
    score, contests = _scores(kept, verdicts, number)
    matrix = Matrix(
        start=np.array(start, dtype=np.int64),
        score=score,
        length=np.array([len(c.text) for c in flat], dtype=np.int64),
        words=np.array(words, dtype=np.int64),
        model=np.array([code[c.model] for c in flat], dtype=np.int64),
        models=models,
        side=np.array([SIDES.get(c.metadata.get("side", ""), 0) for c in flat], dtype=np.int64),
        contrast=np.array(
            [contrasts.setdefault(str(c.metadata.get("contrast", "")), len(contrasts)) for c in flat], dtype=np.int64
        ),
        contests=contests,
        compared=len(contests.first) > 0,
        temperature=temperature,
        index=np.arange(len(flat)),
    )
    ordered = {identity: sorted(group, key=lambda j: j.id) for identity, group in verdicts.items()}
    return Book(prompts=kept, completions=tuple(flat), judgments=ordered, matrix=matrix.adjusted(length_penalty))


def _scores(
    prompts: Sequence[Prompt], verdicts: Mapping[str, Sequence[Judgment]], number: Mapping[str, int]
) -> tuple[Floats, Contests]:
    """Mean score of each completion, and the comparisons behind it."""
    about: list[int] = []
    given: list[float] = []
    games: list[tuple[int, int, float]] = []
    for prompt in prompts:
        for judgment in verdicts.get(prompt.id, ()):
            known = [number.get(identity, -1) for identity in judgment.completion_ids]
            if not judgment.scores or -1 in known:
                continue
            about += known
            given += judgment.scores
            if len(known) == 2:
                a, b = known
                games.append((a, b, judgment.scores[0]) if a < b else (b, a, judgment.scores[1]))
    rows = np.array(about, dtype=np.int64)
    counts = np.bincount(rows, minlength=len(number)).astype(np.float64)
    sums = np.bincount(rows, weights=np.array(given, dtype=np.float64), minlength=len(number))
    score = np.full(len(number), np.nan)
    np.divide(sums, counts, out=score, where=counts > 0)
    return score, contests_of(games, len(number)) if games else NOBODY


def contests_of(games: Sequence[tuple[int, int, float]], size: int) -> Contests:
    """Games (first, second, share of first; first < second) with the repeats of each pair averaged."""
    first = np.array([g[0] for g in games], dtype=np.int64)
    second = np.array([g[1] for g in games], dtype=np.int64)
    keys, place, counts = np.unique(first * size + second, return_inverse=True, return_counts=True)
    sums = np.bincount(place, weights=np.array([g[2] for g in games]))
    return Contests(first=keys // size, second=keys % size, share=sums / counts)


def _by_prompt(records: Iterable[R]) -> dict[str, list[R]]:
    groups: dict[str, list[R]] = defaultdict(list)
    for record in records:
        groups[record.prompt_id].append(record)
    return groups
