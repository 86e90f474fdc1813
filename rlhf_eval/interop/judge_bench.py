"""JudgeBench: pairs of which one answer is objectively right, and judges' verdicts on them (Tan et al., 2410.12784).

    data/dataset=judgebench,response_model=<model>.jsonl
        {pair_id, source, question, response_A, response_B, label: "A>B" or "B>A"}
    outputs/dataset=judgebench,response_model=<model>,judge_name=<prompt>,judge_model=<model>.jsonl
        the same with judgments: [{judgment: {...}, decision}, ...], the second with B shown first and A in its place

A checkout, one of its two folders, or one file. The label is the judge ``gold``; the others are
``judge_bench/<prompt>/<model>``. A decision is about the places shown, so the second is turned round here.

    rlhf-eval load judge_bench path/to/JudgeBench
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row
from rlhf_eval.interop.loaded import FIRST, SECOND, TIE, Intake, Loaded
from rlhf_eval.records import Completion, Prompt

SOURCE = "judge_bench"
_DECISIONS = {"A>B": FIRST, "B>A": SECOND, "A=B": TIE}


def detect(path: Path) -> bool:
    """Whether ``path`` is, or holds, files named ``dataset=...,response_model=...jsonl``."""
    return bool(_files(path))


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Prompts, answers, gold labels and the verdicts in both orders.

    A broken file or row becomes a warning, or a UserError with ``strict``; a decision that is null is a failed judgment.
    """
    intake = Intake(path, strict=strict)
    files = _files(path)
    if not files:
        raise UserError(f"{path}: no file named dataset=...,response_model=...jsonl here; give a JudgeBench checkout")
    for file in files:
        for row in intake.rows(file):
            with intake.tolerate():
                _pair(intake, row, file)
    return intake.loaded()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.name.startswith("dataset=") and path.suffix == ".jsonl" else []
    return sorted(file for pattern in ("", "data/", "outputs/") for file in path.glob(f"{pattern}dataset=*.jsonl"))


def _pair(intake: Intake, row: Row, file: Path) -> None:
    prompt = intake.prompt(Prompt.of(row.text("question"), category=row.label("source"), source=SOURCE))
    model = row.label("response_model", "unknown")
    answers = tuple(intake.answer(prompt, row.text(f"response_{side}"), model=model, source=SOURCE) for side in "AB")
    identity = {"pair_id": row.label("pair_id")}
    label = row.text("label")
    if label not in _DECISIONS:
        raise row.wrong(f"'label' must be one of {', '.join(_DECISIONS)}, not '{label}'")
    intake.gold(*answers, scores=_DECISIONS[label], metadata=identity)
    for number, verdict in enumerate(row.rows("judgments") if "judgments" in row.values else []):
        _verdict(intake, row, verdict, answers, number, identity, intake.name(file))


def _verdict(
    intake: Intake,
    row: Row,
    verdict: Row,
    answers: tuple[Completion, ...],
    number: int,
    identity: dict[str, Any],
    file: str,
) -> None:
    asked = verdict.inner("judgment")
    decision = verdict.values.get("decision")
    shown = _DECISIONS.get(str(decision), ())
    turned = number % 2 == 1
    intake.judgment(
        *answers,
        judge=f"{SOURCE}/{row.label('judge_name', 'judge')}/{asked.label('judge_model', 'unknown')}",
        order=(1, 0) if turned else (0, 1),
        scores=shown[::-1] if turned else shown,
        error=None if shown else f"unparsed: the decision is {decision!r}",
        rationale=asked.label("response"),
        metadata=identity | {name: asked.values[name] for name in ("scores",) if name in asked.values},
        file=file,
    )
