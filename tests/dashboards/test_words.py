"""How numbers and foreign text are written."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import words
from rlhf_eval.records import Estimate


def made(value: float = 0.5, *, n: int = 100, failed: int = 0, unreadable: int = 0) -> Estimate:
    settings = {"judge": "j", "unreadable": unreadable}
    return Estimate(name="e", value=value, low=value - 0.1, high=value + 0.1, n=n, failed=failed, settings=settings)


def test_a_number_says_its_interval_n_judge_and_failures() -> None:
    assert words.rate(made(0.542)) == "54.2 % [44.2, 64.2]"
    assert words.points(made(-0.05)) == "-5.0 points [-15.0, +5.0]"
    assert words.about(made(n=1200, failed=2, unreadable=3)) == "n = 1,200 prompts, judge j, 5 failed or unreadable"
    assert words.about(made(n=1), judge="other") == "n = 1 prompt, judge other, none failed"


@pytest.mark.parametrize(
    ("value", "half", "shown"),
    [
        (0.0556, 0.0565, "0.056 [-0.001, 0.112]"),
        (16.4, 4.5, "16.4 [11.9, 20.9]"),
        (1234.5, 200, "1,234 [1,034, 1,434]"),
        (0.07, 0.0001, "0.07000 [0.06990, 0.07010]"),
        (3.0, 0.0, "3 [3, 3]"),
        (3.0, math.inf, "3 [-inf, inf]"),
    ],
)
def test_a_number_has_the_decimals_that_its_interval_gives_a_meaning_to(value: float, half: float, shown: str) -> None:
    e = Estimate(name="e", value=value, low=value - half, high=value + half, n=9)
    assert words.number(e) == shown


def test_differences_have_their_sign_and_tiny_p_values_no_exponent() -> None:
    assert words.difference(made(0.5)) == "+0.50 [+0.40, +0.60]"
    assert (words.p_value(3e-151), words.p_value(0.0312)) == ("p < 0.0001", "p = 0.031")


@pytest.mark.parametrize(("n", "doubted"), [(1, True), (29, True), (30, False), (5000, False)])
def test_few_prompts_are_doubted_with_the_reason(n: int, doubted: bool) -> None:
    assert bool(words.doubt(n)) is doubted
    assert not doubted or str(n) in words.doubt(n)


def test_a_command_can_be_pasted() -> None:
    assert words.command("compare", "a b", "", "c", store="rlhf-eval-store") == "rlhf-eval compare 'a b' c"
    assert words.command("runs", store="my store").endswith("--store 'my store'")


@given(st.text())
def test_safe_text_has_no_control_and_no_direction_marks(text: str) -> None:
    shown = words.safe(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs", "M"])))
def test_safe_text_keeps_every_visible_character(text: str) -> None:
    assert words.safe(text) == text


def test_what_is_cut_is_said() -> None:
    assert words.safe("x" * 50, longest=10) == "x" * 10 + "\n[40 more characters are not shown]"
    assert words.short("a\nb  c") == "a b c"
    assert words.short("word " * 100, 20).endswith("…")
    assert len(words.short("word " * 100, 20)) <= 20
    told = [words.name(f"organisation/{'long-' * 20}name-{step}", 30) for step in (1000, 2000)]
    assert told[0] != told[1], "what tells two names apart is kept"
    assert {len(one) for one in told} == {30} and words.name("dpo", 30) == "dpo"


@pytest.mark.parametrize(
    "attack",
    [
        "![x](http://evil/x.png)",
        "[x](javascript:alert(1))",
        "<http://evil/>",
        "<img src=http://evil/x.png>",
        "<script>alert(1)</script>",
        "![x][r]\n\n[r]: http://evil/x.png",
        "[x]: http://evil/\n\n[x]",
        "<a href='http://evil'>x</a>",
        "| ![x](http://evil) |\n|---|\n| <b onclick=x> |",
        "> ![x](http://evil/x.png)\n\n- <iframe src=//evil>",
    ],
)
def test_markdown_never_makes_a_link_an_image_or_foreign_markup(attack: str) -> None:
    made_html = words.markdown(attack)
    tags = set(re.findall(r"<\s*/?\s*([a-zA-Z][a-zA-Z0-9]*)([^>]*)>", made_html))
    assert {name for name, _ in tags} <= {"p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "blockquote"}
    assert not any("=" in rest for _, rest in tags), "no attribute may stand in a tag"


def test_markdown_is_still_read() -> None:
    made_html = words.markdown("# Title\n\n**bold** and `a[0]`\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    for tag in ("<h1>", "<strong>", "<code>a[0]</code>", "<td>1</td>"):
        assert tag in made_html


@given(st.text(max_size=60))
def test_escaped_text_is_one_line_without_live_marks(text: str) -> None:
    shown = words.escaped(text)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]<>#|~$:!]", shown)
