"""The training loop of the sandbox's checkpoints: next-token prediction on weighted targets, Muon, warm-up, cosine.

Sequences are padded on the right and grouped by length, so that causal attention needs no mask and little is wasted. Each
batch is split between two threads, one core each: a model this small is too small to split inside a matrix product.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

import torch

from rlhf_eval.sandbox.muon import Muon

POOL = 16
"""Batches that are drawn together and grouped by length."""

WARMUP = 100
CLIP = 1.0
FLOOR = 0.02
"""Last learning rate as a share of the peak."""


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids, and for each the weight with which predicting it counts (0 for what is only read)."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast to train."""

    steps: int
    batch: int
    rate: float
    """Peak learning rate."""


Batch = tuple[torch.Tensor, torch.Tensor]


def new_model(vocabulary: int, pad: int, eos: int, seed: int) -> Any:
    """A random Llama of about a million parameters with heads of 32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=eos,
        initializer_range=0.04,
    )
    return LlamaForCausalLM(config)


def fit(
    model: Any, examples: Iterator[Example], schedule: Schedule, seed: int, report: Callable[[str], None], name: str
) -> float:
    """Train ``model`` in place; returns the mean loss of the last tenth of the steps."""
    model.train()
    twin = copy.deepcopy(model)
    for own, shared in zip(twin.parameters(), model.parameters(), strict=True):
        own.data = shared.data
    optimizer = Muon(model, schedule.rate)
    started = time.monotonic()
    losses: list[float] = []
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for step, batch in enumerate(islice(_batches(examples, schedule.batch, model, seed), schedule.steps), start=1):
            losses.append(_gradients(pool, model, twin, batch))
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step(_share(step, schedule.steps))
            if step % 100 == 0 or step == schedule.steps:
                left = (time.monotonic() - started) / step * (schedule.steps - step)
                recent = losses[-100:]
                report(f"{name}: step {step}/{schedule.steps}, loss {sum(recent) / len(recent):.3f}, {left:.0f} s left")
    model.eval()
    tail = losses[-max(1, schedule.steps // 10) :]
    return sum(tail) / len(tail)


def _gradients(pool: ThreadPoolExecutor, model: Any, twin: Any, batch: Batch) -> float:
    """Leave the gradient of the batch's mean loss in ``model``; ``twin`` shares its weights and does the second half."""
    ids, weights = batch
    total = float(weights[:, 1:].sum())

    def work(half: tuple[Any, slice]) -> float:
        worker, rows = half
        worker.zero_grad(set_to_none=True)
        loss = _loss(worker, ids[rows], weights[rows]) / total
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    middle = (len(ids) + 1) // 2
    loss = sum(pool.map(work, ((model, slice(0, middle)), (twin, slice(middle, len(ids))))))
    for own, other in zip(model.parameters(), twin.parameters(), strict=True):
        own.grad += other.grad
    return loss


def _share(step: int, steps: int) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then half a cosine down to the floor."""
    warmup = min(WARMUP, max(1, steps // 10))
    if step <= warmup:
        return step / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2


def _loss(model: Any, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sum of cross-entropies; the head is applied only where a target counts."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    counted = weights[:, 1:] > 0
    logits = model.lm_head(hidden[counted])
    each = torch.nn.functional.cross_entropy(logits, ids[:, 1:][counted], reduction="none")
    return (each * weights[:, 1:][counted]).sum()


def _batches(examples: Iterator[Example], size: int, model: Any, seed: int) -> Iterator[Batch]:
    shuffle = Random(seed)
    pad = model.config.pad_token_id
    while pool := list(islice(examples, size * POOL)):
        pool.sort(key=lambda e: len(e.ids))
        groups = [pool[i : i + size] for i in range(0, len(pool), size)]
        shuffle.shuffle(groups)
        for group in groups:
            yield collate(group, pad)


def collate(group: Sequence[Example], pad: int) -> Batch:
    """Ids and weights of a batch, [batch, longest], padded on the right."""
    width = max(len(e.ids) for e in group)
    ids = torch.tensor([[*e.ids, *[pad] * (width - len(e.ids))] for e in group])
    weights = torch.tensor([[*e.weights, *[0.0] * (width - len(e.ids))] for e in group])
    return ids, weights
