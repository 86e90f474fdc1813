"""Examples to tensors: several answers behind one shared prompt, several examples in one row, padding at the right.

A pair costs prompt + chosen + rejected tokens instead of twice the prompt: both answers stand behind one copy of it, their
positions start where the prompt ends, and segments of attention, or a mask, keep them from seeing each other (prefix
sharing: Wang and Hegde, arXiv 2410.20305). Examples share a row in the same way. The layout changes no number:
``tests/trainers/test_batch.py``.

    batch = collate(examples, Layout(flat=True), pad=0)
    model(**model_inputs(batch))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.attention import NO_MASK, Span, segments
from trainers.data import Example

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids", "segments", "at", "targets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How examples are laid out in rows."""

    share: bool = True
    """Keep one copy of a prompt for all of its answers."""
    pack: int = 0
    """Fill rows with several examples up to so many tokens; 0 gives each its own row."""
    flat: bool = False
    """Put all examples into one row, without padding and without a mask; for models that attend as in ``attention.py``."""
    additive: bool = False
    """Write block masks as numbers to add, which eager attention needs, instead of booleans."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A prompt with the answers that share it, as it will lie in a row."""

    example: Example
    answers: tuple[int, ...]
    """Which of the example's answers."""
    first: int
    """Number of the first of them, over the batch."""

    def __len__(self) -> int:
        """Tokens in the row."""
        return len(self.example.prompt) + sum(len(self.example.answers[a]) for a in self.answers)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an answer lies."""

    example: Example
    number: int
    begin: int
    """Flat position of its first token."""
    before: int | None
    """Flat position of the prompt's last token; None without a prompt."""

    @property
    def tokens(self) -> Sequence[int]:
        return self.example.answers[self.number]

    def scored(self) -> tuple[Tensor, Tensor]:
        """Flat positions before the scored tokens, and these tokens; the first token of all has none before it."""
        targets = torch.tensor(self.tokens)
        at = torch.arange(self.begin - 1, self.begin + len(targets) - 1)
        at[:1] = -1 if self.before is None else self.before
        wanted = at >= 0
        if self.example.masks:
            wanted &= torch.tensor(self.example.masks[self.number])
        return at[wanted], targets[wanted]


def collate(examples: Sequence[Example], layout: Layout, *, pad: int) -> dict[str, Any]:
    """The tensors of a batch of E examples with A answers and N scored tokens in R rows of T tokens.

    ``input_ids``, ``position_ids`` (R, T); ``attention_mask`` (R, T), or (R, 1, T, T) where a row holds several sequences,
    or none of these beside ``segments`` where the layout is flat; ``at`` (N,) flat position before each scored token;
    ``targets`` (N,); ``answer`` (N,) the answer it belongs to; ``ends`` (A,) flat position of each answer's last token;
    ``example`` (A,) whose answer it is; ``probability``, ``margin``, ``label`` (E,); ``reference`` (A,) where it is known;
    ``id``, the examples' names; ``tokens``, how many they have without padding.
    """
    pieces = _pieces(examples, layout)
    rows = [pieces] if layout.flat else _rows(pieces, layout.pack)
    width = max(sum(map(len, row)) for row in rows)
    ids = torch.full((len(rows), width), pad)
    positions = torch.zeros((len(rows), width), dtype=torch.long)
    owner = torch.full((len(rows), width), -1)
    branch = torch.zeros((len(rows), width), dtype=torch.long)
    places: dict[int, _Place] = {}
    spans: list[Span] = []
    number = 0
    for r, row in enumerate(rows):
        column = 0
        for piece in row:
            prompt, start, first = piece.example.prompt, column, True
            column = _write(ids[r], positions[r], prompt, column, 0)
            for k, a in enumerate(piece.answers):
                begin = column
                column = _write(ids[r], positions[r], piece.example.answers[a], column, len(prompt))
                branch[r, begin:column] = k + 1
                last = r * width + start + len(prompt) - 1 if prompt else None
                places[piece.first + k] = _Place(piece.example, a, r * width + begin, last)
                spans.append(Span(start, column) if first else Span(begin, column, (start, start + len(prompt))))
                first = False
            owner[r, start:column] = number
            number += 1
    # In the order of the answers, not of the rows, so that sums are the same in every layout.
    every = [places[answer] for answer in range(len(places))]
    scored = [place.scored() for place in every]
    counts = torch.tensor([len(at) for at, _ in scored])
    single = all(len(row) == 1 and len(row[0].answers) == 1 for row in rows)
    batch: dict[str, Any] = {
        "input_ids": ids,
        "position_ids": positions,
        "at": torch.cat([at for at, _ in scored]),
        "targets": torch.cat([targets for _, targets in scored]),
        "answer": torch.arange(len(every)).repeat_interleave(counts),
        "ends": torch.tensor([place.begin + len(place.tokens) - 1 for place in every]),
        "example": torch.tensor([e for e, example in enumerate(examples) for _ in example.answers]),
        "probability": torch.tensor([example.probability for example in examples]),
        "margin": torch.tensor([example.margin for example in examples]),
        "label": torch.tensor([example.label for example in examples]),
        "id": [example.id for example in examples],
        "tokens": sum(len(e.prompt) * len(e.answers) + sum(map(len, e.answers)) for e in examples),
    }
    if examples[0].reference:
        batch["reference"] = torch.tensor([value for example in examples for value in example.reference])
    if layout.flat:
        return batch | {"attention_mask": NO_MASK, "segments": segments(spans)}
    mask = (owner >= 0).long() if single else _block_mask(owner, branch, additive=layout.additive)
    return batch | {"attention_mask": mask}


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a batch that the model's forward takes."""
    return {name: batch[name] for name in MODEL_INPUTS if name in batch}


