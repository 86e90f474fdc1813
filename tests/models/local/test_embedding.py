"""Texts become vectors by a checkpoint: each by itself, whatever else is in its batch."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.models.local.embedding import embed
from rlhf_eval.sandbox import checkpoint

pytest.importorskip("torch")


def test_a_text_has_one_vector_whatever_stands_beside_it() -> None:
    spec = f"hf:{checkpoint('policy')}"
    texts = [f"sort the words {'pear ' * (k % 7)}{k}" for k in range(9)]
    rows = embed(spec, texts, batch=4)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0)
    np.testing.assert_allclose(embed(spec, texts[5:6])[0], rows[5], atol=1e-6)
    assert np.linalg.norm(rows[0] - rows[1]) > 1e-3


def test_what_gives_no_vectors_is_named() -> None:
    with pytest.raises(UserError, match="hf:PATH is wanted"):
        embed("openai:model", ["x"])
    with pytest.raises(UserError, match="cannot be loaded"):
        embed("hf:/no/such/checkpoint", ["x"])
