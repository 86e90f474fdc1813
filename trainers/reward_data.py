"""Pairs, labelled answers and worked solutions as the batches of a reward model.

All pairs of a prompt stand in one example, each answer once, so that K ranked answers pass the model K times and not
K (K - 1) (InstructGPT, arXiv 2203.02155, section 3.5); each pair then weighs one over their number.

    examples, account = encode_contests(pairs, tokens, limit, by_prompt=True)
    batch = collate_graded(examples, Layout(), pad=tokens.pad, heads_of=lambda contest: (1.0,))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rlhf_eval.errors import UserError
from rlhf_eval.records import Message, PreferencePair, fingerprint
from rlhf_eval.stages.pairs import Labelled
from rlhf_eval.stages.training import Stepwise
from trainers.batch import Layout, collate
from trainers.data import Account, Example, Ids, Limit, Tokenized, Turns, encode, text_of


@dataclass(frozen=True, slots=True)
class Contest:
    """Two answers of an example, by place, and what a labeler thinks of them."""

    first: int
    second: int
    probability: float
    """That the first is better."""
    margin: float
    labeler: str
    id: str


HeadsOf = Callable[[Contest], Sequence[float]]
"""The weight of a pair for each head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded(Example):
    """An example for a reward model; ``masks`` say at which tokens of its answers a reward is wanted."""

    contests: tuple[Contest, ...] = ()
    """The pairs among its answers."""
    steps: tuple[float, ...] = ()
    """Labels of the steps of its one answer, 1 for a right one."""


def encode_contests(
    pairs: Iterable[PreferencePair], tokens: Tokenized, limit: Limit, *, by_prompt: bool
) -> tuple[list[Graded], Account]:
    """Pairs as examples, those of a prompt in one if ``by_prompt``; raises UserError where none is left."""
    account = Account()

    def one(good: Sequence[PreferencePair]) -> Graded:
        texts = list(dict.fromkeys(side for pair in good for side in (pair.chosen, pair.rejected)))
        prompt, answers, stable = tokens.split(good[0].prompt, texts)
        account.unstable += not stable
        place = {text: number for number, text in enumerate(texts)}
        return Graded(
            id=good[0].id,
            prompt=prompt,
            answers=answers,
            masks=tuple(last_only(answer) for answer in answers),
            contests=tuple(
                Contest(place[p.chosen], place[p.rejected], p.probability, p.margin, p.labeler, p.id) for p in good
            ),
        )

    groups: dict[Any, list[PreferencePair]] = {}
    for pair in pairs:
        if _sound(pair, account):
            groups.setdefault(pair.prompt if by_prompt else pair.id, []).append(pair)
    return encode(groups.values(), one, limit, account, tokens), account


def encode_outcomes(
    rows: Iterable[Labelled], tokens: Tokenized, limit: Limit, *, every_token: bool
) -> tuple[list[Graded], Account]:
    """Answers labelled right or wrong as examples of one answer; raises UserError where none is left."""
    account = Account()

    def one(row: Labelled) -> Graded | str:
        if not text_of(row.completion):
            return "the answer is empty"
        prompt, answers, stable = tokens.split(row.prompt, (row.completion,))
        account.unstable += not stable
        mask = (True,) * len(answers[0]) if every_token else last_only(answers[0])
        return Graded(id=row.id, prompt=prompt, answers=answers, masks=(mask,), label=row.label)

    return encode(rows, one, limit, account, tokens), account


def encode_steps(
    rows: Iterable[Stepwise], tokens: Tokenized, limit: Limit, *, separator: str
) -> tuple[list[Graded], Account]:
    """Worked solutions as examples of one answer, rewarded at the separator after each step and at the end of the turn."""
    account = Account()

    def one(row: Stepwise) -> Graded | str:
        if not row.steps or not all(step.strip() for step in row.steps):
            return "a step is empty"
        prompt, (answer,), stable = tokens.split(row.prompt, (_said(row.steps, separator),))
        account.unstable += not stable
        ends = _step_ends(row, separator, tokens, prompt, answer)
        if ends != sorted(set(ends)) or ends[0] < 0:
            return "its steps share a token, so that they cannot be told apart"
        mask = tuple(i in set(ends) for i in range(len(answer)))
        return Graded(id=row.id, prompt=prompt, answers=(answer,), masks=(mask,), steps=row.labels)

    return encode(rows, one, limit, account, tokens), account


