"""UltraFeedback: four answers to each instruction, graded in four aspects by GPT-4 (Cui et al., 2310.01377).

    *.jsonl, *.parquet   {source, instruction, models, completions: [{model, response, custom_system_prompt, overall_score,
                          critique, annotations: {<aspect>: {Rating, Rationale}}}]}

A file, or a folder of them. Grades are of judges ``ultrafeedback/<aspect>``; the score that upstream gave with its
critique is ``ultrafeedback/overall``. Some of upstream's overall scores of 10 were meant as 1; they are kept as they are.

    rlhf-eval load ultrafeedback path/to/ultrafeedback.jsonl
"""

from __future__ import annotations

from pathlib import Path

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row, peek, suffix_of
from rlhf_eval.interop.loaded import Intake, Loaded
from rlhf_eval.records import Completion, Prompt

SOURCE = "ultrafeedback"
_SUFFIXES = (".jsonl", ".json", ".parquet")


def detect(path: Path) -> bool:
    """Whether the first row of the first file has an instruction and completions with annotations."""
    row = next((peek(file) for file in _files(path)), {})
    answers = row.get("completions")
    first = answers[0] if isinstance(answers, list) and answers else None
    return "instruction" in row and isinstance(first, dict) and "annotations" in first


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Instructions, answers and grades.

    A broken file or row becomes a warning, or a UserError with ``strict``; a rating of N/A is a failed judgment.
    """
    intake = Intake(path, strict=strict)
    for file in _files(path):
        for row in intake.rows(file):
            with intake.tolerate():
                _instruction(intake, row, intake.name(file))
    return intake.loaded()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.glob("*") if file.is_file() and suffix_of(file) in _SUFFIXES)


def _instruction(intake: Intake, row: Row, file: str) -> None:
    prompt = intake.prompt(Prompt.of(row.text("instruction"), category=row.label("source"), source=SOURCE))
    for answer in row.rows("completions"):
        system = answer.label("custom_system_prompt")
        made = intake.answer(
            prompt,
            answer.text("response"),
            model=answer.text("model"),
            source=SOURCE,
            metadata={"system": system} if system else None,
        )
        annotations = answer.inner("annotations")
        for aspect in annotations.values:
            rated = annotations.inner(aspect)
            _grade(intake, made, rated, "Rating", aspect, rated.label("Rationale"), file)
        if answer.values.get("overall_score") is not None:
            _grade(intake, made, answer, "overall_score", "overall", answer.label("critique"), file)


def _grade(intake: Intake, made: Completion, row: Row, field: str, aspect: str, rationale: str, file: str) -> None:
    scores: tuple[float, ...] = ()
    error = None
    try:
        scores = (row.number(field),)
    except UserError:
        error = f"unparsed: the rating is {row.values.get(field)!r}"
    intake.judgment(made, judge=f"{SOURCE}/{aspect}", scores=scores, error=error, rationale=rationale, file=file)
