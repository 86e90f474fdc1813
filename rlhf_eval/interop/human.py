"""People's labels: the file that ``route`` writes, filled in, becomes judgments of judges ``human/<name>``.

    {"id", "prompt_id", "completion_ids": [first, second], "prompt": [...], "a": text, "b": text,
     "choice": "a" | "b" | "tie" | "both_bad", "labeler": "ada", "comment": "", "chance": 0.31}

"both_bad" is a tie between answers of which neither will do. A row without a choice is open work and is counted, not
guessed. ``chance`` is the known probability with which a row was sent to a person; estimates that correct for the choice of
rows need it. A second label of a row replaces the first.

    rlhf-eval pairs --set labels=answered.jsonl --set aggregate=majority
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlhf_eval.errors import BadRecord, UserError
from rlhf_eval.interop.files import Row, hash_of, peek, read_rows
from rlhf_eval.interop.loaded import FIRST, SECOND, TIE, Loaded
from rlhf_eval.interop.training_rows import write_rows
from rlhf_eval.records import Judgment

BOTH_BAD = "both_bad"
CHOICES = {"a": FIRST, "b": SECOND, "tie": TIE, BOTH_BAD: TIE}


def detect(path: Path) -> bool:
    """Whether the first row of the file has completion ids and a choice."""
    return path.is_file() and {"completion_ids", "choice"} <= set(peek(path))


def read(path: Path, *, lenient: bool = False) -> Loaded:
    """The labels of a file, or of all files of a folder (a store's ``labels``), as judgments.

    Raises UserError naming the first row that is wrong; ``lenient`` leaves such rows out and names them in the warnings.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: nobody has labelled here yet: there is no .jsonl file")
    told = [_of_file(file, lenient) for file in files]
    return Loaded(
        judgments=tuple(judgment for one in told for judgment in one.judgments),
        warnings=tuple(warning for one in told for warning in one.warnings),
        sources={name: content for one in told for name, content in one.sources.items()},
    )


def _of_file(path: Path, lenient: bool) -> Loaded:
    problems: list[str] = []
    labels: dict[str, Judgment] = {}
    unanswered = again = 0
    for row in read_rows(path, problems, name=path.name):
        try:
            if not row.label("choice"):
                unanswered += 1
                continue
            judgment = _label(row)
        except BadRecord as error:
            problems.append(str(error))
            continue
        again += judgment.id in labels
        labels[judgment.id] = judgment
    if problems and not lenient:
        raise UserError(problems[0])
    warnings = problems
    warnings += [f"{path.name}: {unanswered} rows have no choice yet"] if unanswered else []
    warnings += [f"{path.name}: {again} rows were labelled again by the same person; the last counts"] if again else []
    return Loaded(judgments=tuple(labels.values()), warnings=tuple(warnings), sources={path.name: hash_of(path)})


def write(rows: Iterable[dict[str, object]], path: Path) -> int:
    """Write open rows for people to fill in; returns their number."""
    return write_rows(path, rows)


def _label(row: Row) -> Judgment:
    choice, person = row.label("choice").strip().lower(), row.label("labeler").strip()
    if choice not in CHOICES:
        raise row.wrong(f"the choice is '{choice}'; allowed: a, b, tie, both_bad, or nothing")
    if not person:
        raise row.wrong("the row has a choice and no 'labeler'; write who chose")
    ids = row.values.get("completion_ids")
    if not isinstance(ids, list) or len(ids) != 2 or not all(isinstance(i, str) for i in ids):
        raise row.wrong("'completion_ids' must be the two ids that route wrote")
    metadata: dict[str, Any] = {"chance": row.number("chance")} if row.values.get("chance") is not None else {}
    if choice == BOTH_BAD:
        metadata["both_bad"] = True
    if row.label("time"):
        metadata["time"] = row.label("time")
    return Judgment.of(
        prompt_id=row.text("prompt_id"),
        completion_ids=(ids[0], ids[1]),
        judge=f"human/{person}",
        scores=CHOICES[choice],
        rationale=row.label("comment"),
        metadata=metadata,
    )
