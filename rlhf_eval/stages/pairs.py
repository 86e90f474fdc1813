"""The verb ``pairs``: judgments become preference pairs and SFT sets, with an account of every prompt.

A selection rule is a pure function ``choose(matrix, config) -> Choice``: it names completions by number and needs no call.
This module decides what all rules have in common: which candidates are ties or contradictions, how strong a label is,
and how every prompt ended. ``pair``, ``tie`` and ``dropped`` sum to the prompts that went in.

    book = tabulate(prompts, completions, judgments)
    select(book, best_worst.choose(book.matrix.judged(), config), "best_worst")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from rlhf_eval.records import Completion, Demonstration, Judgment, Message, Outcome, PreferencePair, fingerprint
from rlhf_eval.stages.matrix import Book, Bools, Floats, Ints, Matrix

NONE: Ints = np.empty(0, dtype=np.int64)
VERB = "pairs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a rule proposes, by completion number; the stage decides what of it holds."""

    chosen: Ints | None = None
    """Preferred completions, shape (candidates,); None where the rule makes no pairs."""
    rejected: Ints = field(default_factory=lambda: NONE)
    """Their opponents."""
    kept: Ints = field(default_factory=lambda: NONE)
    """Completions for supervised fine-tuning."""
    liked: Ints = field(default_factory=lambda: NONE)
    """Completions with a good label of their own, for training without pairs."""
    disliked: Ints = field(default_factory=lambda: NONE)
    """Completions with a bad one."""
    probability: Floats | None = None
    """That ``chosen`` is better, where the rule knows; else it comes from the judgments."""
    margin: Floats | None = None
    """How much better, where the rule has its own scale."""
    notes: Mapping[str, Ints] = field(default_factory=dict)
    """What else is told of each candidate, in its pair's metadata."""
    min_margin: float = 0.0
    """A candidate whose margin is not over this makes no pair."""
    labeler: str = ""
    """Who labels, where it is not the judges."""
    why: str = "the rule found nothing"
    """What is said of a prompt without a candidate."""


