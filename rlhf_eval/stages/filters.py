"""Filters: what is taken out before a rule selects, each prompt that falls with its reason.

Off unless asked for, and pure: a filter names what it removes and touches no record. Prompt filters are duplicates (exact,
or near by MinHash LSH), contamination by benchmark prompts (8-gram rule of Tulu 3, arXiv 2411.15124, section 3.2),
language, difficulty (pass rate) and likeness to each other (embeddings); completion filters are copies, refusals,
truncation and any scorer of yours, such as toxicity.

    kept = apply(prompts, completions, judgments, Filters(duplicates="near", refusals=True))
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, Prompt
from rlhf_eval.stages.matrix import Bools, Floats, Ints
from rlhf_eval.stages.texts import exact_duplicates, language_of, near_duplicates, refuses, truncated, words_of

Scorer = Callable[[Sequence[str]], Sequence[float]]
"""Texts to one number each, such as a toxicity model's probabilities."""
Embedder = Callable[[Sequence[str]], Floats]
"""Texts to one vector each, shape (texts, width)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What is taken out before the rule selects; everything is off by default."""

    duplicates: Literal["off", "exact", "near"] = "off"
    """Keep the first of prompts that are the same, or nearly so, in their words."""
    similarity: float = 0.8
    """Share of 3-word runs in common from which two prompts are near duplicates."""
    language: str = ""
    """Keep prompts and answers in this language: en, de, es, fr, it, pt, nl, pl, or a script such as cyrillic."""
    copies: bool = False
    """Take out answers that repeat an earlier one of their prompt word for word."""
    refusals: bool = False
    """Take out answers that open by declining."""
    truncation: bool = False
    """Take out answers that stop in the middle."""
    longest: int = 0
    """Longest answer in characters; 0 for any."""
    pass_mark: float | None = None
    """Score from which an answer solves its prompt; with it, prompts are kept by their pass rate."""
    easiest: float = 0.8
    """Highest pass rate of a prompt that is kept."""
    hardest: float = 0.2
    """Lowest pass rate of a prompt that is kept."""
    scorer: str = ""
    """A module of yours with ``score(texts)``, such as a toxicity model; its numbers take answers out."""
    worst: float = 0.5
    """Score from which an answer falls."""
    embedder: str = ""
    """hf:PATH, or a module of yours with ``embed(texts)``: the prompts that are most unlike each other are kept."""
    most: int = 0
    """How many prompts are kept so."""

    def __post_init__(self) -> None:
        if not 0 < self.similarity <= 1:
            raise ValueError(f"similarity is {self.similarity}; it must lie in (0, 1]")
        if not 0 <= self.hardest <= self.easiest <= 1:
            raise ValueError(f"pass rates from {self.hardest} to {self.easiest}; write 0 <= hardest <= easiest <= 1")
        if bool(self.embedder) != (self.most > 0):
            raise ValueError("embedder and most belong together: what measures likeness, and how many prompts are kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """What is left, and why the rest is not."""

    prompts: list[Prompt]
    completions: list[Completion]
    dropped: dict[str, str]
    """Prompt id to the reason for which it fell."""
    removed: dict[str, int]
    """Reason to how many single answers fell."""


def apply(
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    judgments: Sequence[Judgment],
    filters: Filters,
    *,
    against: Sequence[str] = (),
    score: Scorer | None = None,
    embed: Embedder | None = None,
    seed: int = 0,
) -> Filtered:
    """Run every filter that is switched on; ``against`` are the benchmark prompts that no prompt may contain.

    ``score`` and ``embed`` are what ``filters`` names. A prompt falls by the first filter that catches it, in the order of
    the module's list; likeness is looked at last, among those that are left.
    """
    dropped: dict[str, str] = {}
    texts = [prompt.text for prompt in prompts]
    for reason, caught in (
        ("duplicate of an earlier prompt", _repeats(texts, filters)),
        ("contains a benchmark prompt", contaminated(texts, against) if against else None),
        (f"not in the language '{filters.language}'", _foreign(texts, filters.language)),
        (f"pass rate not within {filters.hardest:g} to {filters.easiest:g}", _solved(prompts, judgments, filters)),
    ):
        for prompt, hit in zip(prompts, caught if caught is not None else (), strict=caught is not None):
            if hit:
                dropped.setdefault(prompt.id, reason)
    if embed is not None:
        dropped |= _alike([p for p in prompts if p.id not in dropped], filters.most, embed, seed)
    left = [c for c in completions if c.prompt_id not in dropped]
    kept, removed = _answers(left, filters, score)
    return Filtered(
        prompts=[p for p in prompts if p.id not in dropped], completions=kept, dropped=dropped, removed=removed
    )


def _alike(prompts: Sequence[Prompt], most: int, embed: Embedder, seed: int) -> dict[str, str]:
    """The prompts that are too much like others to be among the ``most`` that lie farthest from each other."""
    if len(prompts) <= most:
        return {}
    kept = set(spread(embed([prompt.text for prompt in prompts]), most, seed=seed).tolist())
    return {
        prompt.id: f"not among the {most} most different prompts" for i, prompt in enumerate(prompts) if i not in kept
    }


def _repeats(texts: Sequence[str], filters: Filters) -> Bools | None:
    if filters.duplicates == "off" or not texts:
        return None
    exact = filters.duplicates == "exact"
    first = exact_duplicates(texts) if exact else near_duplicates(texts, threshold=filters.similarity)
    repeated: Bools = first != np.arange(len(texts))
    return repeated


def _foreign(texts: Sequence[str], language: str) -> list[bool] | None:
    """Texts in another language; one whose language cannot be told is not foreign."""
    return [language_of(text) not in ("", language) for text in texts] if language else None


def _solved(prompts: Sequence[Prompt], judgments: Sequence[Judgment], filters: Filters) -> list[bool] | None:
    """Prompts that are too easy, too hard, or of which nobody knows."""
    if filters.pass_mark is None:
        return None
    rates = pass_rates(judgments, filters.pass_mark)
    return [not filters.hardest <= rates.get(prompt.id, -1.0) <= filters.easiest for prompt in prompts]


def _answers(
    completions: Sequence[Completion], filters: Filters, score: Scorer | None
) -> tuple[list[Completion], dict[str, int]]:
    scores = score([c.text for c in completions]) if score else [-math.inf] * len(completions)
    kept: list[Completion] = []
    removed: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for completion, points in zip(completions, scores, strict=True):
        reason = _fault(completion, filters) or (
            f"{filters.scorer or 'score'} too high" if points >= filters.worst else ""
        )
        words = (completion.prompt_id, completion.text)
        if filters.copies and not reason:
            reason = "copy" if words in seen else ""
            seen.add(words)
        if reason:
            removed[reason] += 1
        else:
            kept.append(completion)
    return kept, dict(removed)


def _fault(completion: Completion, filters: Filters) -> str:
    if filters.refusals and refuses(completion.text):
        return "refusal"
    if filters.truncation and (completion.finish_reason == "length" or truncated(completion.text)):
        return "truncated"
    if filters.longest and len(completion.text) > filters.longest:
        return "too long"
    if filters.language and language_of(completion.text) not in ("", filters.language):
        return "other language"
    return ""


def pass_rates(judgments: Iterable[Judgment], pass_mark: float) -> dict[str, float]:
    """Prompt id to the share of its graded answers that reach the mark; repeats of an answer are averaged first."""
    grades: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for judgment in judgments:
        if len(judgment.scores) == 1:
            grades[judgment.prompt_id][judgment.completion_ids[0]].append(judgment.scores[0])
    return {
        prompt: float(np.mean([np.mean(scores) >= pass_mark for scores in answers.values()]))
        for prompt, answers in grades.items()
    }


def contaminated(documents: Sequence[str], tests: Sequence[str], *, n: int = 8, threshold: float = 0.5) -> Bools:
    """Which documents hold more than ``threshold`` of the words of some test prompt in shared n-grams.

    A test prompt of fewer than n words must be the whole document. Shape (documents,). Source: Tulu 3 (arXiv 2411.15124),
    section 3.2.
    """
    return overlap_with(documents, tests, n=n)[0] > threshold


def overlap_with(documents: Sequence[str], tests: Sequence[str], *, n: int = 8) -> tuple[Floats, Ints]:
    """For each document the largest share of a test prompt that it holds, and which prompt that is (-1 for none)."""
    if n < 1:
        raise UserError(f"n is {n}; an n-gram has at least one word")
    tokens = [words_of(test) for test in tests]
    short: dict[tuple[str, ...], int] = {}
    places: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for number, test in enumerate(tokens):
        if len(test) < n:
            short.setdefault(tuple(test), number)
        for i in range(len(test) - n + 1):
            places[tuple(test[i : i + n])].append((number, i))
    share, which = np.zeros(len(documents)), np.full(len(documents), -1)
    for row, document in enumerate(documents):
        words = words_of(document)
        whole = short.get(tuple(words)) if 0 < len(words) < n else None
        covered: dict[int, set[int]] = defaultdict(set)
        for gram in {tuple(words[i : i + n]) for i in range(len(words) - n + 1)} & places.keys():
            for number, i in places[gram]:
                covered[number].update(range(i, i + n))
        if whole is not None:
            share[row], which[row] = 1.0, whole
        elif covered:
            found = {number: len(held) / len(tokens[number]) for number, held in covered.items()}
            which[row] = min(found, key=lambda number: (-found[number], number))
            share[row] = found[int(which[row])]
    return share, which


def spread(embeddings: Floats, k: int, *, seed: int = 0) -> Ints:
    """``k`` rows that lie far from each other: greedy farthest points by cosine distance; shape (k,), in order of choice.

    The first is drawn by the seed. ``embeddings`` has shape (rows, dimensions). Source: Gonzalez (1985).
    """
    x = np.asarray(embeddings, dtype=np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if x.ndim != 2 or not 0 < k <= len(x) or (norms == 0).any():
        raise UserError(f"spread takes k = {k} of the rows of an array of shape {x.shape}, none of them zero")
    unit = x / norms
    chosen = [int(np.random.default_rng(seed).integers(len(x)))]
    distance = 1 - unit @ unit[chosen[0]]
    while len(chosen) < k:
        distance[chosen[-1]] = -np.inf
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, 1 - unit @ unit[chosen[-1]])
        distance[chosen] = -np.inf
    return np.array(chosen, dtype=np.int64)
