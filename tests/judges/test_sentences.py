"""Sentences end where a reader ends them; words are cut as the published counts cut them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.sentences import count_sentences, split_sentences, words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (" \n ", 0),
        ("No stop", 1),
        ("One. Two! Three? Four", 4),
        ("Dr. Smith met Mrs. Jones at 5 p.m. sharp. They left.", 2),
        ("It closes at 5 p.m. They left.", 2),
        ("It costs $3.50. Was it fair?", 2),
        ("J. R. R. Tolkien wrote it.", 1),
        ("Wait... what? Yes... No.", 3),
        ('He said "Stop." Then he left.', 2),
        ("He left (at last.) She stayed.", 2),
        ("What?! Really!!! Yes.", 3),
        ("a line\nand another\n\nand more", 1),
        ("1. apples: red. 2. pears: green.", 2),
        ("See e.g. the U.S. law. It says so.", 2),
        ("Visit example.com. It is new.", 2),
        ("**Bold end.** Next one.", 2),
    ],
)
def test_sentences_are_counted_as_a_reader_counts_them(text: str, count: int) -> None:
    assert count_sentences(text) == count


@given(st.text(st.sampled_from([*'ab.!?" \n)A1']), max_size=60))
def test_no_character_is_lost_or_made(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


@given(st.lists(st.sampled_from(["The dog barks.", "Is it late?", "Run!"]), min_size=1, max_size=20))
def test_sentences_add_up(sentences: list[str]) -> None:
    assert count_sentences(" ".join(sentences)) == len(sentences)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DON'T stop, it's JOHN'S", ["DO", "N'T", "stop", "it", "'s", "JOHN", "'S"]),
        ("COVID-19 and A/B (TESTS)!", ["COVID-19", "and", "A/B", "TESTS"]),
        ("*NASA's* U.S. plan -- GO", ["NASA", "'s", "U.S", "plan", "GO"]),
        ("...", []),
    ],
)
def test_words_are_cut_at_punctuation_and_contractions(text: str, expected: list[str]) -> None:
    assert words(text) == expected
