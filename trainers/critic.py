"""The critic of PPO: a trunk of its own and a head that says what a completion will still earn.

critic = critic_of(policy)            # knows nothing yet
critic = load_critic("runs/rm/checkpoint")   # begins as a reward model, head and all
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_eval.errors import UserError
from rlhf_eval.models.local.checkpoints import open_checkpoint
from rlhf_eval.models.local.weights import load_weights


class Critic(nn.Module):
    """The value of a state: what the completion will still earn, read from the hidden state before each token."""

    def __init__(self, trunk: nn.Module, width: int, head: Tensor | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(width, 1)
        with torch.no_grad():  # a critic that knows nothing yet says 0
            self.head.weight.copy_(head) if head is not None else self.head.weight.zero_()
            self.head.bias.zero_()

    def forward(self, ids: Tensor, at: Tensor) -> Tensor:
        """(n,) values in float32 at the flat positions ``at``."""
        states = self.trunk(input_ids=ids, use_cache=False).last_hidden_state
        with torch.autocast(states.device.type, enabled=False):
            values: Tensor = self.head(states.flatten(0, 1).index_select(0, at).float())[:, 0]
        return values


def critic_of(policy: Any) -> Critic:
    """A critic that starts as a copy of the policy's trunk, with a head that says 0."""
    return Critic(copy.deepcopy(policy.base_model), policy.config.get_text_config().hidden_size)


def load_critic(path: str) -> Critic:
    """A critic from a reward model, head and all, or from a language model with a head that says 0."""
    model = load_weights(open_checkpoint(path, scheme="hf"), torch.float32, path)
    head = getattr(model, "score", None)
    if head is not None and head.weight.shape[0] != 1:
        raise UserError(f"{path}: a critic starts from a reward model with one score, not {head.weight.shape[0]}")
    return Critic(model.base_model, model.config.get_text_config().hidden_size, None if head is None else head.weight)
