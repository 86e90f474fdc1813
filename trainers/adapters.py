"""Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685): put on, taken off for a reference, merged to be saved.

model = adapted(model, rank=16)
with adapter_off(model): ...    # the model that training started from
model = merged(model)           # a plain model again, the adapter in its weights
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor

from rlhf_eval.models.local.checkpoints import need

Task = Literal["CAUSAL_LM", "SEQ_CLS", "FEATURE_EXTRACTION"]


def adapted(model: Any, *, rank: int, alpha: float = 0.0, task: Task = "CAUSAL_LM", seed: int = 0) -> Any:
    """The model with an adapter on every linear layer but its head, and nothing else trained.

    ``alpha`` is the scale, 0 for twice the rank. The adapter starts at exactly 0: the model says what it said before.
    """
    peft = need("peft", "lora_rank")
    settings = peft.LoraConfig(r=rank, lora_alpha=alpha or 2 * rank, target_modules="all-linear", task_type=task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return peft.get_peft_model(model, settings)


def adapter_off(model: Any) -> AbstractContextManager[Any]:
    """Within it ``model``, which may be wrapped for several processes, is what it was without its adapter."""
    within = model.module if hasattr(model, "module") else model
    off: AbstractContextManager[Any] = within.disable_adapter()
    return off


def merged(model: Any) -> Any:
    """A plain model with the adapter in its weights; a model without one as it is."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def bare(model: Any) -> Any:
    """The model that an adapter sits on, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def learned(model: Any) -> dict[str, Tensor]:
    """The part of the model's state that training changes."""
    frozen = {name for name, weight in model.named_parameters(remove_duplicate=False) if not weight.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}
