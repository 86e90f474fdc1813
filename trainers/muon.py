"""Muon for the matrices, AdamW for the rest, as one torch optimizer: for models that train from little, in few steps.

Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") takes the nearest orthogonal matrix for
the momentum of each weight matrix. In the sandbox a reward model gets as far in one pass as with AdamW in two. Weights must
be whole on each device: plain and data-parallel training, not FSDP or ZeRO 3.

    optimizer = Muon(model, learning_rate=0.01, weight_decay=0.0)
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_eval.sandbox.muon import ADAM_SHARE, MOMENTUM, orthogonal

BETAS = (0.9, 0.98)


class Muon(torch.optim.AdamW):
    """Two groups of parameters: hidden matrices by Muon, embeddings, norms and heads by AdamW at a share of the rate."""

    def __init__(self, model: nn.Module, learning_rate: float, weight_decay: float = 0.0) -> None:
        outside = {id(p) for p in _ends(model)}
        trained = [p for p in model.parameters() if p.requires_grad]
        matrices = [p for p in trained if p.ndim == 2 and id(p) not in outside]
        rest = [p for p in trained if p.ndim != 2 or id(p) in outside]
        groups = [
            {"params": matrices, "lr": learning_rate, "matrices": True},
            {"params": rest, "lr": learning_rate * ADAM_SHARE, "matrices": False},
        ]
        super().__init__([g for g in groups if g["params"]], betas=BETAS, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every parameter from its gradient."""
        every = self.param_groups
        try:
            self.param_groups = [group for group in every if not group["matrices"]]
            loss = super().step(closure)
        finally:
            self.param_groups = every
        for group in every:
            if group["matrices"]:
                self._turn(group)
        return loss

    def _turn(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is not None:
                state = self.state[weight]
                state.setdefault("step", torch.zeros(()))  # AdamW looks for it in every state that it loads
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                momentum.mul_(MOMENTUM).add_(weight.grad)
                by_shape[weight.shape].append((weight, weight.grad + MOMENTUM * momentum))
        for shape, pairs in by_shape.items():
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            turned = orthogonal(torch.stack([direction for _, direction in pairs]))
            for (weight, _), direction in zip(pairs, turned, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"] * scale)


def _ends(model: nn.Module) -> list[Tensor]:
    """Weights that look up or read out, whose rows are not directions of one space: embeddings and heads."""
    found: list[Tensor] = [
        p for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()
    ]
    for name in ("lm_head", "score"):
        head = getattr(model, name, None)
        found += list(head.parameters()) if isinstance(head, nn.Module) else []
    return found