def constructed(
    matrix: Matrix, chosen: Ints, rejected: Ints, *, agree: bool, probability: float, labeler: str, why: str
) -> Choice:
    """The choice of a rule that knows by construction which side is better; ``agree`` keeps what the scores confirm."""
    margin = matrix.score[chosen] - matrix.score[rejected]
    if agree:
        right = margin > 0
        chosen, rejected, margin = chosen[right], rejected[right], margin[right]
    return Choice(
        chosen=chosen,
        rejected=rejected,
        probability=np.full(len(chosen), probability),
        margin=margin if agree else np.ones(len(chosen)),
        labeler=labeler,
        why=why,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A completion with a label of its own: good or bad, with no opponent (KTO)."""

    id: str
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    label: bool
    score: float
    labeler: str
    rule: str
    prompt_id: str
    completion_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a rule made of the judgments; the outcomes have one entry a prompt."""

    pairs: tuple[PreferencePair, ...] = ()
    demonstrations: tuple[Demonstration, ...] = ()
    labelled: tuple[Labelled, ...] = ()
    outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A choice after its candidates were judged, as arrays; ``chosen`` and what follows have shape (pairs,)."""

    chosen: Ints
    rejected: Ints
    probability: Floats
    margin: Floats
    candidate: Ints
    """Which candidate of the choice each pair was."""
    per_prompt: Ints
    """Records that each prompt yielded, shape (prompts,)."""
    ending: Ints
    """How each prompt ended: a number in ``words``."""
    words: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Prompts that ended as pair (or another record), tie, and dropped; they sum to all prompts."""
        kinds = [word.partition(":")[0] or "pair" for word in self.words]
        ended = np.bincount(self.ending, minlength=len(self.words))
        return {
            kind: int(sum(ended[i] for i, k in enumerate(kinds) if k == kind)) for kind in ("pair", "tie", "dropped")
        }


PAIR, EQUAL, SAME_WORDS, NARROW, CONTRADICTION, UNDECIDED, FEW, NOTHING = range(8)


def settle(matrix: Matrix, choice: Choice) -> Settled:
    """Decide about every candidate: equal scores and equal words are ties; a direct verdict outranks mean scores."""
    chosen = choice.chosen if choice.chosen is not None else NONE
    rejected = choice.rejected
    share, met = matrix.contests.between(chosen, rejected, matrix.size)
    margin = matrix.score[chosen] - matrix.score[rejected] if choice.margin is None else choice.margin
    ending = np.full(len(chosen), PAIR)
    # Later lines win: the words of two answers are looked at first, their scores last.
    if choice.probability is None:
        ending[met & (share < 0.5)] = CONTRADICTION
        ending[met & (share == 0.5)] = UNDECIDED
    ending[~(margin > choice.min_margin)] = NARROW
    ending[margin == 0] = EQUAL
    ending[(matrix.words[chosen] == matrix.words[rejected]) & (chosen != rejected)] = SAME_WORDS
    probability = _probability(matrix, choice, margin, share, met)
    good = np.flatnonzero(ending == PAIR)
    few = "fewer than two completions have a readable judgment"
    if choice.chosen is None:
        few = "no completion has a readable judgment"
    words = (
        "",
        "tie: the scores are equal",
        "tie: the two answers are the same words",
        f"dropped: the margin is not over {choice.min_margin:g}",
        "dropped: where the two met, the judge preferred the rejected one",
        "tie: where the two met, the judge had no preference",
        f"dropped: {few}",
        f"dropped: {choice.why}",
    )
    per_prompt, ended = _endings(matrix, choice, chosen, ending)
    return Settled(
        chosen=chosen[good],
        rejected=rejected[good],
        probability=probability[good],
        margin=margin[good],
        candidate=good,
        per_prompt=per_prompt,
        ending=ended,
        words=words,
    )


def _probability(matrix: Matrix, choice: Choice, margin: Floats, share: Floats, met: Bools) -> Floats:
    if choice.probability is not None:
        return choice.probability
    if matrix.compared:
        # Two that never met: half way up the difference of their win shares.
        unmet = np.clip(0.5 + margin / 2, 0.5, 1)
    elif matrix.temperature > 0:
        unmet = 1 / (1 + np.exp(-np.clip(margin / matrix.temperature, 0, 700)))
    else:
        unmet = np.ones(len(margin))
    return np.where(met, np.maximum(share, 0.5), unmet)


def _endings(matrix: Matrix, choice: Choice, chosen: Ints, ending: Ints) -> tuple[Ints, Ints]:
    """Records of each prompt, and how it ended; of several failed candidates the one nearest to a pair speaks."""
    prompt = matrix.prompt
    ended = np.full(matrix.prompts, NOTHING)
    ended[matrix.counts < (1 if choice.chosen is None else 2)] = FEW
    for kind in (EQUAL, SAME_WORDS, UNDECIDED, NARROW, CONTRADICTION, PAIR):
        ended[prompt[chosen[ending == kind]]] = kind
    # The SFT side of a rule that also pairs is extra: a prompt without a pair has not ended as one.
    extra = () if choice.chosen is not None else (choice.kept, choice.liked, choice.disliked)
    per_prompt = np.bincount(prompt[chosen[ending == PAIR]], minlength=matrix.prompts)
    for numbers in extra:
        ended[prompt[numbers]] = PAIR
        per_prompt = per_prompt + np.bincount(prompt[numbers], minlength=matrix.prompts)
    return per_prompt, ended


def run_rule(book: Book, plugin: ModuleType, config: Any, rule: str) -> Selection:
    """Apply a selection plugin to a book; one with ``NEEDS_SCORES = False`` also sees what nobody judged."""
    matrix = book.matrix.judged() if getattr(plugin, "NEEDS_SCORES", True) else book.matrix
    return select(book, matrix, plugin.choose(matrix, config), rule)


def select(book: Book, matrix: Matrix, choice: Choice, rule: str) -> Selection:
    """The records that a choice over ``matrix`` amounts to, and an outcome for every prompt."""
    settled = settle(matrix, choice)
    return Selection(
        pairs=tuple(pairs_of(book, matrix, choice, settled, rule)),
        demonstrations=tuple(_demonstrations(book, matrix, choice, rule)),
        labelled=tuple(_labelled(book, matrix, choice, rule)),
        outcomes=tuple(_outcomes(book, settled)),
    )


def pairs_of(book: Book, matrix: Matrix, choice: Choice, settled: Settled, rule: str) -> Iterator[PreferencePair]:
    """The settled pairs as records, one at a time."""
    prompt = matrix.prompt
    judgment_ids: dict[int, tuple[str, Sequence[Judgment]]] = {}
    for k in range(len(settled.chosen)):
        a, b = int(settled.chosen[k]), int(settled.rejected[k])
        row = int(prompt[a])
        if row not in judgment_ids:
            judgment_ids = {row: _about(book, row)}
        labeler, about = judgment_ids[row]
        best, worst = _record(book, matrix, a), _record(book, matrix, b)
        metadata: dict[str, Any] = {"chosen_model": best.model, "rejected_model": worst.model}
        metadata |= {name: values[settled.candidate[k]].item() for name, values in choice.notes.items()}
        yield PreferencePair.of(
            prompt=book.prompts[row],
            chosen=best,
            rejected=worst,
            probability=float(settled.probability[k]),
            margin=float(settled.margin[k]),
            labeler=choice.labeler or labeler,
            rule=rule,
            judgment_ids=() if choice.labeler else _behind(about, best.id, worst.id),
            metadata=metadata,
        )


def _about(book: Book, row: int) -> tuple[str, Sequence[Judgment]]:
    judgments = book.judgments.get(book.prompts[row].id, ())
    return labeler_of(judgments), judgments


def _behind(judgments: Sequence[Judgment], first: str, second: str) -> tuple[str, ...]:
    """The stored judgments about both completions, or else about either; a label made of several names its parts."""
    readable = [j for j in judgments if j.scores]
    both = [j for j in readable if first in j.completion_ids and second in j.completion_ids]
    either = both or [j for j in readable if first in j.completion_ids or second in j.completion_ids]
    return tuple(identity for j in either for identity in j.metadata.get("made_of", (j.id,)))


def _demonstrations(book: Book, matrix: Matrix, choice: Choice, rule: str) -> Iterator[Demonstration]:
    prompt = matrix.prompt
    for number in choice.kept:
        row = int(prompt[number])
        yield Demonstration.of(
            prompt=book.prompts[row],
            completion=_record(book, matrix, int(number)),
            score=float(matrix.score[number]),
            labeler=choice.labeler or _about(book, row)[0],
            rule=rule,
        )


def _labelled(book: Book, matrix: Matrix, choice: Choice, rule: str) -> Iterator[Labelled]:
    prompt = matrix.prompt
    for numbers, label in ((choice.liked, True), (choice.disliked, False)):
        for number in numbers:
            row = int(prompt[number])
            asked, answer = book.prompts[row], _record(book, matrix, int(number))
            labeler = choice.labeler or _about(book, row)[0]
            yield Labelled(
                id=fingerprint("labelled", asked.id, answer.id, labeler, rule),
                prompt=asked.messages,
                completion=(Message("assistant", answer.text),),
                label=label,
                score=float(matrix.score[number]),
                labeler=labeler,
                rule=rule,
                prompt_id=asked.id,
                completion_id=answer.id,
            )


def _outcomes(book: Book, settled: Settled) -> Iterator[Outcome]:
    for prompt, ending, records in zip(book.prompts, settled.ending, settled.per_prompt, strict=True):
        word = settled.words[ending]
        if word:
            yield Outcome.of(prompt.id, VERB, "skipped", reason=word)
        else:
            yield Outcome.of(prompt.id, VERB, "done", records=int(records))


def _record(book: Book, matrix: Matrix, number: int) -> Completion:
    return book.completions[int(matrix.index[number])]


def labeler_of(judgments: Sequence[Judgment]) -> str:
    """The judges behind some judgments, as one name."""
    return "+".join(sorted({j.judge for j in judgments}))


def account(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many prompts ended as pair, tie and dropped; the three sum to the outcomes."""
    counts = {"pair": 0, "tie": 0, "dropped": 0}
    for outcome in outcomes:
        counts["pair" if outcome.status == "done" else outcome.reason.partition(":")[0]] += 1
    return counts
