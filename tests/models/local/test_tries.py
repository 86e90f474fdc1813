"""Tries of choices: every spelling of a choice, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval.models.local.tries import END, Trie, trie_of

LETTERS = ["a", "b", "ab", "ba", "aab", "[", "[["]
SPELLED = {text: [10 + i] for i, text in enumerate(LETTERS)}
TEXT = {10 + i: text for i, text in enumerate(LETTERS)}


def sentences(node: Trie) -> Iterator[tuple[int, ...]]:
    if END in node:
        yield ()
    for token, child in node.items():
        if token != END:
            yield from ((token, *rest) for rest in sentences(child))


def spellings(text: str) -> Iterator[tuple[int, ...]]:
    if not text:
        yield ()
    for token, piece in TEXT.items():
        if text.startswith(piece):
            yield from ((token, *rest) for rest in spellings(text[len(piece) :]))


@given(st.sets(st.text("ab[", min_size=1, max_size=5), min_size=1, max_size=4))
def test_a_trie_holds_every_spelling_once(choices):
    own = {choice: next(spellings(choice)) for choice in choices}
    found = list(sentences(trie_of(own, SPELLED)))
    assert sorted(found) == sorted(s for choice in choices for s in spellings(choice))


def test_the_tokenizers_own_spelling_is_always_allowed():
    trie = trie_of({"ab": [99, 11]}, SPELLED)
    assert set(sentences(trie)) == {(12,), (10, 11), (99, 11)}


def test_what_cannot_be_completed_is_left_out():
    assert trie_of({"ax": [98]}, SPELLED) == {98: {END: {}}}


def test_long_choices_are_no_trouble():
    choice = "ab" * 2000
    node = trie_of({choice: [12] * 2000}, SPELLED)
    for _ in range(2000):
        node = node[12]
    assert node == {END: {}}
