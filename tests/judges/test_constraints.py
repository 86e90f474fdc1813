"""Each of the 25 instructions: a text that obeys it, and one that just misses."""

from __future__ import annotations

import time
from typing import Any

import pytest

from judges.constraints import CHECKS, follows, loosened
from rlhf_eval.errors import UserError
from tests.judges.injection import CORPUS

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["stone", "leaf"]}, "A Leaf on a stone.", "A leaf."),
    ("keywords:frequency", {"keyword": "ha", "relation": "at least", "frequency": 3}, "Ha ha ha", "ha ha"),
    ("keywords:frequency", {"keyword": "ha", "relation": "less than", "frequency": 3}, "ha ha", "ha ha ha"),
    ("keywords:forbidden_words", {"forbidden_words": ["sun"]}, "Sunny", "The Sun!"),
    ("keywords:letter_frequency", {"letter": "Z", "let_frequency": 2, "let_relation": "at least"}, "zZ", "z"),
    ("language:response_language", {"language": "de"}, "Der Hund ist nicht im Haus.", "The dog is not in the house."),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 3}, "One. Two.", "One. Two. Three."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo", "one\n***\ntwo\n***\nthree"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one *** two ***", "one *** *** two"),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "a b-c", "a b"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        "One.\n\n\"then, two.",
        "One.\n\nThence two.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] [address]", "[name"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np. s. one more", "Bye. PS one more"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S two", "P.S. one"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n  - two", "* one\n** two"),
    ("detectable_format:constrained_response", {}, "Well: My answer is maybe.", "My answer is perhaps."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and * *"),
    ("detectable_format:multiple_sections", {"section_spliter": "Pt", "num_sections": 2}, "Pt 1 x Pt2 y", "Pt 1 pt 2"),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', '{"a": 1,}'),
    ("detectable_format:title", {}, "<<My title>>\ntext", "<< >> and <title>"),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi. "}, " say hi. Hi!", "Hi! Say hi."),
    ("startend:end_checker", {"end_phrase": "The end."}, '"So it was. the END."', "The end. Or not?"),
    ("startend:quotation", {}, ' "quoted" ', '"'),
    ("change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 2}, "WE DO it", "WE do"),
    ("change_case:english_capital", {}, "THIS IS NOT THE END.", "THIS IS NOT THE End."),
    ("change_case:english_lowercase", {}, "this is not the end.", "das ist nicht das ende."),
    ("punctuation:no_comma", {}, "one; two", "one, two"),
]  # fmt: skip


@pytest.mark.parametrize(("instruction", "settings", "obeys", "misses"), CASES)
def test_an_instruction_holds_or_does_not(instruction: str, settings: dict[str, Any], obeys: str, misses: str) -> None:
    assert follows(instruction, settings, obeys)
    assert not follows(instruction, settings, misses)
    assert not follows(instruction, settings, " \n ")


def test_every_published_instruction_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(CHECKS)
    assert len(CHECKS) == 25


def test_no_text_breaks_a_check_or_keeps_it_busy() -> None:
    for name, hostile in CORPUS.items():
        start = time.process_time()
        for instruction, settings, _, _ in CASES:
            assert follows(instruction, settings, hostile) in (True, False), name
        assert time.process_time() - start < 4, name


def test_null_settings_count_as_absent_and_a_missing_one_is_named() -> None:
    assert follows("punctuation:no_comma", {"num_words": None}, "no pause")
    with pytest.raises(UserError, match=r"number_words needs the setting 'relation'"):
        follows("length_constraints:number_words", {"num_words": 3, "relation": None}, "one two three")
    with pytest.raises(UserError, match=r"relation is 'exactly'; allowed"):
        follows("length_constraints:number_words", {"num_words": 3, "relation": "exactly"}, "one two three")
    with pytest.raises(UserError, match=r"no instruction 'punctuation:no_commas'. Did you mean 'punctuation:no_comma'"):
        follows("punctuation:no_commas", {}, "x")


def test_a_keyword_that_is_no_regular_expression_stands_for_itself() -> None:
    assert follows("keywords:existence", {"keywords": ["*note:"]}, "A *Note: this.")
    assert not follows("keywords:existence", {"keywords": ["*note:"]}, "A note: this.")


def test_the_loose_metric_reads_a_text_in_eight_ways() -> None:
    readings = loosened("Sure!\n*one* two\nBye")
    assert len(readings) == 8
    assert readings[0] == "Sure!\n*one* two\nBye"
    assert set(readings[1:4]) == {"*one* two\nBye", "Sure!\n*one* two", "*one* two"}
    assert "one two" in readings
