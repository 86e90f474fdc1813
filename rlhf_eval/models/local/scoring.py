"""Numbers for whole conversations in micro-batches of like length: rewards, and how likely a last turn is.

scorer = Scorer(model, batch_size=32, budget=8192)
scorer.add([Scoring(prompt=[5, 6, 7])]); scorer.step()
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from rlhf_eval.errors import RequestFailed
from rlhf_eval.models.local.heads import Combine, combined
from rlhf_eval.models.local.worker import Engine, settle

PASS = 8192
"""Most padded tokens in one pass, which bounds the memory of activations."""
LOGITS = 1 << 27
"""Most logits of one pass: positions times vocabulary."""


@dataclass(slots=True, kw_only=True)
class Scoring:
    """One conversation that awaits its number."""

    prompt: list[int]
    """Its tokens."""
    start: int = 0
    """Where the last turn begins in them, for whoever asks how likely that turn is."""
    future: Future[float] = field(default_factory=Future)


class MicroBatches(ABC):
    """Conversations of like length together, one number each."""

    what: str
    """What the number is, for the message when it is none."""

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
        """Take the oldest conversation and those most like it in length."""
        first = len(self._waiting[0].prompt) if self._waiting else 0
        order = sorted(range(len(self._waiting)), key=lambda i: abs(len(self._waiting[i].prompt) - first))
        chosen: list[int] = []
        for i in order[: self._batch_size]:
            if chosen and not self._fits([self._waiting[j] for j in [*chosen, i]]):
                break
            chosen.append(i)
        batch = [self._waiting[i] for i in chosen]
        numbers = self._numbers(batch) if batch else []
        taken = set(chosen)
        self._waiting = [task for i, task in enumerate(self._waiting) if i not in taken]
        for task, number in zip(batch, numbers, strict=True):
            settle(
                task.future,
                number
                if isfinite(number)
                else RequestFailed("malformed", f"the {self.what} is {number}; try dtype=float32"),
            )

    def _fits(self, batch: Sequence[Scoring]) -> bool:
        return len(batch) * max(len(task.prompt) for task in batch) <= min(PASS, self._budget)

    @abstractmethod
    def _numbers(self, batch: Sequence[Scoring]) -> list[float]: ...


class Scorer(MicroBatches):
    """Rewards of a sequence classifier, padded on the right."""

    what = "reward"

    def __init__(self, model: Any, *, batch_size: int, budget: int, heads: Combine = "") -> None:
        super().__init__(model, batch_size=batch_size, budget=budget)
        self._heads = heads

    def _numbers(self, batch: Sequence[Scoring]) -> list[float]:
        """The model finds each row's end by its padding token, as transformers does."""
        rows = [task.prompt for task in batch]
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
        if self._heads:
            rewards = combined(logits, self._heads)
        else:
            rewards = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        scores: list[float] = rewards.tolist()
        return scores


class Reading(MicroBatches):
    """Log-probabilities of last turns, padded on the left: the turns then end together, and only theirs are computed."""

    what = "log-probability"

    def __init__(self, model: Any, *, batch_size: int, budget: int) -> None:
        super().__init__(model, batch_size=batch_size, budget=budget)
        self._accepted = frozenset(inspect.signature(model.forward).parameters)

    def _fits(self, batch: Sequence[Scoring]) -> bool:
        logits = len(batch) * _longest_turn(batch) * int(self._model.config.get_text_config().vocab_size)
        return super()._fits(batch) and logits <= LOGITS

    def _numbers(self, batch: Sequence[Scoring]) -> list[float]:
        width, kept = max(len(task.prompt) for task in batch), _longest_turn(batch)
        ids = self._tensor([[0] * (width - len(task.prompt)) + task.prompt for task in batch])
        mask = self._tensor([[0] * (width - len(t.prompt)) + [1] * len(t.prompt) for t in batch])
        turn = self._tensor([[0] * (width - len(t.prompt) + t.start) + [1] * (len(t.prompt) - t.start) for t in batch])
        extra: dict[str, Any] = {}
        if "position_ids" in self._accepted:
            extra["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        if "logits_to_keep" in self._accepted:
            extra["logits_to_keep"] = kept + 1
        with torch.inference_mode():
            logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False, **extra).logits
            logits = logits[:, -kept - 1 : -1]
            # Half precision cannot sum a vocabulary; its own logits are all that is lost.
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            logps = logits.gather(-1, ids[:, -kept:, None]).squeeze(-1) - logits.logsumexp(-1)
            sums: list[float] = logps.double().masked_fill(turn[:, -kept:] == 0, 0.0).sum(-1).tolist()
        return sums

    def _tensor(self, rows: list[list[int]]) -> Tensor:
        return torch.tensor(rows, device=self._model.device)


class Shared:
    """Two kinds of work that take turns on one model: conversations to read, and whatever the other engine does."""

    def __init__(self, reading: Reading, other: Engine) -> None:
        self._reading, self._other = reading, other

    @property
    def busy(self) -> bool:
        """Whether either has anything to do."""
        return self._reading.busy or self._other.busy

    def add(self, tasks: Sequence[Any]) -> None:
        """Queue each task where it belongs."""
        self._reading.add([task for task in tasks if isinstance(task, Scoring)])
        self._other.add([task for task in tasks if not isinstance(task, Scoring)])

    def step(self) -> None:
        """A step of each."""
        for engine in (self._reading, self._other):
            if engine.busy:
                engine.step()

    def fail(self, error: Exception) -> None:
        """Give up everything in hand."""
        self._reading.fail(error)
        self._other.fail(error)


def _longest_turn(batch: Sequence[Scoring]) -> int:
    return max(len(task.prompt) - task.start for task in batch)
