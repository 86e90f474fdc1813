"""The command line, called in this process: what it returns and what it prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from server import running_server

from rlhf_eval.cli import main
from rlhf_eval.records import R
from rlhf_eval.store.runs import Store


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """What ``--json`` printed."""
        return [json.loads(line) for line in self.out.splitlines()]


class CommandLine:
    """Types commands in a folder of its own, whose store is ``store``."""

    def __init__(self, home: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.home, self._capture = home, capture
        self.path = home / "rlhf-eval-store"

    @property
    def store(self) -> Store:
        return Store(self.path)

    def __call__(self, *words: str | Path) -> Result:
        self._capture.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:  # argparse ends so
            code = end.code if isinstance(end.code, int) else 1
        shown = self._capture.readouterr()
        return Result(code, shown.out, shown.err)

    def done(self, *words: str | Path) -> Result:
        """A command that must succeed."""
        result = self(*words)
        assert result.code == 0, result.err
        return result

    def read(self, kind: type[R], run: str) -> list[R]:
        """The records of a run, by reference."""
        return self.store.read(kind, run=self.store.find(run).id)

    def prompts(self, count: int = 12, name: str = "prompts.jsonl") -> Path:
        """A file of prompts."""
        path = self.home / name
        path.write_text(
            "".join(f'{{"prompt": "Question {k}?", "id": "{k}"}}\n' for k in range(count)), encoding="utf-8"
        )
        return path


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return CommandLine(tmp_path, capsys)


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """A local server that wants the key ``secret``."""
    with running_server(api_key="secret", models="alpha=0.7,beta=0.3,judge") as url:
        yield url
