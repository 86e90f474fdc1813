"""A checkpoint's weights in memory: on which device, in which precision, and how many tokens a batch may cache.

model = load_weights(open_checkpoint("runs/dpo/final", scheme="hf"), torch.float32, "hf:runs/dpo/final")
"""

from __future__ import annotations

import os
from typing import Any

import torch

from rlhf_eval.errors import UserError
from rlhf_eval.models.local.checkpoints import Checkpoint, first_line, need, quiet

LAYERS = frozenset({"full_attention", "sliding_attention"})
"""Kinds of attention layers whose cache can be batched here."""


def load_weights(checkpoint: Checkpoint, dtype: Any, spec: str) -> Any:
    """The model itself; refuses weights that do not fill it, which transformers would fill with noise."""
    transformers = need("transformers", spec)
    kinds = getattr(checkpoint.config.get_text_config(), "layer_types", None) or ()
    if odd := sorted(set(kinds) - LAYERS):
        raise UserError(f"{spec} has layers of kind {', '.join(odd)}, which this door cannot batch; use vllm: for it")
    chats = checkpoint.kind == "chat"
    auto = transformers.AutoModelForCausalLM if chats else transformers.AutoModelForSequenceClassification
    try:
        with quiet():
            model, report = auto.from_pretrained(
                checkpoint.path, dtype=dtype, output_loading_info=True, **checkpoint.origin
            )
    except Exception as error:  # corrupt files raise many types
        raise UserError(f"{spec} cannot be loaded: {first_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"{spec} lacks {len(missing)} weights of a {type(model).__name__}, the first being {missing[0]}"
        )
    return model


def device_of(device: str, spec: str) -> Any:
    """The torch device that a setting names; raises UserError where there is none such."""
    try:
        found = torch.device(
            "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
        )
    except RuntimeError as error:
        raise UserError(f"{spec}: there is no device '{device}'; use auto, cpu, cuda or cuda:0") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(f"{spec}: device is {device}, but torch sees {torch.cuda.device_count()} GPUs; use auto or cpu")
    return found


def dtype_of(dtype: str, device: Any) -> Any:
    """The torch precision that a setting names; half precision is slow on a CPU, so auto avoids it there."""
    if dtype == "auto":
        return "auto" if device.type == "cuda" else torch.float32
    return getattr(torch, dtype)


def affordable(model: Any) -> int:
    """Cache columns that a quarter of the free memory holds, and no more than 262,144."""
    text = model.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    column = 2 * text.num_hidden_layers * heads * size * model.dtype.itemsize
    if model.device.type == "cuda":
        free = torch.cuda.mem_get_info(model.device)[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(min(max(free // (4 * column), 1024), 1 << 18))


def ends_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends an answer: as generation config, model config and tokenizer name them."""
    named = [getattr(model, "generation_config", None), model.config, tokenizer]
    ends: set[int] = set()
    for place in named:
        value = getattr(place, "eos_token_id", None)
        ends.update([value] if isinstance(value, int) else value or ())
    return frozenset(ends)
