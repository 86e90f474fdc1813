"""The running batch: rows, their mask, and a key-value cache that grows in place and takes rows in and out.

Padding is on the left alone: the last token of every row stands in the last column.

    batch = joined([batch, other]); batch.keep([0, 2])
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import DynamicCache, DynamicLayer

from rlhf_eval.models.local.rows import Row

ROOM = 64
"""Columns that a cache grows by at a time."""
SHARED = 24
"""A beginning that prompts share is computed once if it has at least this many tokens."""
PREFILL_CPU, PREFILL_GPU = 2048, 16_384
"""Most padded tokens in one pass over prompts: bounds the memory of activations, and on a CPU keeps them in its caches."""


class Layer(DynamicLayer):  # type: ignore[misc]  # transformers ships no types
    """Keys and values of one layer in a buffer with room to grow: a step writes one column and copies nothing."""

    keys: Tensor
    values: Tensor
    room: tuple[Tensor, Tensor]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append the new columns; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = self.room = (key_states, value_states)
            return self.room
        old, new = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if new > self.room[0].shape[-2]:
            self.hold(self.keys, self.values, new - old)
        for whole, part in zip(self.room, (key_states, value_states), strict=True):
            whole[:, :, old:new] = part
        self.keys, self.values = self.room[0][:, :, :new], self.room[1][:, :, :new]
        return self.keys, self.values

    def hold(self, keys: Tensor, values: Tensor, more: int = 0) -> None:
        """Make ``keys`` and ``values`` (rows, heads, columns, size) the contents, with room for growth."""
        self.stack([keys], [values], keys.shape[-2], more)

    def stack(self, keys: list[Tensor], values: list[Tensor], columns: int, more: int = 0) -> None:
        """Make the rows of all ``keys`` and ``values`` the contents, padded on the left to ``columns``."""
        self.is_initialized, self.dtype, self.device = True, keys[0].dtype, keys[0].device
        self.room = (_stacked(keys, columns, more + ROOM), _stacked(values, columns, more + ROOM))
        self.keys, self.values = self.room[0][:, :, :columns], self.room[1][:, :, :columns]


@dataclass(slots=True, eq=False)
class Batch:
    """Rows with their cache: ``mask`` (rows, columns) is 1 where a column holds a token; padding is on the left."""

    rows: list[Row]
    cache: Any
    mask: Tensor

    def keep(self, indices: list[int]) -> None:
        """Drop all other rows, and the columns that then hold nothing."""
        at = torch.tensor(indices, device=self.mask.device)
        mask = self.mask[at]
        crop = int(mask.any(0).int().argmax())
        self.rows = [self.rows[i] for i in indices]
        self.mask = mask[:, crop:]
        for layer in self.cache.layers:
            layer.hold(layer.keys[:, :, crop:][at], layer.values[:, :, crop:][at])

    def spread(self, copies: list[int]) -> None:
        """Give each row the cache of the prompt at its index."""
        at = torch.tensor(copies, device=self.mask.device)
        self.mask = self.mask[at]
        for layer in self.cache.layers:
            layer.hold(layer.keys[at], layer.values[at])


def joined(batches: list[Batch]) -> Batch:
    """One batch of the rows of all; they stay in order, and their last tokens stay in the last column."""
    if len(batches) == 1:
        return batches[0]
    columns = max(batch.mask.shape[1] for batch in batches)
    cache = _fresh()
    for parts in zip(*(batch.cache.layers for batch in batches), strict=True):
        layer = Layer()
        layer.stack([part.keys for part in parts], [part.values for part in parts], columns)
        cache.layers.append(layer)
    mask = torch.cat([functional.pad(batch.mask, (columns - batch.mask.shape[1], 0)) for batch in batches])
    return Batch([row for batch in batches for row in batch.rows], cache, mask)


class Reader:
    """Runs the model: prompts into a fresh cache, and one more column of a running batch."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.device = model.device
        self.most = PREFILL_GPU if model.device.type == "cuda" else PREFILL_CPU
        # An adapter's forward takes anything and hands it on: what is accepted is for the model within to say.
        within = model.get_base_model() if hasattr(model, "get_base_model") else model
        accepted = inspect.signature(within.forward).parameters
        self._places, self._keeps = "position_ids" in accepted, "logits_to_keep" in accepted
        self._kept: tuple[list[int], list[tuple[Tensor, Tensor]]] = ([], [])

    def forward(self, ids: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """Logits after the last of ``ids``, (rows, vocabulary) in float64; ``mask`` covers the cache and ``ids``."""
        extra: dict[str, Any] = {}
        if self._places:
            extra["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if self._keeps:
            extra["logits_to_keep"] = 1
        out = self._model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **extra)
        logits: Tensor = out.logits[:, -1].double()
        return logits

    def read(self, prompts: list[list[int]]) -> tuple[Any, Tensor, Tensor]:
        """The cache, the mask, and the logits after the last token of each prompt."""
        longest = max(map(len, prompts))
        pads = [longest - len(p) for p in prompts]
        mask = self._tensor([[0] * pad + [1] * len(p) for pad, p in zip(pads, prompts, strict=True)])
        ids = self._tensor([[0] * pad + p for pad, p in zip(pads, prompts, strict=True)])
        cache, done = self._begin(prompts, pads)
        step = max(1, self.most // len(prompts))
        logits = torch.empty(0)
        for left in range(done, longest, step):
            right = min(left + step, longest)
            logits = self.forward(ids[:, left:right], mask[:, :right], cache)
        return cache, mask, logits

    def _begin(self, prompts: list[list[int]], pads: list[int]) -> tuple[Any, int]:
        """A cache that already holds the beginning which ``prompts`` share, and the number of its columns.

        A shorter prompt has the end of that beginning computed again with its rest, so that padding stays on the left.
        """
        cache = _fresh()
        shared = min(_common(prompts), min(map(len, prompts)) - 1)
        kept = len(self._kept[0])
        known = SHARED <= kept <= shared and prompts[0][:kept] == self._kept[0]
        if not known or (len(prompts) > 1 and kept < 0.75 * shared):
            if len(prompts) < 2 or shared < SHARED:
                return cache, 0
            self._keep(prompts[0][:shared])
        beginning, layers = self._kept
        widths = [max(0, len(beginning) - pad) for pad in pads]
        rest = len(prompts[0]) + pads[0] - len(beginning)
        for keys, values in layers:
            layer = Layer()
            layer.stack([keys[:, :, :w] for w in widths], [values[:, :, :w] for w in widths], len(beginning), rest)
            cache.layers.append(layer)
        return cache, len(beginning)

    def _keep(self, beginning: list[int]) -> None:
        """Compute a beginning, and keep it for the groups to come: a judge's prompts all begin alike."""
        cache = _fresh()
        ids = self._tensor([beginning])
        for left in range(0, len(beginning), self.most):
            block = ids[:, left : left + self.most]
            self.forward(block, torch.ones_like(ids[:, : left + block.shape[1]]), cache)
        self._kept = (beginning, [(layer.keys, layer.values) for layer in cache.layers])

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(values, device=self.device)


def _stacked(parts: list[Tensor], columns: int, room: int) -> Tensor:
    _, heads, _, size = parts[0].shape
    whole = parts[0].new_empty(sum(len(part) for part in parts), heads, columns + room, size)
    top = 0
    for part in parts:
        bottom, pad = top + len(part), columns - part.shape[2]
        whole[top:bottom, :, :pad] = 0  # what is masked is multiplied by 0, which NaN would survive
        whole[top:bottom, :, pad:columns] = part
        top = bottom
    return whole


def _fresh() -> Any:
    cache = DynamicCache()
    cache.layer_class_to_replicate = Layer
    return cache


def _common(prompts: list[list[int]]) -> int:
    """How many tokens all ``prompts`` begin with: what the first and the last in order share, all between them do."""
    first, last = min(prompts), max(prompts)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
