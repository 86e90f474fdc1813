"""Continuous batching for a transformers model: rows join and leave the running batch between two tokens.

Waiting tasks are prefilled in groups of like length (the common beginning of a group once), joined to the running batch by
left padding, decoded one token a step, and dropped when done. What a row draws depends on its own key alone: one uniform
number a token, from a counter-based generator (Philox, Salmon et al. 2011), turned into a token by the inverse of the
cumulative distribution. In float64, company in the batch then changes nothing that one can see.

    decoder = Decoder(model, eos=frozenset({2}), batch_size=32, budget=32_768, stopped=lambda ids, stop: False)
    decoder.add([task]); decoder.step()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlhf_eval.errors import RequestFailed
from rlhf_eval.models.local.batches import Batch, Reader, joined
from rlhf_eval.models.local.rows import Row, Task
from rlhf_eval.models.local.tries import END
from rlhf_eval.models.local.worker import settle


def draw(logits: Tensor, temperatures: Tensor, top_ps: Tensor, uniforms: Tensor) -> Tensor:
    """One token a row: the likeliest at temperature 0, else the inverse of the cumulative distribution at ``uniforms``.

    ``logits`` is (rows, vocabulary), float64; the others are (rows,). top_p keeps the smallest set of tokens with at least
    that much probability (Holtzman et al. 2020). Returns token ids, (rows,).
    """
    best = logits.argmax(-1)
    hot = temperatures > 0
    if not bool(hot.any()):
        return best
    chances = torch.softmax(logits / torch.where(hot, temperatures, 1.0)[:, None], -1)
    if bool((top_ps < 1).any()):
        ordered, order = chances.sort(dim=-1, descending=True, stable=True)
        beyond = ordered.cumsum(-1) - ordered >= torch.where(top_ps < 1, top_ps, torch.inf)[:, None]
        chances = torch.zeros_like(chances).scatter(-1, order, ordered.masked_fill(beyond, 0.0))
    heaps = chances.cumsum(-1)
    total = heaps[:, -1:]
    target = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    drawn = torch.searchsorted(heaps, target, right=True).squeeze(-1)
    return torch.where(hot, drawn, best)


class Decoder:
    """Draws answers for tasks; lives on one thread."""

    def __init__(
        self,
        model: Any,
        *,
        eos: frozenset[int],
        batch_size: int,
        budget: int,
        stopped: Callable[[Sequence[int], tuple[str, ...]], bool],
    ) -> None:
        self._reader = Reader(model)
        self._eos, self._stopped = eos, stopped
        self._batch_size, self._budget = batch_size, budget
        self._waiting: list[Task] = []
        self._joining: list[Task] = []
        self._batch: Batch | None = None

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._waiting) or self._batch is not None

    def add(self, tasks: Iterable[Task]) -> None:
        """Queue tasks."""
        self._waiting.extend(tasks)

    def fail(self, error: Exception) -> None:
        """Give up everything in hand, telling each asker why."""
        running = {id(row.task): row.task for row in self._batch.rows} if self._batch else {}
        tasks = [*running.values(), *self._joining, *self._waiting]
        self._waiting, self._joining, self._batch = [], [], None
        for task in tasks:
            settle(task.future, error)

    @torch.inference_mode()
    def step(self) -> None:
        """Let waiting rows in, then draw one token for every row."""
        self._leave()
        self._joining = self._admit()
        if fresh := [self._prefill(group) for group in _groups(self._joining, self._reader.most)]:
            self._batch = joined([self._batch, *fresh] if self._batch else fresh)
        self._joining = []
        self._leave()
        if not self._batch:
            return
        start = time.perf_counter()
        batch = self._batch
        last = [[row.drawn.ids[-1] if row.drawn.ids else 0] for row in batch.rows]
        batch.mask = torch.cat([batch.mask, batch.mask.new_ones(len(batch.rows), 1)], 1)
        logits = self._reader.forward(self._tensor(last), batch.mask, batch.cache)
        self._advance(batch.rows, logits, start)

    def _leave(self) -> None:
        """Report finished tasks, and drop rows once enough are finished to pay for moving the cache."""
        batch = self._batch
        if not batch:
            return
        alive = [i for i, row in enumerate(batch.rows) if not row.drawn.finish and not row.task.future.done()]
        if not alive:
            self._batch = None
        elif 8 * (len(batch.rows) - len(alive)) >= len(batch.rows):
            batch.keep(alive)

    def _admit(self) -> list[Task]:
        """Take the oldest waiting task and those most like it in length, as far as rows and columns allow."""
        rows = self._batch.rows if self._batch else []
        worth = max(1, self._batch_size // 4)
        if rows and self._batch_size - len(rows) < min(worth, len(self._waiting)):
            return []
        self._waiting = [task for task in self._waiting if not task.future.cancelled()]
        if not self._waiting:
            return []
        count, width = len(rows), max((row.task.width for row in rows), default=0)
        first = len(self._waiting[0].prompt)
        taken: list[Task] = []
        for task in sorted(self._waiting, key=lambda t: abs(len(t.prompt) - first)):
            count, width = count + len(task.keys), max(width, task.width)
            if (rows or taken) and (count > self._batch_size or count * width > self._budget):
                break
            taken.append(task)
        joining = sum(len(task.keys) for task in taken)
        if rows and joining < worth and len(taken) < len(self._waiting):
            return []
        chosen = {id(task) for task in taken}
        self._waiting = [task for task in self._waiting if id(task) not in chosen]
        return taken

    def _prefill(self, tasks: list[Task]) -> Batch:
        """Read the prompts of ``tasks``, once each, and draw the first token of all their rows."""
        start = time.perf_counter()
        cache, mask, logits = self._reader.read([task.prompt for task in tasks])
        for task in tasks:
            task.rows = [Row.of(task, key) for key in task.keys]
        batch = Batch([row for task in tasks for row in task.rows], cache, mask)
        if len(batch.rows) > len(tasks):
            copies = [i for i, task in enumerate(tasks) for _ in task.keys]
            batch.spread(copies)
            logits = logits[copies]
        self._advance(batch.rows, logits, start)
        return batch

    def _advance(self, rows: list[Row], logits: Tensor, start: float) -> None:
        """Draw a token for every row that is not finished, and report the tasks that this completes."""
        for i, row in enumerate(rows):
            if row.node is not None and not row.drawn.finish:
                allowed = self._tensor(
                    sorted({t for t in row.node if t != END} | (self._eos if END in row.node else set()))
                )
                logits[i] = torch.full_like(logits[i], -torch.inf).index_copy(0, allowed, logits[i, allowed])
        spots = [min(row.drawn.steps, row.task.most - 1) for row in rows]
        columns = zip(
            *((r.task.temperature, r.task.top_p, r.uniforms[s]) for r, s in zip(rows, spots, strict=True)), strict=True
        )
        tokens = draw(logits, *(torch.tensor(c, dtype=torch.float64, device=logits.device) for c in columns)).tolist()
        self._note(rows, tokens, logits)
        broken = logits.isnan().any(-1).tolist()
        share = (time.perf_counter() - start) / len(rows)
        for row, token, nan in zip(rows, tokens, broken, strict=True):
            if row.drawn.finish:
                continue
            row.task.seconds += share
            if nan:
                row.drawn.finish = "stop"
                settle(row.task.future, RequestFailed("malformed", "the model's logits are NaN; try dtype=float32"))
            else:
                row.push(token, self._eos, self._stopped)
            if all(r.drawn.finish for r in row.task.rows):
                settle(row.task.future, [r.drawn for r in row.task.rows])

    def _note(self, rows: list[Row], tokens: list[int], logits: Tensor) -> None:
        """Keep the log-probabilities that were asked for: at temperature 1, within the choices where there are any."""
        wanted = [i for i, row in enumerate(rows) if row.task.top and not row.drawn.finish]
        if not wanted:
            return
        chances = torch.log_softmax(logits[wanted], -1)
        own = chances.gather(1, self._tensor([[tokens[i]] for i in wanted])).squeeze(1).tolist()
        most = min(max(rows[i].task.top for i in wanted), chances.shape[1])
        values, ids = (part.tolist() for part in chances.topk(most))
        for n, i in enumerate(wanted):
            pairs = zip(ids[n][: rows[i].task.top], values[n], strict=False)
            rows[i].drawn.chances.append((own[n], tuple((t, v) for t, v in pairs if v > -np.inf)))

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(values, device=self._reader.device)


def _groups(tasks: list[Task], most: int) -> list[list[Task]]:
    """Tasks in groups of like length, none of which pads much or has more than ``most`` tokens to read."""
    groups: list[list[Task]] = []
    for task in sorted(tasks, key=lambda t: len(t.prompt)):
        group = groups[-1] if groups else []
        longest = len(task.prompt)
        if group and longest <= 1.5 * len(group[0].prompt) + 16 and (len(group) + 1) * longest <= most:
            group.append(task)
        else:
            groups.append([task])
    return groups
