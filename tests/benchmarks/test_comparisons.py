"""Judgments become rows by judge, model and opponent: each once, from whichever side, failures counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rlhf_eval.benchmarks.comparisons import comparisons
from rlhf_eval.records import Completion, Judgment
from rlhf_eval.store.runs import Store

Write = Callable[..., str]


def answer(prompt: int, model: str) -> Completion:
    return Completion.of(prompt_id=f"p{prompt}", model=model, text=f"{model} {prompt}")


def verdict(prompt: int, a: str, b: str, share: float | None, *, judge: str = "j", swapped: bool = False) -> Judgment:
    ids = answer(prompt, a).id, answer(prompt, b).id
    return Judgment.of(
        prompt_id=f"p{prompt}", completion_ids=ids, judge=judge, order=(1, 0) if swapped else (0, 1),
        scores=() if share is None else (share, 1 - share), error="unparsed" if share is None else None,
    )  # fmt: skip


ANSWERS = [answer(k, model) for k in range(4) for model in "abc"]


def test_a_group_a_judge_model_and_opponent_in_a_fixed_order(store: Store, write: Write) -> None:
    made = [verdict(k, m, o, 1.0, judge=j) for k in range(2) for j in ("y", "x") for m, o in (("b", "c"), ("a", "c"))]
    write(ANSWERS, made)
    found = comparisons(store)
    assert [(g.judge, g.model, g.opponent) for g in found] == [(j, m, "c") for j in "xy" for m in "ab"]
    assert all(len(g.share) == 2 for g in found)
    assert [(g.judge, g.model) for g in comparisons(store, judge="y")] == [("y", "a"), ("y", "b")]
    assert comparisons(store, judge="z") == []


def test_a_row_knows_its_share_its_side_and_its_pair(store: Store, write: Write) -> None:
    write(ANSWERS, [verdict(0, "a", "b", 0.8), verdict(0, "a", "b", 0.6, swapped=True), verdict(1, "a", "b", 0.1)])
    (group,) = comparisons(store)
    rows = sorted(zip(group.prompt, group.share, group.shown_first, strict=True))
    assert rows == [
        ("p0", pytest.approx(0.6), False),
        ("p0", pytest.approx(0.8), True),
        ("p1", pytest.approx(0.1), True),
    ]
    assert len(set(group.pair)) == 2
    prompts, means = group.by_prompt()
    assert dict(zip(prompts, means, strict=True)) == pytest.approx({"p0": 0.7, "p1": 0.1})
    assert group.swapped() is None


def test_one_order_a_prompt_tells_the_sides(store: Store, write: Write) -> None:
    write(ANSWERS, [verdict(1, "a", "b", 0.1, swapped=True), verdict(0, "a", "b", 0.8)])
    (group,) = comparisons(store)
    sides = group.swapped()
    assert sides is not None
    assert dict(zip(group.by_prompt()[0], sides.tolist(), strict=True)) == {"p0": False, "p1": True}


def test_from_the_other_side_everything_is_turned(store: Store, write: Write) -> None:
    write(ANSWERS, [verdict(0, "a", "b", 0.8), verdict(1, "a", "b", None)])
    (group,) = comparisons(store)
    mirror = group.mirrored()
    assert (mirror.model, mirror.opponent, mirror.unreadable, mirror.lost) == ("b", "a", 1, 1)
    assert mirror.share == pytest.approx(1 - group.share)
    assert not mirror.shown_first.any()
    again = mirror.mirrored()
    assert np.allclose(again.share, group.share)
    assert (again.shown_first == group.shown_first).all()


def test_an_unreadable_judgment_is_counted_and_never_scored(store: Store, write: Write) -> None:
    half_lost = [verdict(0, "a", "b", 0.8), verdict(0, "a", "b", None, swapped=True)]
    write(ANSWERS, [*half_lost, verdict(1, "a", "b", None), verdict(1, "a", "b", None, swapped=True)])
    (group,) = comparisons(store)
    assert (group.share.tolist(), group.unreadable, group.lost) == ([0.8], 3, 1)
    assert group.share.dtype == np.float64


def test_all_unreadable_is_a_group_without_rows(store: Store, write: Write) -> None:
    write(ANSWERS, [verdict(0, "a", "b", None)])
    (group,) = comparisons(store)
    assert (len(group.share), group.unreadable, group.lost) == (0, 1, 1)
    assert group.by_prompt()[0].tolist() == []


def test_grades_and_a_models_games_with_itself_are_no_comparisons(store: Store, write: Write) -> None:
    grade = Judgment.of(prompt_id="p0", completion_ids=(ANSWERS[0].id,), judge="j", scores=(7.0,))
    twin = Completion.of(prompt_id="p0", model="a", text="again", sample=1)
    itself = Judgment.of(prompt_id="p0", completion_ids=(ANSWERS[0].id, twin.id), judge="j", scores=(1.0, 0.0))
    write([*ANSWERS, twin], [grade, itself])
    assert comparisons(store) == []


def test_the_same_judgment_in_two_runs_counts_once(store: Store, write: Write) -> None:
    made = [verdict(k, "a", "b", 0.8) for k in range(4)]
    write(ANSWERS, made)
    write(ANSWERS, made)
    (group,) = comparisons(store)
    assert len(group.share) == 4


def test_a_run_keeps_its_own_judgments_whatever_other_runs_hold(store: Store, write: Write) -> None:
    """``evaluate --fresh`` repeats the judgments of the run before it, under the same ids."""
    made = [verdict(k, "a", "b", 0.8) for k in range(4)]
    runs = [write(ANSWERS, made) for _ in range(3)]
    for run in runs:
        (group,) = comparisons(store, runs=[run])
        assert len(group.share) == 4
    (both,) = comparisons(store, runs=runs[:2])
    assert len(both.share) == 4
    assert comparisons(store, runs=[]) == []


@pytest.mark.parametrize("failure_first", [True, False])
def test_of_two_runs_the_one_that_could_be_read_speaks(store: Store, write: Write, failure_first: bool) -> None:
    ends = [None, 0.8] if failure_first else [0.8, None]
    for share in ends:
        write(ANSWERS, [verdict(k, "a", "b", share) for k in range(4)])
    (group,) = comparisons(store)
    assert (group.share.tolist(), group.unreadable) == ([0.8] * 4, 0)
