"""Text and tokens: what is spelled together is the text, whatever the tokenizer does with spaces and bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers")

from rlhf_eval.errors import RequestFailed
from rlhf_eval.models.local.checkpoints import open_checkpoint
from rlhf_eval.models.local.tokens import Tokens
from rlhf_eval.records import Message

TEXTS = ["name three primes", "naïve café 你好 🙂 end", "[[A]]", " two  spaces ", "🙂🙂", ""]


@pytest.fixture(scope="module")
def bytewise(chatter: Path) -> Tokens:
    return Tokens.of(open_checkpoint(str(chatter), scheme="hf"), "hf:chatter")


@pytest.fixture(scope="module")
def spaced() -> Tokens:
    """A tokenizer of the SentencePiece kind: words begin with a mark that decoding drops at the start of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>")
    raw.train_from_iterator(["name three primes", "A is better than B", "a a a"] * 5, trainer)
    template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template
    )
    return Tokens(fast, "hf:spaced")


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_spell_the_text(bytewise, text):
    ids = bytewise.encode(text)
    assert bytewise.decode(ids) == text
    pieces = bytewise.pieces(ids, text)
    assert "".join(pieces) == text
    assert len(pieces) == len(ids)


def test_pieces_leave_out_special_tokens_and_end_in_broken_characters(bytewise):
    ids = [*bytewise.encode("a"), 4, *bytewise.encode("é")[:1]]
    text = bytewise.decode(ids)
    assert bytewise.pieces(ids, text) == ["a", "", "\N{REPLACEMENT CHARACTER}"]
    assert bytewise.spell(4) == "<|assistant|>"


def test_a_token_keeps_the_space_that_decoding_drops(spaced):
    ids = spaced.encode("name three")
    assert spaced.decode(ids) == "name three"
    assert spaced.decode(ids[-1:])[:1] != " "
    assert "".join(map(spaced.spell, ids)) == " name three"
    assert "".join(spaced.pieces(ids, "name three")) == "name three"


def test_a_choice_is_cut_before_the_first_stop(bytewise):
    ids = bytewise.encode("abcdef")
    chances = [(-0.5, ((token, -0.5),)) for token in ids]
    choice = bytewise.choice(ids, "stop", chances, ("e", "cd"))
    assert choice.text == "ab"
    assert "".join(t.token for t in choice.logprobs).startswith("ab")
    assert len(choice.logprobs) < len(ids)


def test_special_tokens_are_written_once(spaced):
    ids = spaced.render((Message("user", "name"),), answer=True)
    assert ids.count(spaced.tokenizer.bos_token_id) == 1


def test_a_template_that_refuses_fails_the_request_alone(spaced):
    spaced.tokenizer.chat_template = "{{ raise_exception('no system role here') }}"
    with pytest.raises(RequestFailed, match="bad_request: the chat template refuses: no system role here"):
        spaced.render((Message("user", "name"),), answer=True)
