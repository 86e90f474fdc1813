"""UltraFeedback: four answers to each instruction, graded in four aspects by GPT-4 (Cui et al., 2310.01377).

    *.jsonl, *.parquet   {source, instruction, models, completions: [{model, response, custom_system_prompt, overall_score,
                          critique, annotations: {<aspect>: {Rating, Rationale}}}]}

A file, or a folder of them. Grades are of judges ``ultrafeedback/<aspect>``; the score that upstream gave with its
critique is ``ultrafeedback/overall``. Some of upstream's overall scores of 10 were meant as 1; they are kept as they are.

    rlhf-eval load ultrafeedback path/to/ultrafeedback.jsonl
    rlhf-eval pairs --judgments RUN --format ultrafeedback --out graded.jsonl
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row, peek, suffix_of
from rlhf_eval.interop.loaded import Intake, Loaded
from rlhf_eval.interop.training_rows import single_turn, write_rows
from rlhf_eval.records import Completion, Judgment, Prompt

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


@dataclass(frozen=True, slots=True)
class Graded:
    """Prompts with all their answers and grades: what the rows are made of."""

    prompts: Sequence[Prompt]
    completions: Sequence[Completion]
    judgments: Sequence[Judgment]


def write(graded: Graded, path: Path) -> int:
    """Write every prompt that has a graded answer, with all its answers; returns the number of rows.

    The aspects of a judge become annotations, other grades the mean ``overall_score``; comparisons say nothing here. Raises
    UserError where nothing is graded, or a prompt has several turns.
    """
    overall, aspects = _grades(graded.judgments)
    answers: dict[str, list[Completion]] = defaultdict(list)
    for completion in graded.completions:
        answers[completion.prompt_id].append(completion)
    rows = []
    for prompt in graded.prompts:
        if any(c.id in overall for c in answers[prompt.id]):
            _, instruction = single_turn(prompt.messages, target="UltraFeedback")
            made = [_answer(c, overall.get(c.id), aspects.get(c.id, {})) for c in answers[prompt.id]]
            models = [c.model for c in answers[prompt.id]]
            rows.append({"source": prompt.category, "instruction": instruction, "models": models, "completions": made})
    if not rows:
        raise UserError("UltraFeedback's rows hold grades, and no answer here has one; judge with grade or aspects")
    return write_rows(path, rows)


def _grades(judgments: Iterable[Judgment]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Completion to its mean grade, and to its mean rating in every aspect."""
    given: dict[str, list[float]] = defaultdict(list)
    rated: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for judgment in judgments:
        ratings = judgment.metadata.get("aspects", {})
        if not judgment.scores or (len(judgment.scores) > 1 and not ratings):
            continue
        for place, number in enumerate(judgment.order):
            identity = judgment.completion_ids[number]
            given[identity].append(judgment.scores[number])
            for aspect, column in ratings.items():
                rated[identity][aspect].append(column[place])
    return (
        {identity: sum(values) / len(values) for identity, values in given.items()},
        {i: {aspect: sum(v) / len(v) for aspect, v in columns.items()} for i, columns in rated.items()},
    )


def _answer(completion: Completion, overall: float | None, aspects: Mapping[str, float]) -> dict[str, Any]:
    return {
        "model": completion.model,
        "principle": str(completion.metadata.get("principle", "")),
        "custom_system_prompt": str(completion.metadata.get("system", "")),
        "response": completion.text,
        "annotations": {aspect: {"Rating": f"{value:g}", "Rationale": ""} for aspect, value in aspects.items()},
        "overall_score": overall,
        "critique": "",
    }


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
