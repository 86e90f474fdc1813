"""What selections share: scores by completion, verdicts between two, and one case a prompt."""

from __future__ import annotations

import pytest

from rlhf_eval.records import Completion, Judgment, Prompt
from rlhf_eval.stages.pairs import Case, cases, labeler_of

PROMPT = Prompt.of("2+2?")


def compared(a: str, b: str, share: float | None, *, swapped: bool = False, judge: str = "j", prompt: str = PROMPT.id) -> Judgment:
    about = {"prompt_id": prompt, "completion_ids": (a, b), "judge": judge, "order": (1, 0) if swapped else (0, 1)}
    return Judgment.of(error="unparsed", **about) if share is None else Judgment.of(scores=(share, 1 - share), **about)  # type: ignore[arg-type]


def case(*judgments: Judgment) -> Case:
    return Case(prompt=PROMPT, completions=(), judgments=judgments)


def test_a_score_is_the_mean_over_readable_judgments() -> None:
    found = case(compared("a", "b", 0.8), compared("a", "b", 0.6, swapped=True), compared("c", "a", None)).scores()
    assert found == pytest.approx({"a": 0.7, "b": 0.3})
    assert case().scores() == {}


def test_the_share_between_two_is_read_from_either_side() -> None:
    met = compared("a", "b", 0.8), compared("b", "a", 0.4), compared("a", "b", None, swapped=True), compared("a", "c", 0.1)
    share, ids = case(*met).between("a", "b")
    assert share == pytest.approx((0.8 + 0.6) / 2)
    assert ids == (met[0].id, met[1].id)
    assert case(*met).between("b", "a")[0] == pytest.approx(0.3)
    assert case(*met).between("b", "c") == (None, ())


def test_every_prompt_is_a_case_with_its_own_records_in_a_fixed_order() -> None:
    other = Prompt.of("3+3?")
    made = [Completion.of(prompt_id=PROMPT.id, model=m, text="x", sample=s) for m in ("b", "a") for s in (1, 0)]
    verdicts = [compared("a", "b", 0.8, judge=judge) for judge in "zyx"]
    stranger = compared("a", "b", 1.0, prompt="elsewhere")
    first, second = cases([PROMPT, other], made, [*verdicts, stranger])
    assert [(c.model, c.sample) for c in first.completions] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert [j.id for j in first.judgments] == sorted(j.id for j in verdicts)
    assert (second.completions, second.judgments) == ((), ())
    assert labeler_of(first.judgments) == "x+y+z"
