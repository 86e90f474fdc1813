"""What a store holds, in a form that two stores can be compared by."""

from __future__ import annotations

from typing import Any

from rlhf_eval.records import TABLES, to_row
from rlhf_eval.store.runs import Store


def contents(store: Store) -> dict[str, dict[str, Any]]:
    """Records by table and id, without what they cost: of two processes one may have paid for both."""
    held: dict[str, dict[str, Any]] = {}
    for table, kind in TABLES.items():
        rows = (to_row(record) for record in store.records(kind))
        held[table] = {row["id"]: {**row, "usage": None} for row in rows if "id" in row}
    return held


def accounts(store: Store) -> list[tuple[str, str, dict[str, int]]]:
    """Verb, status and counts of every run."""
    return [(run.verb, run.status, dict(run.counts)) for run in store.runs()]
