"""Prompts from the files that people have: JSONL, a JSON array, CSV, Parquet, each also gzipped.

One object a row. The question is the first of these that is there:

    {"prompt": "..."}                       text, or a list of {"role", "content"}
    {"messages": [{"role": "user", ...}]}
    {"instruction": "...", "input": "..."}  the input follows after an empty line
    {"question": "..."}

Beside it, all optional: ``id`` (kept as the prompt's key), ``reference`` or ``answer``, ``category``, ``system``,
``metadata`` (an object). Assistant turns at the end of a conversation are not part of the question: the last of them is
kept as the reference, unless the row has one of its own. Other fields are not read, and a warning says so.

    rlhf-eval load questions.jsonl
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

from rlhf_eval.errors import BadRecord, UserError
from rlhf_eval.interop.files import SUFFIXES, Row, hash_of, kind_of, parse, read_rows, suffix_of
from rlhf_eval.interop.loaded import Loaded
from rlhf_eval.records import Message, Prompt, Role

QUESTION_FIELDS = ("prompt", "messages", "instruction", "question")
LABEL_FIELDS = ("id", "reference", "answer", "category", "system", "metadata")
_ROLES = get_args(Role)


def detect(path: Path) -> bool:
    """Whether the file's name ends like one that can be read."""
    return path.is_file() and suffix_of(path) in SUFFIXES


def read(path: Path) -> Loaded:
    """The prompts of one file, each once.

    Raises UserError, before anything is handed back, where a row is no prompt; the message names the file, the line and
    the remedy, and the other lines that are wrong.
    """
    reading = _Reading()
    for row in read_rows(path, reading.problems, name=path.name):
        try:
            reading.add(row, path.name)
        except BadRecord as error:
            reading.problems.append(str(error))
    if reading.problems:
        raise BadRecord(_first_of(reading.problems))
    if not reading.prompts:
        raise UserError(f"{path}: no rows")
    return Loaded(
        prompts=tuple(reading.prompts.values()),
        warnings=tuple(reading.warnings(path.name)),
        sources={path.name: hash_of(path)},
    )


@dataclass(slots=True)
class _Reading:
    """What is known while a file is read."""

    problems: list[str] = field(default_factory=list)
    prompts: dict[str, Prompt] = field(default_factory=dict)
    keys: dict[str, tuple[str, Prompt]] = field(default_factory=dict)
    repeats: int = 0
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row, source: str) -> None:
        prompt = prompt_of(row, source, self.notes)
        if prompt.key:
            place, earlier = self.keys.setdefault(prompt.key, (row.where, prompt))
            if earlier != prompt:
                raise row.wrong(
                    f"the id '{prompt.key}' is already that of another prompt, at {place}; make them differ"
                )
        kept = self.prompts.setdefault(prompt.id, prompt)
        if kept is not prompt:
            self.repeats += 1
            if kept.category != prompt.category:
                raise row.wrong(
                    f"the same prompt stands earlier in category '{kept.category}'; give the two different ids"
                )

    def warnings(self, name: str) -> Iterable[str]:
        if self.repeats:
            yield f"{name}: {self.repeats} rows repeat an earlier one word for word; each prompt is kept once"
        for note, count in self.notes.items():
            yield f"{name}: {note} ({count} rows)"


def prompt_of(row: Row, source: str, notes: Counter[str]) -> Prompt:
    """The prompt that a row describes; what is left out of it counts in ``notes``.

    Raises BadRecord naming the place, the field, and what is allowed.
    """
    shape = next((name for name in QUESTION_FIELDS if row.values.get(name) is not None), None)
    if shape is None:
        found = ", ".join(row.values) or "nothing"
        raise row.wrong(f"no question: it stands in one of the fields {', '.join(QUESTION_FIELDS)}; found: {found}")
    turns, answer = _split(_turns(row, shape))
    name = next((n for n in ("reference", "answer") if row.label(n)), None)
    if answer:
        notes[
            "the assistant turn at the end is " + ("left out: there is a reference" if name else "kept as reference")
        ] += 1
    notes.update(
        f"the field '{other}' is not read; put it under 'metadata' to keep it" for other in _unread(row, shape, name)
    )
    metadata = _metadata(row)
    try:
        return Prompt.of(
            turns,
            reference=row.label(name) if name else answer or None,
            category=row.label("category"),
            source=source,
            key=row.label("id"),
            metadata=metadata,
        )
    except BadRecord as error:
        raise row.wrong(str(error)) from None


def _unread(row: Row, shape: str, reference: str | None) -> list[str]:
    read_fields = {shape, *LABEL_FIELDS}
    if shape == "instruction":
        read_fields.add("input")
    if reference == "reference":
        read_fields.discard("answer")
    return [name for name in row.values if name not in read_fields]


def messages_of(row: Row, name: str) -> list[Message]:
    """A field that holds a list of ``{"role", "content"}``; raises BadRecord naming the turn that is wrong."""
    turns = []
    for turn in row.rows(name):
        role = turn.text("role")
        if role not in _ROLES:
            raise turn.wrong(f"the role is '{role}'; it must be one of {', '.join(_ROLES)}")
        turns.append(Message(cast(Role, role), turn.text("content")))
    return turns


def _turns(row: Row, shape: str) -> list[Message]:
    value = row.values[shape]
    if isinstance(value, str) and shape == "messages":
        row = Row(row.where, {**row.values, shape: _cell(row, shape)})
        value = row.values[shape]
    if shape == "messages" or (shape == "prompt" and isinstance(value, list)):
        turns = messages_of(row, shape)
    else:
        text = row.text(shape)
        extra = row.label("input") if shape == "instruction" else ""
        turns = [Message("user", f"{text}\n\n{extra}" if extra.strip() else text)]
    system = row.label("system")
    if system and any(turn.role == "system" for turn in turns):
        raise row.wrong(f"a 'system' field and a system turn in '{shape}'; keep one of them")
    return [Message("system", system), *turns] if system else turns


def _split(turns: list[Message]) -> tuple[list[Message], str]:
    """The conversation up to its last question, and the last assistant turn after it."""
    end = len(turns)
    while end and turns[end - 1].role == "assistant":
        end -= 1
    return turns[:end], turns[-1].content if end < len(turns) else ""


def _metadata(row: Row) -> Mapping[str, Any]:
    value = row.values.get("metadata")
    if isinstance(value, str) and value:
        value = _cell(row, "metadata")
    if value is None or value == "":
        return {}
    if not isinstance(value, Mapping):
        raise row.wrong(f"'metadata' must be an object, not {kind_of(value)}")
    return value


def _cell(row: Row, name: str) -> Any:
    """The JSON inside a CSV cell."""
    try:
        return parse(row.text(name).encode())
    except ValueError as error:
        raise row.wrong(f"'{name}' must be JSON: {error}") from None


def _first_of(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    others = ", ".join(problem.split(": ")[0].split(" (")[0].rpartition(":")[2].strip() for problem in problems[1:6])
    more = ", ..." if len(problems) > 6 else ""
    return f"{problems[0]} ({len(problems) - 1} more bad rows: {others}{more})"
