"""Token rows: the boundary, the masks, the account of rows, and one clear line for each thing that cannot be trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import TEMPLATE, demonstrations, pairs, tokenizer

from rlhf_eval.errors import UserError
from rlhf_eval.records import Demonstration, Message
from trainers.data import Limit, Tokenized, encode_demonstrations, encode_pairs

TOKENS = Tokenized(tokenizer(), "tiny")
LONG = Limit(max_length=200)


def turns(*said: str) -> tuple[Message, ...]:
    return tuple(Message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(said))


def demonstration(prompt: tuple[Message, ...], answer: str) -> Demonstration:
    return replace(demonstrations(1)[0], prompt=prompt, completion=(Message("assistant", answer),))


def words(ids: tuple[int, ...]) -> str:
    return str(TOKENS.tokenizer.decode(list(ids)))


def scored(row) -> str:
    (answer,) = row.answers
    mask = row.masks[0] if row.masks else (True,) * len(answer)
    return words(tuple(t for t, counts in zip(answer, mask, strict=True) if counts))


def test_prompt_and_answers_part_where_the_answer_begins() -> None:
    (pair, *_) = pairs(1)
    (row,), account = encode_pairs([pair], TOKENS, LONG)
    assert words(row.prompt) == f"<|user|> {pair.prompt[0].content} <|assistant|>"
    assert [words(a) for a in row.answers] == [f"{side[0].content} </s>" for side in (pair.chosen, pair.rejected)]
    assert (row.probability, row.margin, row.labeler) == (pair.probability, pair.margin, "test")
    assert (account.rows, account.cut, account.left_out, account.unstable) == (1, 0, {}, 0)


def test_masks_by_turn() -> None:
    talk = demonstration(turns("two plus two", "four", "is a fox lazy"), "the dog is")
    found = {}
    for trained in ("completion", "final_turn", "all_turns"):
        (row,), _ = encode_demonstrations([talk], TOKENS, LONG, trained)
        found[trained] = scored(row)
    assert found == {
        "completion": "the dog is </s>",
        "final_turn": "the dog is </s>",
        "all_turns": "four </s> the dog is </s>",
    }


def test_a_template_that_changes_the_end_of_the_prompt_moves_the_boundary_and_is_counted() -> None:
    odd = TEMPLATE.replace("<|assistant|> {% endif %}", "<|assistant|> please {% endif %}")
    rows, account = encode_pairs(pairs(3), Tokenized(tokenizer(template=odd), "odd"), LONG)
    assert account.unstable >= 2
    assert "answer starts where they part" in account.notes()[-1]
    assert all(words(row.prompt).endswith("<|assistant|>") for row in rows)


def test_long_rows_lose_the_left_of_their_prompt_and_are_counted() -> None:
    several = pairs(6)
    whole, _ = encode_pairs(several, TOKENS, LONG)
    most = max(map(len, whole)) - 2
    kept, account = encode_pairs(several, TOKENS, Limit(max_length=most))
    assert account.cut == sum(len(row) > most for row in whole) > 0
    assert all(len(row) <= most and row.answers == before.answers for row, before in zip(kept, whole, strict=True))
    assert all(before.prompt[-len(row.prompt) :] == row.prompt for row, before in zip(kept, whole, strict=True))


def test_a_long_row_may_be_refused_instead() -> None:
    with pytest.raises(UserError, match=r"row \w+ has \d+ tokens and max_length is 6; raise max_length, or"):
        encode_pairs(pairs(6), TOKENS, Limit(max_length=6, too_long="refuse"))


def test_a_row_longer_than_the_model_reads_is_refused() -> None:
    with pytest.raises(UserError, match=r"a row has \d+ tokens and small reads at most 6; set max_length=6"):
        encode_pairs(pairs(6), Tokenized(tokenizer(), "small", context=6), LONG)


def test_an_answer_that_does_not_fit_is_left_out_with_its_reason() -> None:
    talk = [demonstration(turns("fox"), "the " * 30), demonstration(turns("fox"), "dog")]
    rows, account = encode_demonstrations(talk, TOKENS, Limit(max_length=12))
    assert len(rows) == account.rows == 1
    assert account.left_out == {"the answer alone is longer than max_length": 1}


def test_empty_and_equal_answers_are_left_out_with_their_reasons() -> None:
    one, two, three = pairs(3)
    object.__setattr__(one, "rejected", one.chosen)  # a record refuses this itself; a foreign file may not
    empty = replace(two, rejected=(Message("assistant", " "),))
    rows, account = encode_pairs([one, empty, three], TOKENS, LONG)
    assert len(rows) == 1
    assert account.left_out == {"chosen equals rejected": 1, "an answer is empty": 1}
    assert account.notes()[0] == "1 rows left out: an answer is empty"


def test_nothing_left_is_an_error_that_says_why() -> None:
    (pair,) = pairs(1)
    with pytest.raises(UserError, match=r"nothing to train on: an answer is empty \(1\)"):
        encode_pairs([replace(pair, chosen=(Message("assistant", ""),))], TOKENS, LONG)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"template": ""}, "no chat template"),
        ({"eos": None}, "names no eos_token"),
    ],
)
def test_a_tokenizer_unfit_for_training(settings, said) -> None:
    with pytest.raises(UserError, match=said):
        Tokenized(tokenizer(**settings), "here")


def test_a_template_that_never_ends_an_answer() -> None:
    endless = Tokenized(tokenizer(template=TEMPLATE.replace(" </s>", "")), "here")
    with pytest.raises(UserError, match="no answer ends with the end-of-sequence token"):
        encode_pairs(pairs(2), endless, LONG)


def test_without_a_pad_token_the_end_of_sequence_pads() -> None:
    tokens = Tokenized(tokenizer(pad=None), "here")
    assert tokens.pad == tokens.eos


def test_a_tokenizer_larger_than_the_model() -> None:
    with pytest.raises(UserError, match=r"the tokenizer has 20 tokens and the model 7 embeddings"):
        TOKENS.check_vocabulary(7)
    TOKENS.check_vocabulary(64)


def test_a_template_that_rewrites_history_cannot_be_masked_by_turn() -> None:
    forgets = TEMPLATE.replace("{{ m['content'] }}", "{% if loop.last %}{{ m['content'] }}{% endif %}", 1)
    tokens = Tokenized(tokenizer(template=forgets), "here")
    with pytest.raises(UserError, match="rewrites earlier turns"):
        encode_demonstrations([demonstration(turns("a", "two", "is"), "four")], tokens, LONG, "all_turns")
