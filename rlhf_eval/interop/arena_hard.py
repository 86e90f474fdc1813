"""Arena-Hard-Auto: questions, answers with style counts, and judgments against a baseline in both orders (2406.11939).

    question.jsonl                       {uid, category, subcategory, prompt}
    model_answer/<model>.jsonl           {uid, model, messages: [..., {content: {answer}}], metadata: {token_len, ...}}
    model_judgment/<judge>/<model>.jsonl {uid, category, judge, model, baseline, games: [{score: "A>>B", judgment}, x2]}

A folder ``data/<bench>`` or a checkout with one or more of them; version 0.1 (``question_id``, ``turns``, ``choices``)
too. In the first game the baseline is A, in the second the model is. A verdict becomes a win, a loss or a tie of the model,
and its strength stays in the metadata as upstream's weight: 3 where it is ``>>``, else 1.

    rlhf-eval load arena_hard path/to/arena-hard-auto
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row, peek
from rlhf_eval.interop.loaded import FIRST, SECOND, TIE, Intake, Loaded
from rlhf_eval.records import Completion, Prompt

SOURCE = "arena_hard"
BASELINES: Mapping[str, str] = {
    "hard_prompt": "o3-mini-2025-01-31",
    "coding": "o3-mini-2025-01-31",
    "math": "o3-mini-2025-01-31",
    "creative_writing": "gemini-2.0-flash-001",
    "arena-hard-v0.1": "gpt-4-0314",
}
"""Who a model is compared with where the judgment does not say."""
_VERDICTS = {">": FIRST, ">>": FIRST, "<": SECOND, "<<": SECOND, "=": TIE}
_Answers = dict[tuple[str, str], Completion]


def detect(path: Path) -> bool:
    """Whether there is a ``question.jsonl`` whose rows have a ``uid``, or a cluster (version 0.1)."""
    return any({"uid", "cluster"} & set(peek(folder / "question.jsonl")) for folder in _folders(path))


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Questions, answers, and two judgments of each compared answer.

    A broken file or row becomes a warning, or a UserError with ``strict``; a game without a verdict is a failed judgment.
    """
    intake = Intake(path, strict=strict)
    folders = _folders(path)
    if not folders:
        raise UserError(f"{path}: no question.jsonl here or in data/<bench>/; give an Arena-Hard folder or a checkout")
    for folder in folders:
        prompts: dict[str, Prompt] = {}
        for row in intake.rows(folder / "question.jsonl"):
            with intake.tolerate():
                prompts[_uid(row)] = intake.prompt(_prompt(row))
        answers: _Answers = {}
        for file in sorted(folder.glob("model_answer/*.jsonl")):
            for row in intake.rows(file):
                with intake.tolerate():
                    _answer(intake, row, prompts, answers)
        for file in sorted(folder.glob("model_judgment/*/*.jsonl")):
            for row in intake.rows(file):
                with intake.tolerate():
                    _games(intake, row, prompts, answers, file)
    return intake.loaded()


def _folders(path: Path) -> list[Path]:
    return [file.parent for pattern in ("", "data/*/") for file in sorted(path.glob(f"{pattern}question.jsonl"))]


def _uid(row: Row) -> str:
    return row.text("uid") if "uid" in row.values else row.text("question_id")


def _prompt(row: Row) -> Prompt:
    text = row.text("prompt") if "prompt" in row.values else row.rows("turns")[0].text("content")
    part = row.label("subcategory")
    return Prompt.of(
        text,
        category=row.label("category"),
        source=SOURCE,
        key=_uid(row),
        metadata={"subcategory": part} if part else None,
    )


def _answer(intake: Intake, row: Row, prompts: Mapping[str, Prompt], answers: _Answers) -> None:
    uid = _uid(row)
    if uid not in prompts:
        raise row.wrong(f"question '{uid}' is not in question.jsonl")
    if "messages" in row.values:
        model, last = row.text("model"), row.rows("messages")[-1]
        text = (
            last.text("content")
            if isinstance(last.values.get("content"), str)
            else last.inner("content").text("answer")
        )
        style: Any = row.values.get("metadata")
    else:
        model, last = row.text("model_id"), row.rows("choices")[0].rows("turns")[-1]
        text, style = last.text("content"), {"token_len": last.values.get("token_len")}
    answers[uid, model] = intake.answer(
        prompts[uid], text, model=model, source=SOURCE, metadata=style if isinstance(style, dict) else None
    )


def _games(intake: Intake, row: Row, prompts: Mapping[str, Prompt], answers: _Answers, file: Path) -> None:
    uid, model = _uid(row), row.text("model")
    if uid not in prompts:
        raise row.wrong(f"question '{uid}' is not in question.jsonl")
    category = row.label("category") or prompts[uid].category
    baseline = row.label("baseline") or BASELINES.get(category, "")
    for name in (model, baseline):
        if (uid, name) not in answers:
            raise row.wrong(f"the answer of '{name or 'the baseline'}' to '{uid}' is not in model_answer")
    for number, game in enumerate(row.items("games")[:2]):
        verdict = game.get("score") if isinstance(game, dict) else None
        scores = _scores(verdict)
        baseline_first = number == 0
        intake.judgment(
            answers[uid, model],
            answers[uid, baseline],
            judge=f"{SOURCE}/{row.label('judge', file.parent.name)}",
            order=(1, 0) if baseline_first else (0, 1),
            scores=scores[::-1] if baseline_first else scores,
            error=None if scores else f"unparsed: the verdict is {verdict!r}",
            rationale=_said(game),
            metadata={"verdict": verdict, "weight": 3 if ">>" in str(verdict) or "<<" in str(verdict) else 1},
            file=intake.name(file),
        )


def _scores(verdict: Any) -> tuple[float, ...]:
    """Scores of (A, B) in the order shown; empty where it is no verdict."""
    if not isinstance(verdict, str) or {verdict[:1], verdict[-1:]} != {"A", "B"}:
        return ()
    scores = _VERDICTS.get(verdict[1:-1], ())
    return scores if verdict.startswith("A") else scores[::-1]


def _said(game: Any) -> str:
    said = game.get("judgment") if isinstance(game, dict) else None
    text = said.get("answer") if isinstance(said, dict) else said
    return text if isinstance(text, str) else ""
