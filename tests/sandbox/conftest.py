"""The committed checkpoints, loaded once."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_eval.sandbox import checkpoint


def load(name: str) -> Any:
    """The model of a committed checkpoint, read from its folder and nowhere else."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint(name), local_files_only=True).eval()


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint("policy"), local_files_only=True)


@pytest.fixture(scope="session")
def policy() -> Any:
    return load("policy")


@pytest.fixture(scope="session")
def judge() -> Any:
    return load("judge")
