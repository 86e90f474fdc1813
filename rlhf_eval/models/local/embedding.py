"""Sentence embeddings from a transformers checkpoint: the mean of its last hidden states, of unit length.

That is what all-MiniLM-L6-v2 and its kind were trained for; any encoder or language model on disk will do.

    embed("hf:sentence-transformers/all-MiniLM-L6-v2", ["one text", "another"])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.errors import UserError

SCHEME = "hf:"


def embed(spec: str, texts: Sequence[str], *, batch: int = 64) -> NDArray[np.float64]:
    """Embeddings of ``texts``, shape (texts, dimensions); raises UserError where ``spec`` names no loadable checkpoint."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    if not spec.startswith(SCHEME):
        raise UserError(f"the embedding model is '{spec}'; hf:PATH is wanted")
    path = spec.removeprefix(SCHEME)
    try:
        tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{spec} cannot be loaded: {str(error).splitlines()[0]}") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.eval().to(device)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    limit = int(getattr(model.config, "max_position_embeddings", 512))
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    found = np.empty((len(texts), int(model.config.hidden_size)))
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            inputs = tokenizer(
                [texts[n] for n in rows], return_tensors="pt", padding=True, truncation=True, max_length=limit
            )
            wanted = {name: inputs[name].to(device) for name in ("input_ids", "attention_mask")}
            hidden = model(**wanted).last_hidden_state.double()
            mask = wanted["attention_mask"].unsqueeze(-1).double()
            found[rows] = ((hidden * mask).sum(1) / mask.sum(1).clamp(min=1)).cpu().numpy()
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float64)