def collate_graded(
    examples: Sequence[Graded], layout: Layout, *, pad: int, heads_of: HeadsOf, rank: bool = False
) -> dict[str, Any]:
    """What ``collate`` makes of the examples, and ``targets_of``; ``at`` (N,) is now where a reward is wanted itself."""
    batch = collate(examples, layout, pad=pad)
    lengths = [len(answer) for example in examples for answer in example.answers]
    masks = [mask for example in examples for mask in example.masks]
    places = [
        end - length + 1 + place
        for end, length, mask in zip(batch["ends"].tolist(), lengths, masks, strict=True)
        for place, counts in enumerate(mask)
        if counts
    ]
    return batch | targets_of(examples, heads_of, rank=rank) | {"at": torch.tensor(places)}


def targets_of(examples: Sequence[Graded], heads_of: HeadsOf, *, rank: bool = False) -> dict[str, Any]:
    """What the loss of N rewards of A answers and P pairs reads beside them.

    ``answer`` (N,), whose reward each is; ``label`` (A,); ``step`` (N,) or (0,); ``winner``, ``loser``, ``probability``,
    ``margin`` (P,); ``share`` (P, heads), the weight of a pair in its example times that for each head; with ``rank`` also
    ``ranking`` (E, K), answers from best to worst, filled with -1.
    """
    masks = [mask for example in examples for mask in example.masks]
    contests, first, starts = [], 0, []
    for example in examples:
        contests += [(c, first, 1 / len(example.contests)) for c in example.contests]
        starts.append(first)
        first += len(example.answers)
    found: dict[str, Any] = {
        "answer": torch.tensor([number for number, mask in enumerate(masks) for _ in range(sum(mask))]),
        "label": torch.tensor([float(example.label) for example in examples for _ in example.answers]),
        "step": torch.tensor([label for example in examples for label in example.steps]),
        "winner": torch.tensor([start + c.first for c, start, _ in contests], dtype=torch.long),
        "loser": torch.tensor([start + c.second for c, start, _ in contests], dtype=torch.long),
        "probability": torch.tensor([c.probability for c, _, _ in contests]),
        "margin": torch.tensor([c.margin for c, _, _ in contests]),
        "share": torch.tensor([[weight * head for head in heads_of(c)] for c, _, weight in contests]),
        "id": [example.id for example in examples],
        "examples": len(examples),
    }
    if rank:
        orders = [[start + place for place in ranked(example)] for example, start in zip(examples, starts, strict=True)]
        width = max(map(len, orders))
        found["ranking"] = torch.tensor([order + [-1] * (width - len(order)) for order in orders])
    return found


def ranked(example: Graded) -> list[int]:
    """The one order of the answers that all pairs agree with, best first; raises UserError where there is not just one."""
    better: dict[int, set[int]] = {place: set() for place in range(len(example.answers))}
    for contest in example.contests:
        better[contest.second].add(contest.first)
    order: list[int] = []
    while better:
        free = [place for place, above in better.items() if not above - set(order)]
        if len(free) != 1:
            raise UserError(
                f"the pairs of example {example.id} give no complete ranking of its {len(example.answers)} answers; make "
                "them with: rlhf-eval pairs --rule ranking, or train with objective=bradley_terry"
            )
        order.append(free[0])
        del better[free[0]]
    return order


def bootstrapped(contest: Contest, heads: int, seed: int) -> tuple[float, ...]:
    """A pair's weight for each head: Poisson draws of mean 1 that depend on nothing but the pair and the seed.

    An online bootstrap (Oza and Russell 2001): every head of an ensemble sees its own sample of the pairs.
    """
    rng = np.random.default_rng(int(fingerprint("bootstrap", seed, contest.id)[:15], 16))
    return tuple(rng.poisson(1.0, heads).astype(float).tolist())


def last_only(answer: Ids) -> tuple[bool, ...]:
    """A mask of an answer's last token alone."""
    return (False,) * (len(answer) - 1) + (True,)


def _sound(pair: PreferencePair, account: Account) -> bool:
    reason = ""
    if pair.chosen == pair.rejected:
        reason = "chosen equals rejected"
    elif not text_of(pair.chosen) or not text_of(pair.rejected):
        reason = "an answer is empty"
    if reason:
        account.left_out[reason] = account.left_out.get(reason, 0) + 1
    return not reason


def _said(steps: Sequence[str], separator: str) -> Turns:
    return (Message("assistant", separator.join(steps)),)


def _step_ends(row: Stepwise, separator: str, tokens: Tokenized, prompt: Ids, answer: Ids) -> list[int]:
    """The last token of each step in the answer: where a solution that stops there parts from the whole one."""
    whole = (*prompt, *answer)
    ends = []
    for count in range(1, len(row.steps)):
        part = tokens.render((*row.prompt, *_said((*row.steps[:count], ""), separator)), answer=False)
        same = next(
            (i for i, (a, b) in enumerate(zip(whole, part, strict=False)) if a != b), min(len(whole), len(part))
        )
        ends.append(same - 1 - len(prompt))
    return [*ends, len(answer) - 1]
