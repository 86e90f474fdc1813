"""Training records as the plain rows that trainers outside read; shared by the writers of this room.

rows(records, {PreferencePair: pair_row})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import suffix_of
from rlhf_eval.records import Demonstration, Message, PreferencePair, Prompt

Training = PreferencePair | Demonstration | Prompt
Row = dict[str, Any]
Makers = Mapping[type, Callable[[Any], Row]]
NAMES: Mapping[type, str] = {PreferencePair: "preference pairs", Demonstration: "demonstrations", Prompt: "prompts"}


def turns(messages: Iterable[Message]) -> list[dict[str, str]]:
    """A conversation as ``{"role", "content"}`` objects."""
    return [{"role": message.role, "content": message.content} for message in messages]


def rows(records: Iterable[Training], makers: Makers, *, target: str) -> Iterator[Row]:
    """Each record through the maker of its type.

    Raises UserError where ``target`` has no row for a type, or where the records are of several types.
    """
    first: type | None = None
    for record in records:
        kind = type(record)
        first = first or kind
        if kind is not first:
            raise UserError(f"{NAMES[first]} and {NAMES[kind]} cannot share a file; write one file for each")
        if kind not in makers:
            known = ", ".join(NAMES[k] for k in makers)
            raise UserError(f"{target} has no file of {NAMES.get(kind, kind.__name__)}; it has: {known}")
        yield makers[kind](record)


def single_turn(messages: tuple[Message, ...], *, target: str) -> tuple[str, str]:
    """The system text, if any, and the one user turn; raises UserError where the conversation is longer."""
    system = messages[0].content if messages[0].role == "system" else ""
    asked = messages[1:] if system else messages
    if len(asked) != 1 or asked[0].role != "user":
        raise UserError(f"{target} takes one user turn, not {' '.join(m.role for m in messages)}; write conversations")
    return system, asked[0].content


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSON lines, or as Parquet where the name ends so; returns their number.

    The file appears whole or not at all. Raises UserError on another suffix or a folder that is not there.
    """
    if suffix_of(path) not in {".jsonl", ".parquet"} or path.suffix == ".gz":
        raise UserError(f"{path}: rows are written as .jsonl or .parquet; name the file so")
    draft = path.with_name(f".{path.name}.draft")
    written = list(rows)
    try:
        if suffix_of(path) == ".jsonl":
            draft.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in written))
        else:
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.Table.from_pylist([msgspec.to_builtins(row) for row in written]), draft)
        draft.replace(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    return len(written)
