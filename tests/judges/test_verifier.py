"""Answers are right or wrong by program; what a kind needs and a prompt lacks is the user's mistake."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from judges.verifier import Config, judge, program_in, verify, with_tests
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Prompt
from tests.judges.injection import CORPUS


def score(text: str, *, reference: str | None = None, metadata: dict[str, Any] | None = None, **settings: Any) -> float:
    prompt = Prompt.of("question", reference=reference, metadata=metadata)
    answer = Completion.of(prompt_id=prompt.id, model="m", text=text)
    return asyncio.run(judge(prompt, (answer,), None, Config(**settings))).scores[0]


@pytest.mark.parametrize(
    ("kind", "reference", "right", "wrong"),
    [
        ("exact", "Paris", " paris. ", "Paris, France"),
        ("number", "The total is 1,000", "It is 1000.00", "1000 or 1001"),
        ("gsm8k", "reasons\n#### 1,000", "so\nA: 1000", "1000"),
        ("gsm8k", "18", "#### 18", "#### 18.5"),
        ("boxed", r"thus \boxed{\frac{1}{2}}", r"\boxed{0.5}", "0.5"),
        ("boxed", "x+1", r"\boxed{x + 1}", r"\boxed{x+1} or \boxed{x}"),
        ("letter", "(C)", "The answer is C", "The answer is (B), not (C)?"),
        ("letter", "c", "C", "A cat"),
    ],
)
def test_an_answer_is_right_or_wrong(kind: Any, reference: str, right: str, wrong: str) -> None:
    assert score(right, reference=reference, kind=kind) == 1
    assert score(wrong, reference=reference, kind=kind) == 0


def test_a_number_may_be_as_far_off_as_it_is_told() -> None:
    assert score("99", reference="100", kind="number") == 0
    assert score("99", reference="100", kind="number", tolerance=0.01) == 1


def test_a_pattern_is_found_or_compares_its_group() -> None:
    assert score("call 555-1234", kind="regex", pattern=r"\d{3}-\d{4}") == 1
    assert score("call me", kind="regex", pattern=r"\d{3}-\d{4}") == 0
    assert score("x=1 x=2", reference="2", kind="regex", pattern=r"x=(\d)") == 1
    assert score("x=2 x=1", reference="2", kind="regex", pattern=r"x=(\d)") == 0
    with pytest.raises(UserError, match="has a group"):
        score("x=2", kind="regex", pattern=r"x=(\d)")


def test_json_must_obey_the_prompts_schema() -> None:
    task = {"json_schema": {"type": "object", "required": ["a"]}}
    assert score('{"a": 1}', metadata=task, kind="json") == 1
    assert score('```json\n{"a": 1}\n```', metadata=task, kind="json") == 1
    assert score('{"b": 1}', metadata=task, kind="json") == 0
    assert score('Here: {"a": 1}', metadata=task, kind="json") == 0
    assert score("[" * 100_000, metadata=task, kind="json") == 0


def test_code_passes_its_tests_or_not() -> None:
    task = {"entry_point": "double", "tests": "def check(f):\n    assert f(3) == 6"}
    good = "Sure:\n```python\ndef double(x):\n    return 2 * x\n```\nFor instance:\n```python\nprint(double(2))\n```"
    assert score(good, metadata=task, kind="code", allow_code=True) == 1
    assert score("def double(x): return x", metadata=task, kind="code", allow_code=True) == 0
    assert score("import sys; sys.exit(0)", metadata=task, kind="code", allow_code=True) == 0
    listed = {"tests": ["assert double(1) == 2", "assert double(0) == 0"]}
    assert score("def double(x): return 2 * x", metadata=listed, kind="code", allow_code=True) == 1


def test_code_does_not_run_unless_it_is_allowed_to() -> None:
    with pytest.raises(ValueError, match="set allow_code=true"):
        Config(kind="code")


def test_the_program_of_an_answer_is_the_block_that_defines_what_is_asked_for() -> None:
    text = "```python\ndef f(): pass\n```\nand\n```\nf()\n```"
    assert program_in(text, "f") == "def f(): pass\n"
    assert program_in(text) == "f()\n"
    assert program_in("x = 1", "f") == "x = 1"
    assert with_tests("p", ["a", "b"]) == "p\n\na\nb\n"
    assert with_tests("p", "def check(f): pass", "g").endswith("\ncheck(g)\n")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "exact"}, "has no reference"),
        ({"kind": "json"}, "has no 'json_schema'"),
        ({"kind": "code", "allow_code": True}, "has no 'tests'"),
    ],
)
def test_a_prompt_that_lacks_the_truth_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        score("x", **settings)
    with pytest.raises(UserError, match="holds no number"):
        score("7", reference="seven", kind="number")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"kind": "regex"}, "needs a pattern"), ({"kind": "regex", "pattern": "("}, "no regular expression"),
     ({"tolerance": -1}, "at least 0")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**settings)


@pytest.mark.parametrize("kind", ["exact", "number", "gsm8k", "boxed", "letter"])
def test_hostile_text_is_wrong_and_breaks_nothing(kind: Any) -> None:
    for name, hostile in CORPUS.items():
        assert not verify(Prompt.of("q", reference="#### 5\n\\boxed{5}"), hostile, Config(kind=kind)).right, name


@pytest.mark.groundtruth
def test_the_published_gsm8k_verdicts_are_reproduced(groundtruth: Path) -> None:
    """5,276 verdicts: 1,319 questions answered by four systems."""
    rows = groundtruth / "grade-school-math" / "grade_school_math" / "data" / "example_model_solutions.jsonl"
    same = 0
    for line in rows.read_text().splitlines():
        row = json.loads(line)
        prompt = Prompt.of(row["question"], reference=row["ground_truth"])
        solved = [row[name] for name in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")]
        same += sum(verify(prompt, s["solution"], Config(kind="gsm8k")).right == s["is_correct"] for s in solved)
    assert same == 5276
