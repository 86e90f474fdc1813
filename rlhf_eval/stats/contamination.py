"""Test prompts that lie in the training data, by shared n-grams of tokens, with no search server.

A prompt's score against one document is the share of its tokens that lie in some n-gram which both have; above one half
the prompt counts as contaminated, and a set with more than 2% such prompts is flagged. Every occurrence of a repeated
n-gram counts, and a prompt shorter than n is compared whole. Paraphrases pass unseen.

Source: Lambert et al., "Tulu 3" (arXiv 2411.15124), section 3.2.

    from rlhf_eval.stats.contamination import NgramIndex, contamination
    contamination(test_prompts, NgramIndex(training_prompts)).flagged
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Bools
from rlhf_eval.stats.intervals import Interval, wilson

Tokens = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """The training document that covers most of a prompt."""

    score: float
    """Share of the prompt's tokens in shared n-grams."""
    document: int | None
    """Its place among the documents; None where nothing is shared."""


class NgramIndex:
    """Which training documents hold which n-grams, for any number of look-ups."""

    def __init__(self, documents: Iterable[Tokens], *, n: int = 8) -> None:
        """Index ``documents``, each a sequence of tokens. Raises UserError for n below 1."""
        if n < 1:
            raise UserError(f"n is {n}; an n-gram has at least one token")
        self.n = n
        self._token_ids: dict[str, int] = {}
        self._holders: dict[tuple[int, ...], list[int]] = {}
        self._whole: dict[tuple[int, ...], int] = {}
        for document, tokens in enumerate(documents):
            ids = tuple(self._token_ids.setdefault(t, len(self._token_ids)) for t in tokens)
            if len(ids) < n:
                self._whole.setdefault(ids, document)
            for gram in {ids[i : i + n] for i in range(len(ids) - n + 1)}:
                self._holders.setdefault(gram, []).append(document)

    def overlap(self, tokens: Tokens) -> Overlap:
        """How much of ``tokens`` the most similar document covers; the first such document where several do."""
        ids = tuple(self._token_ids.get(t, -1) for t in tokens)
        if len(ids) < self.n:
            document = self._whole.get(ids)
            return Overlap(score=0.0 if document is None else 1.0, document=document)
        covered: dict[int, Bools] = {}
        for i in range(len(ids) - self.n + 1):
            for document in self._holders.get(ids[i : i + self.n], ()):
                covered.setdefault(document, np.zeros(len(ids), dtype=np.bool_))[i : i + self.n] = True
        if not covered:
            return Overlap(score=0.0, document=None)
        best = min(covered, key=lambda document: (-covered[document].sum(), document))
        return Overlap(score=float(covered[best].mean()), document=best)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """How much of a test set lies in the training data."""

    overlaps: tuple[Overlap, ...]
    share: Interval
    """Share of contaminated prompts."""
    flagged: bool
    n: int
    threshold: float
    flag_above: float


def contamination(
    prompts: Sequence[Tokens], index: NgramIndex, *, threshold: float = 0.5, flag_above: float = 0.02
) -> Contamination:
    """Score every test prompt against the index; flagged when more than ``flag_above`` of them exceed ``threshold``."""
    overlaps = tuple(index.overlap(tokens) for tokens in prompts)
    share = wilson([o.score > threshold for o in overlaps])
    return Contamination(
        overlaps=overlaps,
        share=share,
        flagged=share.value > flag_above,
        n=index.n,
        threshold=threshold,
        flag_above=flag_above,
    )
