"""MT-Bench as FastChat keeps it: two-turn questions, answers, reference answers, single grades (Zheng et al., 2306.05685).

    question.jsonl                      {question_id, category, turns: [q1, q2]}
    reference_answer/<model>.jsonl      {question_id, choices: [{turns}]}
    model_answer/<model>.jsonl          {question_id, model_id, choices: [{index, turns}]}
    model_judgment/<judge>_single.jsonl {question_id, model, judge: [model, template], user_prompt, judgment, score, turn}

The folder ``data/mt_bench``, or a FastChat checkout. Each turn is a prompt of its own; the second contains the model's
first answer, so that it differs from model to model, and all prompts of a question share its number as their key. A judged
answer is taken from the judge's own prompt, which is the text that the score belongs to: a model judged in two runs under
one name has two answers. Score -1 is upstream's sign for a verdict that it could not read.

    rlhf-eval load mt_bench path/to/FastChat
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row, peek
from rlhf_eval.interop.loaded import Intake, Loaded
from rlhf_eval.records import Completion, Message, Prompt

SOURCE = "mt_bench"
_PLACES = ("", "data/mt_bench", "fastchat/llm_judge/data/mt_bench")
_SINGLE = ("[The Start of Assistant's Answer]\n", "\n[The End of Assistant's Answer]")
_MULTI = (
    "<|The Start of Assistant A's Conversation with User|>",
    "\n\n<|The End of Assistant A's Conversation with User|>",
)


@dataclass(slots=True)
class _Bench:
    """The questions, and what is known about each turn."""

    intake: Intake
    questions: dict[str, Row] = field(default_factory=dict)
    references: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def prompt(self, question: str, before: list[str]) -> Prompt:
        """The turn of a question that follows the answers ``before``."""
        row, turn = self.questions[question], len(before) + 1
        asked = [str(text) for text in row.items("turns")]
        if turn > len(asked):
            raise row.wrong(f"{turn} answers to {len(asked)} turns")
        messages = [Message("user", asked[0])]
        for answer, following in zip(before, asked[1:turn], strict=True):
            messages += [Message("assistant", answer), Message("user", following)]
        references = self.references.get(question, [])
        return self.intake.prompt(
            Prompt.of(
                messages,
                reference=references[turn - 1] if len(references) >= turn else None,
                category=row.label("category"),
                source=SOURCE,
                key=question,
                metadata={"turn": turn},
            )
        )

    def completion(self, question: str, model: str, turns: list[str], sample: int = 0) -> Completion:
        """The last of ``turns`` as the answer to the conversation before it."""
        prompt, text = self.prompt(question, turns[:-1]), turns[-1]
        made = Completion.of(prompt_id=prompt.id, model=model, text=text, sample=sample, generator=SOURCE, origin=text)
        return self.intake.completion(made)


def detect(path: Path) -> bool:
    """Whether there is a ``question.jsonl`` of several turns with answers or judgments beside it."""
    folders = _folders(path)
    judged = any((folder / name).is_dir() for folder in folders for name in ("model_judgment", "model_answer"))
    turns = [peek(folder / "question.jsonl").get("turns") for folder in folders]
    return judged and any(isinstance(asked, list) and asked and isinstance(asked[0], str) for asked in turns)


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Questions as prompts, the answers to each turn, and the single grades.

    A broken file or row becomes a warning, or a UserError with ``strict``; score -1 is a failed judgment.
    """
    intake = Intake(path, strict=strict)
    folders = _folders(path)
    bench = _Bench(intake)
    for row in _rows(intake, folders, "question.jsonl"):
        with intake.tolerate():
            row.items("turns")
            bench.questions[row.label("question_id")] = row
    if not bench.questions:
        raise UserError(
            f"{path}: no question.jsonl here, in {' or in '.join(_PLACES[1:])}; give the folder or a checkout"
        )
    for row in _rows(intake, folders, "reference_answer/*.jsonl"):
        with intake.tolerate():
            bench.references[row.label("question_id")] = [str(t) for t in row.rows("choices")[0].items("turns")]
    for row in _rows(intake, folders, "model_answer/*.jsonl"):
        with intake.tolerate():
            _answers(bench, row)
    for row in _rows(intake, folders, "model_judgment/*_single.jsonl"):
        with intake.tolerate():
            _judgment(bench, row)
    for folder in folders:
        for file in sorted(folder.glob("model_judgment/*_pair.jsonl")):
            intake.warn(f"{intake.name(file)}: pairwise judgments are not read; only single grades are")
    _first_turns(bench)
    return intake.loaded()


def _folders(path: Path) -> list[Path]:
    names = ("question.jsonl", "model_answer", "model_judgment", "reference_answer")
    return [path / place for place in _PLACES if any((path / place / name).exists() for name in names)]


def _rows(intake: Intake, folders: list[Path], pattern: str) -> Iterator[Row]:
    for folder in folders:
        for file in sorted(folder.glob(pattern)):
            yield from intake.rows(file)


def _question_of(bench: _Bench, row: Row) -> str:
    question = row.label("question_id")
    if question not in bench.questions:
        raise row.wrong(f"question {question or 'without an id'} is not in question.jsonl")
    return question


def _answers(bench: _Bench, row: Row) -> None:
    question, model = _question_of(bench, row), row.text("model_id")
    for sample, choice in enumerate(row.rows("choices")):
        turns = [str(turn) for turn in choice.items("turns")]
        if sample == 0:
            bench.answers[question, model] = turns
        for turn in range(1, len(turns) + 1):
            bench.completion(question, model, turns[:turn], sample)


def _judgment(bench: _Bench, row: Row) -> None:
    question, model, turn = _question_of(bench, row), row.text("model"), int(row.number("turn"))
    turns = _judged(bench, row, question, turn) or bench.answers.get((question, model), [])[:turn]
    if len(turns) != turn:
        raise row.wrong(f"the answer of '{model}' to question {question} is in no file")
    judge, template = [str(part) for part in row.items("judge")][:2]
    score = row.number("score")
    bench.intake.judgment(
        bench.completion(question, model, turns),
        judge=f"{SOURCE}/{judge}",
        scores=() if score == -1 else (score,),
        error="unparsed: no rating in the judgment" if score == -1 else None,
        rationale=row.label("judgment"),
        metadata={"template": template},
        file=row.where.partition(":")[0],
    )


def _judged(bench: _Bench, row: Row, question: str, turn: int) -> list[str]:
    """The answers inside the judge's prompt; empty where it was made from another template."""
    text = row.label("user_prompt")
    start, end = _SINGLE if turn == 1 else _MULTI
    inside = text.partition(start)[2].rpartition(end)[0]
    if not inside or turn == 1:
        return [inside] if inside else []
    asked = bench.questions[question].items("turns")
    first, second = (f"\n\n### User:\n{asked[n]}\n\n### Assistant A:\n" for n in (0, 1))
    before, found, last = inside.removeprefix(first).partition(second)
    return [before, last.removesuffix("\n")] if found else []


def _first_turns(bench: _Bench) -> None:
    """The first turn of every question, answered or not: it is what ``generate`` asks."""
    for question in bench.questions:
        with bench.intake.tolerate():
            bench.prompt(question, [])
