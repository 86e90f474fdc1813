"""The reference's log-probabilities, computed once and kept by content, so that no second model stays in memory.

The key is the hash of the checkpoint's files, of every token of every example, and of the arithmetic.

    examples = cached_reference(model, examples, layout, tokens, settings, job)
    examples[0].reference   # one sum of log-probabilities an answer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object, send_to_device

from rlhf_eval.models.local.checkpoints import fingerprint_folder
from rlhf_eval.records import fingerprint
from rlhf_eval.stages.training import Job
from trainers.batch import Layout, collate, model_inputs, per_answer
from trainers.data import Example, Tokenized
from trainers.engine import Settings, autocast, place, split_batch, uses_bfloat16

SAID_FROM = 2_000
"""Examples from which the computation is announced."""


def cached_reference(
    model: Any, examples: Sequence[Example], layout: Layout, tokens: Tokenized, settings: Settings, job: Job
) -> list[Example]:
    """The examples with the log-probability that ``model`` gives each answer, from the cache if it is there."""
    kept = _file(examples, settings, job)
    if kept is not None and kept.is_file():
        values = np.load(kept)["logps"]
    else:
        if len(examples) >= SAID_FROM:
            job.say(f"computing the reference's log-probabilities of {len(examples):,} rows")
        values = _computed(model, examples, layout, tokens, settings)
        if kept is not None and PartialState().is_main_process:
            kept.parent.mkdir(parents=True, exist_ok=True)
            draft = kept.with_suffix(".tmp.npz")
            np.savez(draft, logps=values)
            draft.replace(kept)
    return [replace(e, reference=tuple(map(float, row))) for e, row in zip(examples, values, strict=True)]


def _file(examples: Sequence[Example], settings: Settings, job: Job) -> Path | None:
    if job.cache is None:
        return None
    folder = Path(job.model)
    weights = fingerprint_folder(folder) if folder.is_dir() else job.model
    content = [(e.prompt, e.answers, e.masks) for e in examples]
    return job.cache / f"{fingerprint(weights, content, uses_bfloat16(settings))}.npz"


@torch.no_grad()
def _computed(
    model: Any, examples: Sequence[Example], layout: Layout, tokens: Tokenized, settings: Settings
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(E, answers), by rising length so that little is padded; each process takes its share."""
    state = PartialState(cpu=not torch.cuda.is_available())
    place(model).eval()
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]))[state.process_index :: state.num_processes]
    size, _ = split_batch(settings, state.num_processes)
    found: list[tuple[int, list[float]]] = []
    for start in range(0, len(order), size):
        part = order[start : start + size]
        batch = collate([examples[i] for i in part], layout, pad=tokens.pad)
        moved = send_to_device(batch, state.device)
        with autocast(settings):
            sums = per_answer(model(**model_inputs(moved)).logps, moved)
        rows = sums.view(len(part), -1).float().cpu().tolist()
        found.extend(zip(part, rows, strict=True))
    model.train()
    every = sorted(gather_object(found) if state.num_processes > 1 else found)
    return np.array([row for _, row in every], dtype=np.float32)
