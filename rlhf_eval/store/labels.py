"""What people said, one file a person, only ever added to: ``labels/<person>.jsonl``.

A label is on the disk when ``append`` returns. Any number of people, or of one person's windows, may write at once.

    append(store.labels_folder, "ada", {"choice": "a", ...})
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from rlhf_eval.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


def check_person(person: str) -> str:
    """The name, which is part of a file's and of a judge's; raises UserError where it cannot be."""
    if not _NAME.fullmatch(person):
        raise UserError(
            f"'{person}' cannot name who labels: letters, digits, - and _ only, at most 40, the first no mark"
        )
    return person


def people(folder: Path) -> dict[str, Path]:
    """Everybody who has labelled, and their file."""
    return {path.stem: path for path in sorted(folder.glob("*.jsonl"))}


def append(folder: Path, person: str, row: Mapping[str, Any]) -> Path:
    """Add one row to a person's file and wait for the disk; returns the file.

    Raises UserError where the name is none or the disk refuses; what was there before is then as it was.
    """
    path = folder / f"{check_person(person)}.jsonl"
    line = msgspec.json.encode(row) + b"\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            _write(file, line)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise UserError(f"{path}: the label is NOT saved: {error.strerror}") from error
    return path


def _write(file: int, line: bytes) -> None:
    end = os.fstat(file).st_size
    if end and os.pread(file, 1, end - 1) != b"\n":  # somebody else's editor left half a line
        line = b"\n" + line
    if os.write(file, line) != len(line):
        os.ftruncate(file, end)
        raise OSError(28, "no space left on the device")
