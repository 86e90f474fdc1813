"""What state a store is in: whether it changed, and which of its runs are not finished.

state(store) == state(store)    nothing was written in between
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlhf_eval.errors import UserError
from rlhf_eval.records import Run, fingerprint
from rlhf_eval.stages.spending import how_far
from rlhf_eval.store.runs import Store


class Nothing(UserError):
    """There is nothing to show yet; ``command`` is what brings it."""

    def __init__(self, message: str, *, command: str) -> None:
        super().__init__(message)
        self.command = command


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A run that has more to do, or that ended before all was done."""

    run: Run
    done: int
    total: int
    """What has ended, of all; of 0 where the run has not counted yet."""
    unit: str
    """What is counted: ``prompts``, or ``steps`` of a training."""


def state(store: Store) -> str:
    """A text that changes when a run is added, goes on or ends, or when somebody labels."""
    files = [*_manifests(store), *sorted(store.labels_folder.glob("*.jsonl"))]
    seen = []
    for file in files:
        with suppress(FileNotFoundError):
            seen.append((str(file), file.stat().st_mtime_ns, file.stat().st_size))
    return fingerprint(seen)


def unfinished(store: Store) -> list[Unfinished]:
    """The runs that are not done, newest first."""
    found = []
    for run in reversed(store.runs()):
        if run.status != "done":
            done, total, unit = how_far(run)
            found.append(Unfinished(run=run, done=done, total=total, unit=unit))
    return found


def titles(store: Store) -> dict[str, str]:
    """Run to what a reader calls it."""
    return {run.id: run.title for run in store.runs()}


def _manifests(store: Store) -> list[Path]:
    return sorted((store.path / "runs").glob("*/run.json"))
