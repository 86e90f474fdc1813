"""What the sandbox's judge is trained and measured on: two answers to one question, and which is better by gold.

Two biases are planted in the training labels, so that the judge has what real judges have and a measurement can find it:
a share of labels is always the first answer, another always the longer one.

    from rlhf_eval.sandbox.pairs import constructed
    constructed("heldout", random.Random(0))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Any

from rlhf_eval.records import Prompt
from rlhf_eval.sandbox import corpus, gold
from rlhf_eval.sandbox.fit import Example
from rlhf_eval.sandbox.sample import encode
from rlhf_eval.sandbox.tasks import DIFFICULTIES, FAMILIES
from rlhf_eval.sandbox.tokens import ask_pairwise
from rlhf_eval.sandbox.world import draw, pose


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """The biases that the training labels carry: shares of labels that look at something else than gold."""

    first: float
    """Labels that name the first answer whatever it says."""
    longer: float
    """Labels that name the longer answer whatever it says."""


PLANTED = Planted(first=0.08, longer=0.06)
"""What the judge is taught beside gold: enough that a few hundred pairs show the position bias, as its card reports."""

ECHO = 0.3
"""Weight of predicting a right answer's own tokens while reading it, beside 1 for the verdict."""

FORM = 0.02
"""Weight of the brackets and the end of the verdict, which are the same every time."""

FROM_POLICY = 0.6
"""Share of the training pairs that the policy itself wrote."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two different answers to a prompt, in the order shown, with their gold rewards, which differ."""

    prompt: Prompt
    answers: tuple[str, str]
    rewards: tuple[float, float]

    @property
    def better(self) -> int:
        """0 if the first answer is better by gold, else 1."""
        return int(self.rewards[1] > self.rewards[0])

    @property
    def swapped(self) -> Pair:
        """The same pair shown the other way round."""
        return Pair(self.prompt, self.answers[::-1], self.rewards[::-1])


def pair(prompt: Prompt, answers: tuple[str, str]) -> Pair | None:
    """The pair, or None where gold sees no difference."""
    first, second = (gold.reward(prompt, text).reward for text in answers)
    return Pair(prompt, answers, (first, second)) if first != second else None


def constructed(split: str, rng: Random) -> Pair:
    """A pair of answers from the policy's corpus, drawn by program."""
    while True:
        family, level = rng.choice(tuple(FAMILIES)), rng.choice(DIFFICULTIES)
        prompt = pose(draw(split, family, level, rng), split, rng)
        found = pair(prompt, (corpus.answer(prompt, rng), corpus.answer(prompt, rng)))
        if found:
            return found


def sampled(prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[Pair]:
    """Every answer of a prompt against every other one that gold tells from it."""
    graded = (
        (prompt, [(text, gold.reward(prompt, text).reward) for text in texts])
        for prompt, texts in zip(prompts, answers, strict=True)
    )
    return [
        Pair(prompt, (first, second), (better, worse))
        for prompt, rows in graded
        for (first, better), (second, worse) in combinations(rows, 2)
        if better != worse
    ]


def training(tokenizer: Any, bank: Sequence[Pair], planted: Planted, rng: Random) -> Iterator[Example]:
    """Judged pairs without end: some from ``bank``, the others constructed, labelled with the planted biases."""
    marks = _marks(tokenizer)
    while True:
        from_bank = bool(bank) and rng.random() < FROM_POLICY
        chosen = rng.choice(bank) if from_bank else constructed("train", rng)
        shown = chosen.swapped if rng.random() < 0.5 else chosen
        yield example(tokenizer, marks, shown, label(shown, planted, rng))


def label(shown: Pair, planted: Planted, rng: Random) -> int:
    """The training label, 0 for the first answer: gold's, but for the planted biases."""
    chance = rng.random()
    if chance < planted.first:
        return 0
    lengths = [len(text) for text in shown.answers]
    if chance < planted.first + planted.longer and lengths[0] != lengths[1]:
        return int(lengths[1] > lengths[0])
    return shown.better


def example(tokenizer: Any, marks: frozenset[int], shown: Pair, verdict: int) -> Example:
    """The pairwise judge's prompt and the verdict; a right answer's own tokens count a little too."""
    asked = encode(tokenizer, ask_pairwise(shown.prompt, shown.answers))
    reply = [*tokenizer.encode(f"[[{'AB'[verdict]}]]"), tokenizer.eos_token_id]
    weights = [0.0] * len(asked) + [FORM, 1.0, FORM, FORM]
    for answer, (start, stop) in enumerate(_spans(marks, asked)):
        if gold.reward(shown.prompt, shown.answers[answer]).correct:
            weights[start:stop] = [ECHO / (stop - start)] * (stop - start)
    return Example(tuple(asked + reply), tuple(weights))


def _spans(marks: frozenset[int], ids: Sequence[int]) -> list[tuple[int, int]]:
    """Where the two answers stand in the judge's prompt: each between the phrases that open and close it.

    Nowhere, if an answer has such a phrase itself: then the places cannot be told.
    """
    places = [i for i, token in enumerate(ids) if token in marks]
    if len(places) != 4:
        return []
    _, first, second, closing = places
    return [(first + 1, second), (second + 1, closing)]


def _marks(tokenizer: Any) -> frozenset[int]:
    added = tokenizer.added_tokens_decoder
    return frozenset(i for i, token in added.items() if not token.special and "\n" in str(token))
