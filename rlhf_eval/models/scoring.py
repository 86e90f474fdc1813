"""Rewards in micro-batches: conversations of like length together, padded on the right.

scorer = Scorer(model, batch_size=32, budget=8192)
scorer.add([Scoring(prompt=[5, 6, 7])]); scorer.step()
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch

from rlhf_eval.errors import RequestFailed
from rlhf_eval.models.worker import settle

PASS = 8192
"""Most padded tokens in one pass, which bounds the memory of activations."""


@dataclass(slots=True, kw_only=True)
class Scoring:
    """One conversation that awaits its reward."""

    prompt: list[int]
    future: Future[float] = field(default_factory=Future)


class Scorer:
    """Micro-batches for a sequence classifier, padded on the right, of like length."""

    def __init__(self, model: Any, *, batch_size: int, budget: int) -> None:
        self._model, self._batch_size, self._budget = model, batch_size, budget
        self._waiting: list[Scoring] = []

    @property
    def busy(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def add(self, tasks: Sequence[Scoring]) -> None:
        """Queue conversations."""
        self._waiting.extend(tasks)

    def fail(self, error: Exception) -> None:
        """Give up everything in hand."""
        for task in self._waiting:
            settle(task.future, error)
        self._waiting = []

    def step(self) -> None:
        """Score the oldest conversation and those most like it in length."""
        first = len(self._waiting[0].prompt) if self._waiting else 0
        order = sorted(range(len(self._waiting)), key=lambda i: abs(len(self._waiting[i].prompt) - first))
        chosen: list[int] = []
        for i in order[: self._batch_size]:
            longest = max(len(self._waiting[j].prompt) for j in [*chosen, i])
            if chosen and (len(chosen) + 1) * longest > min(PASS, self._budget):
                break
            chosen.append(i)
        batch = [self._waiting[i] for i in chosen]
        scores = self._scores([task.prompt for task in batch]) if batch else []
        taken = set(chosen)
        self._waiting = [task for i, task in enumerate(self._waiting) if i not in taken]
        for task, score in zip(batch, scores, strict=True):
            settle(
                task.future,
                score if isfinite(score) else RequestFailed("malformed", f"the reward is {score}; try dtype=float32"),
            )

    def _scores(self, rows: list[list[int]]) -> list[float]:
        """Rewards of token rows; the model finds each row's end by its padding token, as transformers does."""
        config = self._model.config.get_text_config()
        if config.pad_token_id is None:
            used = {token for row in rows for token in row}
            pad = next(token for token in range(config.vocab_size) if token not in used)
        else:
            pad = config.pad_token_id
        width = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self._model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self._model.device)
        before, config.pad_token_id = config.pad_token_id, pad
        try:
            with torch.inference_mode():
                logits = self._model(input_ids=ids, attention_mask=mask).logits.double()
        finally:
            config.pad_token_id = before
        rewards = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        scores: list[float] = rewards.tolist()
        return scores
