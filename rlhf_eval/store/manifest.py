"""``run.json``: what a run is and how far it came, replaced in one step so that no reader sees half of it.

run = read_run(folder)
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from rlhf_eval.errors import BadRecord, UserError
from rlhf_eval.records import SCHEMA, Run, from_row, to_json


def now() -> str:
    """This moment, UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_run(folder: Path) -> Run:
    """The run in ``folder``.

    Raises BadRecord where ``run.json`` is missing or broken, UserError where a newer rlhf-eval wrote it.
    """
    try:
        content = (folder / "run.json").read_bytes()
    except OSError as error:
        raise BadRecord(f"{folder / 'run.json'}: {error.strerror}") from error
    try:
        row = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRecord(f"{folder / 'run.json'}: not valid JSON: {error}") from error
    schema = row.get("schema") if isinstance(row, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise UserError(f"{folder}: written with schema {schema}, this rlhf-eval knows {SCHEMA}; upgrade rlhf-eval")
    try:
        return from_row(Run, row)
    except BadRecord as error:
        raise BadRecord(f"{folder / 'run.json'}: {error}") from error


def write_run(folder: Path, run: Run, *, sync: bool) -> None:
    """Replace ``run.json``; with ``sync`` it also survives a power cut."""
    temporary = folder / f"run.json.{os.getpid()}-{threading.get_ident()}.tmp"
    with temporary.open("wb") as file:
        file.write(msgspec.json.format(to_json(run), indent=2) + b"\n")
        file.flush()
        if sync:
            os.fsync(file.fileno())
    temporary.replace(folder / "run.json")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against the other processes that ask for it the same way."""
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
