"""Checkpoints by name: the folder that training starts from, and the door to what an earlier training made.

base_of(store, "run:latest:train").folder
door_spec(store, "tonight=run:1f0c9a2e")     # 'tonight=hf:<folder of the run>/checkpoint'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rlhf_eval.errors import UserError
from rlhf_eval.models import SANDBOX_OPTIONS, parse
from rlhf_eval.models.local.checkpoints import open_checkpoint
from rlhf_eval.records import Run
from rlhf_eval.sandbox import checkpoint
from rlhf_eval.store.runs import Store

CHECKPOINT = "checkpoint"
_RUN = re.compile(r"^(?:(?P<name>[\w.@+-]+)=)?run:(?P<ref>[^?]+)(?:\?(?P<options>.*))?$")


@dataclass(frozen=True, slots=True)
class Base:
    """Where a training starts."""

    name: str
    folder: Path
    door: str
    """The scheme that opens what is trained from it: ``sandbox`` for the embedded world's models, else ``hf``."""
    run: str = ""
    """The training that made it."""


def base_of(store: Store, spec: str) -> Base:
    """The checkpoint that a spec names; raises UserError where weights cannot be had by it."""
    if not spec:
        raise UserError("train needs a model to start from: --model sandbox:policy, hf:PATH, or run:REF of a training")
    run = trained(store, spec)
    if run is not None:
        return Base(run.id, checkpoint_of(store, run), str(run.config.get("door", "hf")), run.id)
    if spec.partition("=")[2].startswith("run:") or spec.startswith("run:"):
        found = store.find(spec.rpartition("run:")[2])
        raise UserError(f"run {found.id} is a run of {found.verb} and holds no checkpoint; name a run of train")
    named = parse(spec)
    if named.scheme == "sandbox":
        return Base(f"sandbox:{named.rest}", checkpoint(named.rest), "sandbox")
    if named.scheme in ("hf", "vllm"):
        weights = open_checkpoint(named.rest, scheme="hf")
        return Base(f"hf:{Path(named.rest).name}", Path(weights.path), "hf")
    raise UserError(f"'{spec}' has no weights that could be trained; use sandbox:policy, hf:PATH, or run:REF")


def door_spec(store: Store, spec: str) -> str:
    """The spec, or for ``run:REF`` of a training the spec of its checkpoint, under the alias or the training's name."""
    run = trained(store, spec)
    match = _RUN.match(spec)
    if run is None or match is None:
        return spec
    name = match["name"] or name_of(run)
    own = [f"{key}={value}" for key, value in SANDBOX_OPTIONS.items()] if run.config.get("door") == "sandbox" else []
    told = "&".join([*own, *filter(None, [match["options"]])])  # of one option named twice the last counts
    return f"{name}=hf:{checkpoint_of(store, run)}{f'?{told}' if told else ''}"


def trained(store: Store, spec: str) -> Run | None:
    """The training that ``[alias=]run:REF`` names; None for any other spec, and for runs of other verbs."""
    match = _RUN.match(spec)
    if match is None:
        return None
    run = store.find(match["ref"])
    return run if run.verb == "train" else None


def name_of(run: Run) -> str:
    """What a trained checkpoint is called in tables: its trainer and the hash of its run."""
    return f"{run.config['trainer']}-{run.id.rpartition('-')[2][:4]}"


def checkpoint_of(store: Store, run: Run) -> Path:
    """The folder of a finished training's checkpoint; raises UserError where there is none yet."""
    folder = store.folder(run.id) / CHECKPOINT
    if not (folder / "config.json").is_file():
        raise UserError(f"run {run.id} is {run.status} and has no checkpoint yet; run the same train command again")
    return folder.resolve()
