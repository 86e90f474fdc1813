"""What a frozen trunk says of each text, computed once and kept by content: heads then train in seconds on a CPU.

known = features_of(model, examples, tokens, layout, Path("features"), job)
known[example.id]   # (N, width), float32: one row for each token at which a reward is wanted
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from rlhf_eval.models.local.checkpoints import fingerprint_folder
from rlhf_eval.records import fingerprint
from rlhf_eval.stages.training import Job
from trainers.batch import Layout, model_inputs
from trainers.data import Tokenized
from trainers.reward_data import Graded, collate_graded

TOGETHER = 16_384
"""Most tokens that pass the trunk at once."""


def features_of(
    model: Any, examples: Sequence[Graded], tokens: Tokenized, layout: Layout, folder: Path, job: Job
) -> dict[str, Tensor]:
    """Features by the example's id; those that ``folder`` keeps for this trunk are not computed again."""
    from accelerate import PartialState

    # The first process reads the texts, the others what it has kept.
    with PartialState().main_process_first():
        return _features(model, examples, tokens, layout, folder, job)


def _features(
    model: Any, examples: Sequence[Graded], tokens: Tokenized, layout: Layout, folder: Path, job: Job
) -> dict[str, Tensor]:
    from safetensors.torch import load_file, save_file

    place = Path(job.model)
    trunk = fingerprint_folder(place) if place.is_dir() else job.model
    keys = {example.id: fingerprint(trunk, example.prompt, example.answers, example.masks) for example in examples}
    file = folder / f"features-{fingerprint(trunk)[:8]}.safetensors"
    held: dict[str, Tensor] = load_file(file) if file.is_file() else {}
    missing = sorted((e for e in examples if keys[e.id] not in held), key=len)
    if missing:
        job.say(
            f"reading {len(missing):,} texts once with the frozen trunk; {len(examples) - len(missing):,} are known"
        )
        for part in _parts(missing):
            held |= {keys[e.id]: rows for e, rows in zip(part, _read(model, part, tokens, layout), strict=True)}
        folder.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.draft")
        save_file(held, draft)
        draft.replace(file)
    return {example.id: held[keys[example.id]] for example in examples}


@torch.no_grad()
def _read(model: Any, examples: Sequence[Graded], tokens: Tokenized, layout: Layout) -> list[Tensor]:
    model.eval()
    batch = collate_graded(examples, layout, pad=tokens.pad, heads_of=lambda _: (1.0,))
    trunk = getattr(model, model.base_model_prefix)
    inputs = send_to_device({k: v for k, v in model_inputs(batch).items() if k not in ("at", "targets")}, model.device)
    states = trunk(**inputs, use_cache=False).last_hidden_state.flatten(0, 1)
    rows = states[batch["at"].to(model.device)].float().cpu()
    # Clones, so that saving one does not save the batch.
    return [part.clone() for part in rows.split([sum(map(sum, e.masks)) for e in examples])]


def _parts(examples: Sequence[Graded]) -> list[list[Graded]]:
    parts: list[list[Graded]] = [[]]
    for example in examples:
        tokens = (len(parts[-1]) + 1) * (len(example.prompt) + sum(map(len, example.answers)))
        if parts[-1] and tokens > TOGETHER:
            parts.append([])
        parts[-1].append(example)
    return parts
