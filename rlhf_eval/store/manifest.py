"""``run.json``: what a run is and how far it came, replaced in one step so that none reads half of it, and who writes it.

run = read_run(folder)
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from rlhf_eval.errors import BadRecord, UserError
from rlhf_eval.records import SCHEMA, Run, from_row, to_json

MUTEX, WRITERS = ".lock", ".writers"
"""Files that hold nothing and are locked: NFS locks neither folders nor what is open for reading alone, see flock(2)."""
_PATIENCE = 0.5
"""Seconds for which a lock may be in the way: who asks whether a run is held takes it for an instant."""


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
    try:
        file = _lock_file(folder / MUTEX)
    except OSError:  # who may not write here may still read a run that is done
        file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def enter(folder: Path, *, alone: bool) -> int:
    """Open a run for writing; it is held until the descriptor that comes back is closed, which a killed process does too.

    Raises UserError where another process holds it, if this one or that one must be ``alone``.
    """
    file = _lock_file(folder / WRITERS)
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(file)
                raise UserError(
                    f"run {folder.name} is being written by another process; wait for it or stop it"
                ) from None
            time.sleep(0.01)


def is_held(folder: Path) -> bool:
    """Whether some process has a run open for writing."""
    path = folder / WRITERS
    try:
        file = os.open(path, (os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY) | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError as error:
        return isinstance(error, BlockingIOError)
    finally:
        os.close(file)


def _lock_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