def per_answer(values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Sums of (N,) token values over each answer, (A,)."""
    return values.new_zeros(len(batch["ends"])).index_add(0, batch["answer"], values)


def lengths(batch: Mapping[str, Tensor]) -> Tensor:
    """Scored tokens of each answer, (A,), as numbers to divide by."""
    ones = torch.ones_like(batch["answer"])
    return torch.zeros_like(batch["ends"]).index_add(0, batch["answer"], ones).clamp(min=1)


def _pieces(examples: Sequence[Example], layout: Layout) -> list[Piece]:
    pieces, first = [], 0
    for example in examples:
        every = tuple(range(len(example.answers)))
        groups = [every] if layout.share else [(a,) for a in every]
        for group in groups:
            pieces.append(Piece(example, group, first))
            first += len(group)
    return pieces


def _rows(pieces: Sequence[Piece], pack: int) -> list[list[Piece]]:
    """One piece a row, or first fit by falling length into rows of ``pack`` tokens."""
    if not pack:
        return [[piece] for piece in pieces]
    rows: list[list[Piece]] = []
    used: list[int] = []
    room = max(pack, *map(len, pieces))
    for piece in sorted(pieces, key=len, reverse=True):
        fits = next((r for r, taken in enumerate(used) if taken + len(piece) <= room), None)
        if fits is None:
            rows.append([piece])
            used.append(len(piece))
        else:
            rows[fits].append(piece)
            used[fits] += len(piece)
    return rows


def _write(ids: Tensor, positions: Tensor, tokens: Sequence[int], column: int, position: int) -> int:
    end = column + len(tokens)
    ids[column:end] = torch.tensor(tokens, dtype=torch.long)
    positions[column:end] = torch.arange(position, position + len(tokens))
    return end


def _block_mask(owner: Tensor, branch: Tensor, *, additive: bool) -> Tensor:
    """(R, 1, T, T): a token sees its own piece's prompt and its own answer, up to itself; padding sees itself alone."""
    width = owner.shape[1]
    same = (owner[:, :, None] == owner[:, None, :]) & (owner >= 0)[:, None, :]
    visible = same & ((branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :]))
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    seen = ((visible & causal) | torch.eye(width, dtype=torch.bool))[:, None]
    if not additive:
        return seen
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
