"""Arena-Hard: handmade folders of both versions, and the published questions and answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.interop import arena_hard

Put = Callable[[str, Any], Path]
BENCH = "data/arena-hard-v2.0"


def answer(model: str, uid: str) -> dict[str, Any]:
    content = {"answer": f"{model} {uid}"}
    return {
        "uid": uid,
        "model": model,
        "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": content}],
        "metadata": {"token_len": 3},
    }


def judged(uid: str, *verdicts: str | None) -> dict[str, Any]:
    games = [None if v == "lost" else {"score": v, "judgment": {"answer": f"[[{v}]]"}} for v in verdicts]
    return {
        "uid": uid,
        "category": "hard_prompt",
        "judge": "gpt-4.1",
        "model": "mine",
        "baseline": "base",
        "games": games,
    }


@pytest.fixture
def bench(put: Put, tmp_path: Path) -> Path:
    uids = ("u1", "u2", "u3")
    put(
        f"{BENCH}/question.jsonl",
        [{"uid": u, "category": "hard_prompt", "subcategory": "coding", "prompt": f"Q {u}"} for u in uids],
    )
    for model in ("mine", "base"):
        put(f"{BENCH}/model_answer/{model}.jsonl", [answer(model, u) for u in uids])
    rows = [judged("u1", "B>>A", "A>B"), judged("u2", "A=B", "B<<A"), judged("u3", "lost", None)]
    put(f"{BENCH}/model_judgment/gpt-4.1/mine.jsonl", rows)
    return tmp_path


def test_two_games_seen_from_the_model(bench: Path) -> None:
    assert arena_hard.detect(bench)
    loaded = arena_hard.read(bench)
    assert loaded.warnings == ()
    assert [(j.order, j.scores, j.metadata["weight"]) for j in loaded.judgments] == [
        ((1, 0), (1.0, 0.0), 3),
        ((0, 1), (1.0, 0.0), 1),
        ((1, 0), (0.5, 0.5), 1),
        ((0, 1), (1.0, 0.0), 3),
        ((1, 0), (), 1),
        ((0, 1), (), 1),
    ]
    assert [j.error for j in loaded.judgments[4:]] == ["unparsed: the verdict is None"] * 2
    assert loaded.judgments[0].rationale == "[[B>>A]]"
    assert loaded.completions[0].metadata == {"token_len": 3}
    assert loaded.prompts[0].key == "u1"


@pytest.mark.parametrize(
    ("verdict", "first"),
    [
        *(("A>B", 1.0), ("A>>B", 1.0), ("A=B", 0.5), ("A<<B", 0.0), ("A<B", 0.0)),
        *(("B>A", 0.0), ("B>>A", 0.0), ("B=A", 0.5), ("B<<A", 1.0), ("B<A", 1.0)),
    ],
)
def test_every_verdict_of_upstream(bench: Path, put: Put, verdict: str, first: float) -> None:
    put(f"{BENCH}/model_judgment/gpt-4.1/mine.jsonl", [judged("u1", verdict, verdict)])
    one, two = arena_hard.read(bench).judgments
    assert (one.scores[0], two.scores[0]) == (1 - first, first)
    assert one.metadata["weight"] == (3 if len(verdict) == 4 else 1)


@pytest.mark.parametrize("verdict", ["A>A", "C", "A>>>B", ""])
def test_what_is_no_verdict_fails(bench: Path, put: Put, verdict: str) -> None:
    put(f"{BENCH}/model_judgment/gpt-4.1/mine.jsonl", [judged("u1", verdict, "A>B")])
    assert [j.error is None for j in arena_hard.read(bench).judgments] == [False, True]


def test_a_missing_answer_is_named(bench: Path, put: Put) -> None:
    put(f"{BENCH}/model_answer/base.jsonl", [answer("base", "u1"), answer("base", "u9")])
    warnings = arena_hard.read(bench).warnings
    assert "question 'u9' is not in question.jsonl" in warnings[0]
    assert "the answer of 'base' to 'u2' is not in model_answer" in warnings[1]


def test_version_0_1(put: Put, tmp_path: Path) -> None:
    put(
        "question.jsonl",
        [{"question_id": "q1", "category": "arena-hard-v0.1", "cluster": "x", "turns": [{"content": "Q"}]}],
    )
    for model in ("mine", "gpt-4-0314"):
        put(
            f"model_answer/{model}.jsonl",
            [{"question_id": "q1", "model_id": model, "choices": [{"turns": [{"content": model, "token_len": 1}]}]}],
        )
    put(
        "model_judgment/gpt-4/mine.jsonl",
        [
            {
                "question_id": "q1",
                "model": "mine",
                "games": [{"score": "B>A", "judgment": "x"}, {"score": "B>A", "judgment": "y"}],
            }
        ],
    )
    assert arena_hard.detect(tmp_path)
    loaded = arena_hard.read(tmp_path)
    assert [j.scores for j in loaded.judgments] == [(1.0, 0.0), (0.0, 1.0)]
    assert {j.judge for j in loaded.judgments} == {"arena_hard/gpt-4"}


def test_what_is_no_bench(tmp_path: Path) -> None:
    assert not arena_hard.detect(tmp_path)
    with pytest.raises(UserError, match=r"no question\.jsonl"):
        arena_hard.read(tmp_path)


@pytest.mark.groundtruth
def test_the_published_questions_and_answers(groundtruth: Path) -> None:
    loaded = arena_hard.read(groundtruth / "arena-hard-auto")
    assert loaded.warnings == ()
    assert Counter(p.category for p in loaded.prompts) == {"hard_prompt": 500, "creative_writing": 250}
    assert len(loaded.completions) == 750
    assert all("token_len" in c.metadata for c in loaded.completions)
