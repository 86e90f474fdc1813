"""PandaLM's test set: pairs labelled by three people, and two judges' labels (Wang et al., 2306.05087).

    data/testset-v1.json            [{idx, motivation_app, cmp_key, instruction, input, response1, response2,
                                      annotator1, annotator2, annotator3}], labels 0 tie, 1, 2
    data/<judge>-testset-v1.json    [{idx, <short>_result, <short>_reason, ...}]

A checkout or its ``data`` folder. Each annotator is a judge, ``human/annotator1`` and so on; the others are
``pandalm/<judge>``. ``cmp_key`` names the two models. All labels were given in the order of the file.

    rlhf-eval load pandalm path/to/PandaLM
"""

from __future__ import annotations

from pathlib import Path

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row
from rlhf_eval.interop.loaded import FIRST, SECOND, TIE, Intake, Loaded
from rlhf_eval.records import Completion, Prompt

SOURCE = "pandalm"
ANNOTATORS = ("annotator1", "annotator2", "annotator3")
_LABELS = {"0": TIE, "1": FIRST, "2": SECOND, "tie": TIE}
_Pairs = dict[str, tuple[Completion, Completion]]


def detect(path: Path) -> bool:
    """Whether there is a ``testset-v1.json``."""
    return _test_set(path) is not None


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Prompts, answers, and the labels of people and judges.

    A broken file or row becomes a warning, or a UserError with ``strict``; a label that is none is a failed judgment.
    """
    test_set = _test_set(path)
    intake = Intake(path, strict=strict)
    if test_set is None:
        raise UserError(f"{path}: no testset-v1.json here or in data/; give a PandaLM checkout")
    pairs: _Pairs = {}
    for row in intake.rows(test_set):
        with intake.tolerate():
            pairs[row.label("idx")] = _people(intake, row)
    for file in sorted(test_set.parent.glob("*-testset-v1.json")):
        judge = f"{SOURCE}/{file.name.removesuffix('-testset-v1.json')}"
        for row in intake.rows(file):
            with intake.tolerate():
                _label(intake, row, pairs, judge)
    return intake.loaded()


def _test_set(path: Path) -> Path | None:
    return next(
        (file for file in (path / "testset-v1.json", path / "data" / "testset-v1.json") if file.is_file()), None
    )


def _people(intake: Intake, row: Row) -> tuple[Completion, Completion]:
    given = row.label("input")
    question = row.text("instruction") + (f"\n\n{given}" if given.strip() else "")
    prompt = intake.prompt(Prompt.of(question, category=row.label("motivation_app"), source=SOURCE))
    models = row.label("cmp_key").split("_")
    if len(models) != 2:
        raise row.wrong(f"'cmp_key' must be two models joined by '_', not '{row.label('cmp_key')}'")
    first = intake.answer(prompt, _response(row, "response1"), model=models[0], source=SOURCE)
    second = intake.answer(prompt, _response(row, "response2"), model=models[1], source=SOURCE)
    for person in ANNOTATORS:
        _judge(intake, row, (first, second), f"human/{person}", person)
    return first, second


def _response(row: Row, name: str) -> str:
    """The answer; upstream's files hold the words True and False as JSON's true and false."""
    value = row.get(name)
    return str(value) if isinstance(value, bool) else row.text(name)


def _label(intake: Intake, row: Row, pairs: _Pairs, judge: str) -> None:
    idx = row.label("idx")
    if idx not in pairs:
        raise row.wrong(f"idx {idx or 'empty'} is not in testset-v1.json")
    result = next((name for name in row.values if name.endswith("_result")), "result")
    reason = next((row.label(name) for name in row.values if name.endswith("_reason")), "")
    _judge(intake, row, pairs[idx], judge, result, rationale=reason)


def _judge(
    intake: Intake, row: Row, pair: tuple[Completion, Completion], judge: str, field: str, *, rationale: str = ""
) -> None:
    label = row.get(field)
    scores = _LABELS.get(str(label).lower(), ())
    intake.judgment(
        *pair,
        judge=judge,
        scores=scores,
        error=None if scores else f"unparsed: the label is {label!r}, not 0, 1 or 2",
        rationale=rationale,
        metadata={"idx": row.label("idx")},
    )
