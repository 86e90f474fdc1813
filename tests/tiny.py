"""A language model and a tokenizer small enough to make anew in every test, and rows for them."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlhf_eval.records import Completion, Demonstration, PreferencePair, Prompt
from rlhf_eval.sandbox import checkpoint as sandbox_checkpoint
from trainers.data import Example

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "two", "plus", "is", "four", "please"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }}{% if m['role'] == 'assistant' %} </s>{% endif %} "
    "{% endfor %}{% if add_generation_prompt %}<|assistant|> {% endif %}"
)


def tokenizer(
    *, template: str = TEMPLATE, eos: str | None = "</s>", pad: str | None = "<pad>"
) -> PreTrainedTokenizerFast:
    specials = ["<pad>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*specials, "<unk>", *WORDS])}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens(specials)
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=eos, pad_token=pad, unk_token="<unk>")
    made.chat_template = template
    return made


def config(vocabulary: int = 64, **more: object) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, eos_token_id=1, initializer_range=0.2,
        attn_implementation="sdpa", **more,
    )  # fmt: skip


def checkpoint(folder: Path, *, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    LlamaForCausalLM(config()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@cache
def shallow_policy() -> TemporaryDirectory[str]:
    """The sandbox's policy with two of its five layers: it knows the words and talks nonsense, in half the time."""
    whole = sandbox_checkpoint("policy")
    model = AutoModelForCausalLM.from_pretrained(whole)
    model.model.layers, model.config.num_hidden_layers = model.model.layers[:2], 2
    folder = TemporaryDirectory()  # which lasts as long as this process
    model.save_pretrained(folder.name)
    AutoTokenizer.from_pretrained(whole).save_pretrained(folder.name)
    return folder


def examples(count: int, answers: int = 2, *, seed: int = 0) -> list[Example]:
    """Ragged rows of random tokens."""
    draw = torch.Generator().manual_seed(seed)

    def tokens(least: int, most: int) -> tuple[int, ...]:
        length = int(torch.randint(least, most, (1,), generator=draw))
        return tuple(torch.randint(2, 64, (length,), generator=draw).tolist())

    return [
        Example(
            id=f"row{i}", prompt=tokens(3, 20), answers=tuple(tokens(1, 9) for _ in range(answers)), margin=i / 2 + 0.5
        )
        for i in range(count)
    ]


def _text(seed: int, words: int) -> str:
    draw = torch.Generator().manual_seed(seed)
    return " ".join(WORDS[int(i)] for i in torch.randint(0, len(WORDS), (words,), generator=draw))


def pairs(count: int, probability: float = 1.0) -> list[PreferencePair]:
    made = []
    for i in range(count):
        prompt = Prompt.of(_text(i, 2 + i % 5))
        texts = [f"{WORDS[side]} {_text(1000 * (side + 1) + i, 1 + (i * (side + 2)) % 6)}" for side in range(2)]
        chosen, rejected = (
            Completion.of(prompt_id=prompt.id, model="m", text=text, sample=side) for side, text in enumerate(texts)
        )
        made.append(
            PreferencePair.of(
                prompt=prompt, chosen=chosen, rejected=rejected, probability=probability, margin=1.0 + i % 3,
                labeler="test", rule="test",
            )
        )  # fmt: skip
    return made


def demonstrations(count: int) -> list[Demonstration]:
    made = []
    for i in range(count):
        prompt = Prompt.of(_text(i, 2 + i % 5))
        answer = Completion.of(prompt_id=prompt.id, model="m", text=_text(5000 + i, 1 + i % 6))
        made.append(Demonstration.of(prompt=prompt, completion=answer, score=1.0, labeler="test", rule="test"))
    return made


def forked(work: Callable[[], object]) -> int:
    """The number of a fork of this process that does ``work``; its exit code is 0 if that returns nothing, 0 or False."""
    child = os.fork()
    if not child:
        code = 70
        try:
            code = int(bool(work()))
        finally:
            if code == 70:
                traceback.print_exc()
            os._exit(code)
    return child


def killed(work: Callable[[], object]) -> bool:
    """Do ``work`` in a fork of this process; whether SIGKILL ended it."""
    return os.WTERMSIG(os.waitpid(forked(work), 0)[1]) == signal.SIGKILL
