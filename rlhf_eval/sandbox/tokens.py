"""The tokenizer of the sandbox: byte-level BPE trained on the world's own words.

It is lossless on any text (every byte has a token). Digits stand alone, and so do the listed words; the fixed phrases of
the pairwise judge's prompt are one token each, because a tiny model on a laptop pays for every token that it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rlhf_eval.records import Message, Prompt
from rlhf_eval.sandbox.corpus import WRAPPERS
from rlhf_eval.sandbox.tasks import items
from rlhf_eval.sandbox.world import prompts

VOCABULARY = 1280
PAD, END, ROLES = "<|pad|>", "<|end|>", ("<|system|>", "<|user|>", "<|assistant|>")
PIECES = r" ?[0-9]| ?[A-Za-z]+| ?[^\sA-Za-z0-9]+|\n+|\s"
"""What BPE may merge: a digit, a word, a run of signs (each with the space before it), newlines; nothing across them."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def judge_phrases() -> list[str]:
    """The fixed segments of the pairwise judge's prompt, as its default settings render them."""
    slots = ("\x01", "\x02", "\x03")
    segments: list[str] = []
    for message in ask_pairwise(Prompt.of(slots[0]), (slots[1], slots[2])):
        text = message.content
        for slot in slots:
            text = text.replace(slot, "\x00")
        segments += [segment for segment in text.split("\x00") if segment]
    return list(dict.fromkeys(segments))


def ask_pairwise(prompt: Prompt, answers: tuple[str, str]) -> tuple[Message, ...]:
    """The pairwise judge's own question about two answers, the first shown as Answer A, under its default settings."""
    from rlhf_eval.registry import load

    pairwise = load("judge", "pairwise")
    asked: tuple[Message, ...] = pairwise.ask(prompt, answers, pairwise.Config())
    return asked


def build_tokenizer(phrases: Sequence[str]) -> Any:
    """A fast tokenizer of 1280 tokens, with the chat template; ``phrases`` become one token each."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(phrases),
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_texts(phrases), trainer)
    core.add_tokens([AddedToken(phrase, normalized=False, special=False) for phrase in phrases])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _texts(phrases: Sequence[str]) -> Iterable[str]:
    yield from [*phrases] * 200
    for word in items():
        yield from (f"{word} {word} {word.upper()} {word.upper()}",) * 200
        yield from (word.upper(), word) * 100
    for wrapper in WRAPPERS:
        yield from (wrapper.format(" 7"), wrapper.upper()) * 50
    yield from ("[[A]]", "[[B]]") * 200
    for prompt in prompts("train", seed=1):
        yield from (prompt.text, str(prompt.reference))
