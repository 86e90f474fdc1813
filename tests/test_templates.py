"""Templates are filled in one pass: what stands in a slot stays what it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval.errors import UserError
from rlhf_eval.records import Message, Prompt
from rlhf_eval.templates import conversation, fill, read, read_file

pieces = st.sampled_from([*"{}\\$%[]a\n", "{question}", "{answer_a}", "\\g<1>", "{{", "}}", "{0}"])
nasty = st.lists(pieces, max_size=12).map("".join)


@given(nasty, nasty, nasty)
def test_what_stands_in_a_slot_is_never_read_again(question: str, first: str, second: str) -> None:
    template = "Q: {question}\nA: {answer_a}\nB: {answer_b}\nEnd"
    filled = fill(template, {"question": question, "answer_a": first, "answer_b": second})
    assert filled == "Q: " + question + "\nA: " + first + "\nB: " + second + "\nEnd"


def test_braces_that_are_no_slot_stay() -> None:
    text = '{"json": {"a": [1]}} { question } {Question} {0} {} {{x}}'
    assert fill(text, {"x": "1"}) == '{"json": {"a": [1]}} { question } {Question} {0} {} {1}'


def test_a_slot_that_nobody_fills_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"\{anser\} that is not filled. Did you mean 'answer'\?"):
        fill("{anser}", {"answer": "x", "question": "y"})


@pytest.mark.parametrize(
    ("name", "slots"),
    [
        ("pairwise.txt", {"question", "answer_a", "answer_b"}),
        ("pairwise_reference.txt", {"question", "answer_a", "answer_b", "reference"}),
        ("pairwise_system.txt", {"verdicts"}),
        ("grade.txt", {"question", "answer"}),
        ("grade_reference.txt", {"question", "answer", "reference"}),
        ("grade_system.txt", {"rule", "low", "high"}),
    ],
)
def test_the_templates_that_ship_have_the_slots_that_the_judges_fill(name: str, slots: set[str]) -> None:
    text = read("judges", name)
    assert set(re.findall(r"\{(\w+)\}", text)) == slots
    assert not text.endswith("\n")


def test_a_template_of_ones_own_is_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Hello {question}\n", encoding="utf-8")
    assert read_file(str(path)) == "Hello {question}"
    with pytest.raises(UserError, match=r"none\.txt cannot be read"):
        read_file(str(tmp_path / "none.txt"))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"latin\.txt cannot be read"):
        read_file(str(tmp_path / "latin.txt"))


def test_a_judge_reads_a_single_question_bare_and_turns_with_their_speakers() -> None:
    assert conversation(Prompt.of("2+2?")) == "2+2?"
    turns = [
        Message("system", "Be brief."),
        Message("user", "2+2?"),
        Message("assistant", "4"),
        Message("user", "Sure?"),
    ]
    assert conversation(Prompt.of(turns)) == "System: Be brief.\n\nUser: 2+2?\n\nAssistant: 4\n\nUser: Sure?"
