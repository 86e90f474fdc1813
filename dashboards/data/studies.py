"""What studies found: every arm beside its control, over seeds, and their curves.

rows = studies(store)
found(store, rows[0].run).measures["gold reward"]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dashboards.data.state import Nothing
from rlhf_eval.records import Estimate
from rlhf_eval.store.runs import Store

COMMAND = "rlhf-eval lab --quick"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A study that was run."""

    run: str
    title: str
    recipe: str
    """The name by which it ships, or that of its file."""
    seeds: int
    quick: bool
    files: Path
    """Where its figure and page lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What an arm came to in one measure; ``gap`` is its paired difference from the control, which has none."""

    name: str
    mean: Estimate
    gap: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A study's numbers."""

    about: str
    """Its page, up to the figures: Markdown."""
    control: str
    measures: Mapping[str, Sequence[Arm]]
    points: Sequence[Estimate]
    """Of its curves, ordered by curve, arm and place; ``settings`` hold arm and x."""


def studies(store: Store) -> list[Row]:
    """The finished studies, newest first; raises Nothing where there is none."""
    rows = [
        Row(
            run=run.id, title=str(run.config.get("study", run.id)), recipe=str(run.config.get("recipe", "")),
            seeds=int(run.config.get("seeds", 0)), quick=bool(run.config.get("quick")), files=store.folder(run.id),
        )
        for run in reversed(store.runs("lab"))
        if run.status == "done"
    ]  # fmt: skip
    if not rows:
        raise Nothing("No study has been run yet.", command=COMMAND)
    return rows


def found(store: Store, run: str) -> Found:
    """Every number of a study."""
    by_role: dict[str, list[Estimate]] = defaultdict(list)
    for e in store.read(Estimate, run=run):
        by_role[str(e.settings.get("role", ""))].append(e)
    gaps = {(e.name, e.settings["arm"]): e for e in by_role["difference"]}
    measures: dict[str, list[Arm]] = defaultdict(list)
    for e in by_role["mean"]:
        measures[e.name].append(Arm(name=str(e.settings["arm"]), mean=e, gap=gaps.get((e.name, e.settings["arm"]))))
    points = sorted(by_role["point"], key=lambda e: (e.name, str(e.settings["arm"]), float(e.settings["x"])))
    controls = {str(e.settings["against"]) for e in by_role["difference"]}
    control = "its control" if len(controls) > 1 else next(iter(controls), "")
    return Found(about=_about(store.folder(run)), control=control, measures=measures, points=points)


def _about(folder: Path) -> str:
    """The page's words: what stands between its heading and its figure."""
    page = folder / "page.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    return text.partition("\n\n")[2].partition("![")[0].strip()
