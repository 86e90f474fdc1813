"""A sink that remembers, and prompts to put into it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from rlhf_eval.records import Prompt, Record


class ListSink:
    """What a stage writes, in memory."""

    def __init__(self) -> None:
        self.tables: defaultdict[str, list[Any]] = defaultdict(list)

    def ids(self, table: str) -> set[str]:
        return {record.id for record in self.tables[table]}

    def append(self, table: str, record: Record) -> None:
        self.tables[table].append(record)


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def prompts() -> list[Prompt]:
    return [Prompt.of(f"Question {k}?") for k in range(20)]
