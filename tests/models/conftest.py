"""Tiny random checkpoints: real transformers folders, made in a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CORPUS = [
    "name three primes",
    "[[A]] is better than [[B]]",
    "sort the letters of banana",
    "twelve plus thirty is forty-two",
    "a stone, a leaf, an unfound door",
    "naïve café 你好 🙂",
] * 4
SHAPE = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
    "initializer_range": 0.3,  # large, so that answers vary
}


def _tokenizer(template: str | None) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|end|>", chat_template=template
    )


@pytest.fixture(scope="session")
def build() -> Callable[..., Path]:
    """Write a random Llama, or with ``scorer`` a Llama with a reward head, as a checkpoint folder."""

    def write(
        folder: Path, *, scorer: bool = False, template: str | None = TEMPLATE, seed: int = 0, **shape: Any
    ) -> Path:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

        torch.manual_seed(seed)
        kind = LlamaForSequenceClassification if scorer else LlamaForCausalLM
        kind(LlamaConfig(**{**SHAPE, **shape})).save_pretrained(folder)
        _tokenizer(template).save_pretrained(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def chatter(build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random chat model."""
    return build(tmp_path_factory.mktemp("models") / "chatter")


@pytest.fixture(scope="session")
def scorer(build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random reward model."""
    return build(tmp_path_factory.mktemp("models") / "scorer", scorer=True, num_labels=1)
