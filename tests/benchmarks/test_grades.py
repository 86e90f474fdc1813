"""Boards of mean grades: MT-Bench's own numbers, clusters of turns, what could not be read, and who is really first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlhf_eval.benchmarks import mt_bench
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.benchmarks.grades import grade_boards, graded, turns
from rlhf_eval.benchmarks.standings import categories
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, Prompt, Usage
from rlhf_eval.store.runs import Store

QUALITY = {"strong": 8.0, "twin": 7.95, "weak": 5.0}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three models on 40 questions of two turns, graded once each; one grade cannot be read, one answer is a probe's."""
    rng = np.random.default_rng(0)
    made = Store(tmp_path_factory.mktemp("grades") / "store")
    with made.begin("load", {}, inputs={}, seed=0, versions={}) as run:
        for k in range(40):
            hard = rng.normal(0, 1)
            for turn in (1, 2):
                prompt = Prompt.of(
                    f"Question {k}, turn {turn}?", category=("maths", "writing")[k % 2], source="mt", key=str(k),
                    metadata={"turn": turn},
                )  # fmt: skip
                run.append("prompts", prompt)
                for model, quality in QUALITY.items():
                    answer = Completion.of(prompt_id=prompt.id, model=model, text=f"{model} {k} {turn}")
                    run.append("completions", answer)
                    grade = float(np.clip(quality + hard + rng.normal(0, 0.5), 1, 10))
                    bad = model == "weak" and k == 0 and turn == 1
                    verdict = Judgment.of(
                        prompt_id=prompt.id, completion_ids=(answer.id,), judge="grader", scores=() if bad else (grade,),
                        error="unparsed: no grade" if bad else None,
                    )  # fmt: skip
                    run.append("judgments", verdict)
        probe = Completion.of(prompt_id=prompt.id, model="audit/copy", text="altered")
        run.append("completions", probe)
        told = Judgment.of(prompt_id=prompt.id, completion_ids=(probe.id,), judge="grader", scores=(10.0,))
        run.append("judgments", told)
        run.finish("done", {"prompts": 80}, Usage())
    return made


def test_the_numbers_are_those_of_mt_bench(store: Store) -> None:
    kept = [c for c in store.read(Completion) if not c.model.startswith("audit/")]
    told = [j for j in store.read(Judgment) if j.completion_ids[0] in {c.id for c in kept}]
    published = mt_bench.score(Evidence.of(store.read(Prompt), kept, told), mt_bench.Config())
    expected = {(e.name.partition(": ")[2], e.settings["model"]): e for e in published}
    found = graded(store)
    boards = [
        *grade_boards(found),
        *grade_boards(found, by_turn=True),
        *grade_boards(found, parts=categories(store)),
    ]
    shown = {(board.part, row.settings["model"]): row for board in boards for row in board.rows}
    assert shown.keys() == expected.keys()
    for key, row in shown.items():
        wanted = expected[key]
        numbers = (wanted.value, wanted.low, wanted.high, wanted.n)
        assert (row.value, row.low, row.high, row.n) == pytest.approx(numbers)
        assert row.settings["grades"] == wanted.settings["grades"]
    assert turns(found) == [1, 2]


def test_what_cannot_be_read_is_counted_and_never_scored(store: Store) -> None:
    (board,) = grade_boards(graded(store))
    weak = next(row for row in board.rows if row.settings["model"] == "weak")
    assert (weak.settings["grades"], weak.settings["unreadable"], weak.failed, weak.n) == (79, 1, 1, 40)
    assert {row.settings["model"] for row in board.rows} == set(QUALITY), "a probe of an audit is no model"


def test_first_place_is_told_by_the_paired_difference(store: Store) -> None:
    (board,) = grade_boards(graded(store), judge="grad")
    names = [row.settings["model"] for row in board.rows]
    assert set(names[:2]) == {"strong", "twin"} and names[2] == "weak"
    assert not board.behind[1].separable
    assert board.behind[2].separable
    overlap = board.rows[0].low < board.rows[1].high
    assert overlap and board.behind[1].gap is not None
    assert board.behind[1].gap.high - board.behind[1].gap.low < board.rows[0].high - board.rows[0].low, "pairing helps"
    assert board.luck > 0


def test_nothing_to_show_says_what_brings_it(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no judge called 'nobody'"):
        grade_boards(graded(store), judge="nobody")
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match="judge --judge grade"):
        grade_boards(graded(Store(tmp_path)))
