"""Final answers: the last one counts, in the form asked for, and equal values are equal however they are written."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import answers


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3 + 4 = 7", "7"),
        ("It is 1,234.50 in all.", "1234.50"),
        ("-5 degrees", "-5"),
        ("It costs $18.", "18"),
        ("half: 1/2", "1/2"),
        ("a list: 1,2,3", "3"),
        ("1,2345", "2345"),
        ("version v2 of x9", None),
        (".5", ".5"),
        ("no digits", None),
    ],
)
def test_the_last_number_is_read_as_it_is_written(text: str, found: str | None) -> None:
    assert answers.last_number(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so 3+4\nA: 7", "7"),
        ("so\n#### 1,234", "1234"),
        ("A: 5\nno, wait\nA: 7 ", "7"),
        ("The answer A: 7", None),
        ("7", None),
        ("A:", ""),
    ],
)
def test_the_gsm8k_answer_stands_at_the_start_of_a_line(text: str, found: str | None) -> None:
    assert answers.gsm8k_answer(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{4}", "4"),
        (r"\boxed{3} no \boxed{ \frac{1}{2} }.", r"\frac{1}{2}"),
        (r"\boxed{\text{a {b} c}}", r"\text{a {b} c}"),
        (r"\boxed{4", None),
        ("4", None),
    ],
)
def test_a_box_closes_where_its_braces_balance(text: str, found: str | None) -> None:
    assert answers.last_boxed(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is (C).", "C"),
        ("Answer: B", "B"),
        ("I first chose option A, but the answer is **D**.", "D"),
        (r"so \boxed{B}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        ("[[A]]", "A"),
        ("Options (A) and (B) fail, so (C)", "C"),
        ("It follows.\nC", "C"),
        ("C.", "C"),
        ("A dog is an animal", None),
        ("The answer is a dog.", None),
        ("The answer is Z", None),
        ("The answer is I'm not sure", None),
        ("", None),
    ],
)
def test_an_option_must_be_named_as_one(text: str, found: str | None) -> None:
    assert answers.last_letter(text, "ABCDI") == found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,000", Fraction(1000)),
        ("7.50", Fraction(15, 2)),
        (" -3 ", Fraction(-3)),
        ("1/3", Fraction(1, 3)),
        (r"-\frac{1}{3}", Fraction(-1, 3)),
        (r"\dfrac{2}{4}", Fraction(1, 2)),
        ("25%", Fraction(1, 4)),
        ("$18", Fraction(18)),
        ("7.", Fraction(7)),
        ("1/0", None),
        ("seven", None),
        ("", None),
        ("1e5", None),
    ],
)
def test_a_number_has_one_exact_value(text: str, value: Fraction | None) -> None:
    assert answers.number(text) == value


@given(st.fractions(max_denominator=10_000), st.integers(0, 3))
def test_numbers_are_equal_however_they_are_written(value: Fraction, zeros: int) -> None:
    written = f"{value.numerator}/{value.denominator}"
    assert answers.number(written) == value
    assert answers.same_number(f"{value.numerator}.{'0' * zeros}", f"{value.numerator:,}")
    assert not answers.same_number(written, f"{value.numerator + 1}/{value.denominator}")


def test_a_tolerance_is_relative_to_the_truth() -> None:
    assert answers.same_number("99", "100", 0.01)
    assert not answers.same_number("98.9", "100", 0.01)
    assert not answers.same_number("about", "100", 1.0)


@pytest.mark.parametrize(
    ("given_", "truth", "same"),
    [
        (r"\left( 3, 4 \right)", "(3,4)", True),
        (r"\frac12", r"\dfrac{1}{2}", True),
        (r"x^2 + 1", "x^2+1", True),
        (r"\text{Evelyn}", "Evelyn", True),
        ("90^\\circ", "90", True),
        ("x^2+1", "x^2-1", False),
        ("0.5", r"\frac{1}{2}", True),
    ],
)
def test_expressions_are_compared_without_their_markup(given_: str, truth: str, same: bool) -> None:
    assert answers.same_expression(given_, truth) is same
