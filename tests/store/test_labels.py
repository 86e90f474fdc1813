"""Labels on disk: many writers at once, torn lines, a full disk, and names that would leave the folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.store import labels

MANY = """
import sys
from pathlib import Path
from rlhf_eval.store.labels import append
for k in range(60):
    append(Path(sys.argv[1]), sys.argv[2], {"window": sys.argv[3], "k": k, "text": "x" * 20_000})
"""


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_two_people_and_two_windows_of_one_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    who = [("ada", "1"), ("ada", "2"), ("bob", "1")]
    windows = [subprocess.Popen([sys.executable, "-c", MANY, str(folder), *one]) for one in who]
    assert [window.wait(60) for window in windows] == [0, 0, 0]
    assert set(labels.people(folder)) == {"ada", "bob"}
    for person, count in (("ada", 2), ("bob", 1)):
        found = rows(folder / f"{person}.jsonl")
        assert sorted((row["window"], row["k"]) for row in found) == [
            (str(w + 1), k) for w in range(count) for k in range(60)
        ]


def test_half_a_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = labels.append(tmp_path, "ada", {"k": 1})
    with path.open("ab") as file:
        file.write(b'{"k": 2, "cho')
    labels.append(tmp_path, "ada", {"k": 3})
    lines = path.read_bytes().split(b"\n")
    assert lines == [b'{"k":1}', b'{"k": 2, "cho', b'{"k":3}', b""]


def test_a_full_disk_is_said_and_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = labels.append(tmp_path, "ada", {"k": 1})
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[: len(line) // 2]))
    with pytest.raises(UserError, match="the label is NOT saved: no space left"):
        labels.append(tmp_path, "ada", {"k": 2})
    monkeypatch.undo()
    assert path.read_bytes() == b'{"k":1}\n'


@pytest.mark.parametrize("name", ["", "../eve", "a/b", ".hidden", "with space", "x" * 41, "nul\x00", "ada.jsonl"])
def test_a_name_that_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot name who labels"):
        labels.append(tmp_path / "labels", name, {"k": 1})
    assert not (tmp_path / "labels").exists()
