"""The further heads of a reward model, beside the one that every loader knows, and what can be made of their rewards.

``heads.json`` in the checkpoint's folder: ``{"names": [...], "weight": [[...]]}``, one row of weights a head, linear and
without a bias, on the hidden state at the last token. Their mean is the checkpoint's own head.

    rlhf-eval judge --judge reward_model --judge-model 'hf:checkpoints/rm?heads=min'
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rlhf_eval.errors import UserError

HEADS = "heads.json"

Combine = Literal["", "mean", "min", "median", "cautious"]


def read_heads(folder: Path) -> tuple[tuple[str, ...], Tensor]:
    """Names and weights (heads, width) of a checkpoint's heads; raises UserError where it has just the one."""
    try:
        held = json.loads((folder / HEADS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} has one head; train with --set heads=4 or --set labelers=true for several") from None
    return tuple(held["names"]), torch.tensor(held["weight"])


def with_heads(model: Any, folder: Path) -> Any:
    """The model with all heads in the place of their mean; raises UserError where they do not fit it."""
    _, weight = read_heads(folder)
    if weight.shape[1] != model.score.weight.shape[1]:
        raise UserError(f"{folder}/{HEADS} has heads of width {weight.shape[1]}, not {model.score.weight.shape[1]}")
    score = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    score.weight.data = weight.to(model.score.weight)
    model.score = score
    return model


def combined(rewards: Tensor, how: Combine, caution: float = 1.0) -> Tensor:
    """One reward from those of the heads, (..., heads) to (...).

    ``min`` and ``cautious``, the mean less ``caution`` times the variance, hold over-optimisation back (Coste et al., arXiv
    2310.02743, equations 4 and 5); the low ``median`` holds a labeler's influence down (arXiv 2503.09561).
    """
    if how == "min":
        return rewards.min(-1).values
    if how == "median":
        return rewards.median(-1).values
    mean = rewards.mean(-1)
    return mean - caution * rewards.var(-1, correction=0) if how == "cautious" else mean
