"""Preference Proxy Evaluations: people's votes on pairs, and 32 answers a prompt known to be right or wrong (2410.14872).

    human preference   {question_id, prompt, response_1, response_2, model_a, model_b, winner, language, ...}
                       winner: model_a, model_b, or anything that starts with tie
    correctness        {question_id, prompt, response_1 ... response_K, scores: [K verdicts], model_name,
                       sampled_conflict_pairs: [[i, j], ...]}, pairs counted from 0, one right and one wrong

Files of rows (.jsonl, .json, .parquet), or a folder of them. A vote is a label of the judge ``gold``: 1, .5 or 0. In the
correctness sets every answer has its own gold grade, and every sampled pair is a gold item. The category is the name of the
set: ``human``, or what stands before ``-Best-of-K`` in the file's or its folder's name (``PPE-MATH-Best-of-K``: math).

    rlhf-eval load ppe path/to/PPE-MATH-Best-of-K
"""

from __future__ import annotations

import re
from pathlib import Path

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row, peek, suffix_of
from rlhf_eval.interop.loaded import FIRST, SECOND, TIE, Intake, Loaded
from rlhf_eval.records import Completion, Prompt

SOURCE = "ppe"
HUMAN = "human"
_SUFFIXES = (".jsonl", ".json", ".parquet")
_SET = re.compile(r"(?:PPE-)?([\w-]+?)-best-of-k", re.IGNORECASE)


def detect(path: Path) -> bool:
    """Whether the first file holds votes on two responses, or scored responses with their sampled pairs."""
    names = [set(peek(file)) for file in _files(path)[:1]]
    return any(
        {"response_1", "response_2", "winner"} <= n or {"response_1", "sampled_conflict_pairs"} <= n for n in names
    )


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Prompts, answers and gold labels; a broken row becomes a warning, or a UserError with ``strict``."""
    intake = Intake(path, strict=strict)
    files = _files(path)
    if not files:
        raise UserError(f"{path}: no {' or '.join(_SUFFIXES)} here; give a file or folder of the PPE sets")
    for file in files:
        for row in intake.rows(file):
            with intake.tolerate():
                if "winner" in row.values:
                    _vote(intake, row)
                else:
                    _checked(intake, row, file)
    return intake.loaded()


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(f for f in path.rglob("*") if suffix_of(f) in _SUFFIXES)


def _vote(intake: Intake, row: Row) -> None:
    winner = row.label("winner")
    share = {"model_a": FIRST, "model_b": SECOND}.get(winner) or (TIE if winner.startswith("tie") else None)
    if share is None:
        raise row.wrong(f"'winner' must be model_a, model_b or a tie, not '{winner}'")
    made = Prompt.of(row.text("prompt"), category=HUMAN, source=SOURCE, key=row.label("question_id"))
    prompt = intake.prompt(made)
    first, second = (
        intake.answer(prompt, row.text(f"response_{n}"), model=row.label(f"model_{side}"), source=SOURCE)
        for n, side in ((1, "a"), (2, "b"))
    )
    intake.gold(first, second, scores=share)


def _checked(intake: Intake, row: Row, file: Path) -> None:
    scores = row.items("scores")
    model, key = row.label("model_name", "unknown"), row.label("question_id", "")
    prompt = intake.prompt(Prompt.of(row.text("prompt"), category=_set_of(file), source=SOURCE, key=key))
    answers: list[Completion] = []
    for number in range(len(scores)):
        made = Completion.of(
            prompt_id=prompt.id, model=model, text=row.text(f"response_{number + 1}"), sample=number, generator=SOURCE
        )
        answers.append(intake.completion(made))
    for answer, right in zip(answers, scores, strict=True):
        if right not in (0, 1):
            raise row.wrong(f"'scores' must be true or false, not {right!r}")
        intake.gold(answer, scores=(float(right),))
    for pair in row.items("sampled_conflict_pairs") if "sampled_conflict_pairs" in row.values else []:
        if len(pair) != 2 or not all(isinstance(n, int) and 0 <= n < len(answers) for n in pair):
            raise row.wrong(f"the sampled pair {pair!r} names no two of the {len(answers)} answers")
        right, wrong = sorted(pair, key=lambda n: not scores[n])
        if not scores[right] or scores[wrong]:
            raise row.wrong(f"the sampled pair {pair} is not one right and one wrong answer")
        intake.gold(answers[right], answers[wrong], scores=FIRST)


def _set_of(file: Path) -> str:
    """The set that a file belongs to, from its name or a folder's above it."""
    for name in (file.name, *(parent.name for parent in file.parents)):
        found = _SET.search(name)
        if found:
            return found[1].lower()
    return file.name.partition(".")[0].lower()
