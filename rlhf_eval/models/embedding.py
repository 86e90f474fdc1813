"""Texts as vectors, by a checkpoint: the mean of its last hidden states, each text by itself.

embed("hf:sentence-transformers/all-MiniLM-L6-v2", ["one text", "another"])    # shape (2, 384)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.errors import UserError
from rlhf_eval.registry import install_hint

BATCH = 32
LONGEST = 512
"""Tokens of a text that are read."""


def embed(spec: str, texts: Sequence[str]) -> NDArray[np.float64]:
    """One row a text, shape (texts, width); raises UserError where the checkpoint cannot be loaded."""
    scheme, _, path = spec.partition(":")
    if scheme != "hf" or not path:
        raise UserError(f"'{spec}' gives no vectors; write hf:PATH, or the dotted path of a module with embed(texts)")
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise UserError(f"embedding needs the package '{error.name}': {install_hint(error.name)}") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    except (OSError, ValueError) as error:
        raise UserError(f"{spec}: cannot be loaded: {str(error).splitlines()[0]}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    # Texts of like length share a batch, so that little is padded.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    rows: dict[int, NDArray[np.float64]] = {}
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            tokens = tokenizer(
                [texts[i] or " " for i in some], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
            )
            mask = tokens["attention_mask"]
            hidden = model(input_ids=tokens["input_ids"], attention_mask=mask).last_hidden_state
            weight = mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
            rows |= dict(zip(some, mean.double().numpy(), strict=True))
    return np.stack([rows[i] for i in range(len(texts))]) if rows else np.empty((0, 0))
