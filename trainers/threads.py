"""How many threads torch takes on a CPU."""

from __future__ import annotations

from typing import Any

import torch

SMALL = 10_000_000
"""Weights up to which a CPU is quickest with one thread."""


def set_threads(model: Any, wanted: int, *, on_cpu: bool) -> None:
    """``wanted`` threads; 0 leaves torch's own number, but takes one for a small model on a CPU."""
    if wanted or (on_cpu and sum(p.numel() for p in model.parameters()) < SMALL):
        torch.set_num_threads(wanted or 1)
