"""A store into which comparisons are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rlhf_eval.records import Completion, Judgment, Record, Usage
from rlhf_eval.store.runs import Store

Write = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def write(store: Store) -> Write:
    """Write records into a new run that is done; returns its id."""

    def write(
        completions: Sequence[Completion], judgments: Sequence[Judgment], fresh: bool = True, verb: str = "judge"
    ) -> str:
        with store.begin(verb, {}, inputs={}, seed=0, versions={}, fresh=fresh) as run:
            tables: list[tuple[str, Sequence[Record]]] = [("completions", completions), ("judgments", judgments)]
            for table, records in tables:
                for record in records:
                    run.append(table, record)
            return run.finish("done", {}, Usage()).id

    return write
