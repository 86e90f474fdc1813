"""RewardBench 1 and 2: prompts with right and wrong answers, and reward models' scores (2403.13787, 2506.01937).

    data set, rows        1: {id, subset, prompt, chosen, chosen_model, rejected, rejected_model}
    (.jsonl, .parquet)    2: {id, subset, prompt, chosen: [...], rejected: [...], num_correct}
    scores, columns       1: {id: [...], subset: [...], scores_chosen: [...], scores_rejected: [...], model}
    (eval-set-scores)     2: {id: [...], subset: [...], scores: [[...], ...], num_correct: [...], model}, right ones first

A file, or a folder with the data set and any number of score files. The right answers are the judge ``gold``: 1 for each
right one, 0 for each wrong one. A score is a grade by ``reward_bench/<model>``. Without the data set an item is known by
its id.

    rlhf-eval load reward_bench path/to/folder
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf_eval.interop.files import Row, kind_of, peek, suffix_of
from rlhf_eval.interop.loaded import Intake, Loaded
from rlhf_eval.records import Completion, Prompt

SOURCE = "reward_bench"
_SUFFIXES = (".jsonl", ".json", ".parquet")
_Items = dict[tuple[str, str], tuple[Completion, ...]]


def detect(path: Path) -> bool:
    """Whether the first row of one of the first files is a RewardBench item, or columns of them."""
    for file in _files(path)[:3]:
        names = set(peek(file))
        if "id" in names and names & {"subset", "num_correct"} and names & {"chosen", "scores", "scores_chosen"}:
            return True
    return False


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Prompts, answers, gold labels and scores; a broken row becomes a warning, or a UserError with ``strict``."""
    intake = Intake(path, strict=strict)
    items: _Items = {}
    scored: list[tuple[str, Row]] = []
    for file in _files(path):
        for row in intake.rows(file):
            with intake.tolerate():
                for model, item in _items(row, file):
                    if "chosen" in item.values:
                        items[_identity(item)] = _answers(intake, item)
                    else:
                        scored.append((model, item))
    unknown = 0
    for model, item in scored:
        with intake.tolerate():
            unknown += _identity(item) not in items
            _scores(intake, item, items, model)
    if unknown:
        intake.warn(f"{path.name}: {unknown} items are known by their ids only; put the data set beside the scores")
    return intake.loaded()


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(f for f in path.rglob("*") if suffix_of(f) in _SUFFIXES)


def _items(row: Row, file: Path) -> Iterator[tuple[str, Row]]:
    """The items of a row: itself, or one per entry where the file is one object of columns."""
    model = row.label("model", file.name.partition(".")[0])
    ids = row.get("id")
    if not isinstance(ids, list):
        yield model, row
        return
    columns = {name: values for name, values in row.values.items() if isinstance(values, list)}
    short = next((name for name, values in columns.items() if len(values) != len(ids)), None)
    if short:
        raise row.wrong(f"column '{short}' has {len(columns[short])} entries, 'id' has {len(ids)}")
    for number in range(len(ids)):
        yield model, Row(f"{row.where}, item {number}", {name: values[number] for name, values in columns.items()})


def _identity(item: Row) -> tuple[str, str]:
    return item.label("subset").lower(), item.label("id")


def _prompt(intake: Intake, item: Row, text: str) -> Prompt:
    subset, key = _identity(item)
    return intake.prompt(Prompt.of(text, category=subset, source=SOURCE, key=key, metadata={"subset": subset}))


def _answers(intake: Intake, item: Row) -> tuple[Completion, ...]:
    prompt = _prompt(intake, item, item.text("prompt"))
    made: list[Completion] = []
    for side in ("chosen", "rejected"):
        texts = item.get(side)
        names = item.values.get(f"{side}_model", "unknown")
        for number, text in enumerate(texts if isinstance(texts, list) else [texts]):
            if not isinstance(text, str):
                raise item.wrong(f"'{side}' must be text or a list of texts, not {kind_of(text)}")
            name = names[number] if isinstance(names, list) and number < len(names) else names
            made.append(intake.answer(prompt, text, model=str(name), source=SOURCE))
    right = len(item.values["chosen"]) if isinstance(item.values["chosen"], list) else 1
    _gold(intake, made, right)
    return tuple(made)


def _gold(intake: Intake, made: list[Completion], right: int) -> None:
    scores = tuple(float(n < right) for n in range(len(made)))
    intake.gold(*made, scores=scores)


def _unknown(intake: Intake, item: Row, count: int) -> tuple[Completion, ...]:
    """Stand-ins for the answers of an item whose texts are not there."""
    subset, key = _identity(item)
    prompt = _prompt(intake, item, f"RewardBench {subset} {key}".replace("  ", " "))
    made = [intake.answer(prompt, f"answer {n} to {key}", model="unknown", source=SOURCE) for n in range(count)]
    _gold(intake, made, int(item.number("num_correct")) if "num_correct" in item.values else 1)
    return tuple(made)


def _scores(intake: Intake, item: Row, items: _Items, model: str) -> None:
    if "scores" in item.values:
        scores = item.items("scores")
    elif "scores_chosen" in item.values:
        scores = [item.get("scores_chosen"), item.get("scores_rejected")]
    else:
        raise item.wrong("neither answers ('chosen', 'rejected') nor scores ('scores' or 'scores_chosen') are here")
    answers = items.get(_identity(item)) or _unknown(intake, item, len(scores))
    if len(answers) != len(scores):
        raise item.wrong(f"{len(scores)} scores for {len(answers)} answers")
    for number, (answer, score) in enumerate(zip(answers, scores, strict=True)):
        value = _value(score)
        intake.judgment(
            answer,
            judge=f"{SOURCE}/{model}",
            scores=() if value is None else (value,),
            error=f"unparsed: the score is {score!r}" if value is None else None,
            metadata={"answer": number},
        )


def _value(score: Any) -> float | None:
    """The score, also where upstream wrote it as a list of one."""
    if isinstance(score, list) and len(score) == 1:
        score = score[0]
    return float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None
