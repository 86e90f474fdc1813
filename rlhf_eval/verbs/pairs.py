"""``pairs``: stored judgments become preference pairs and an SFT set; no model is called.

rlhf-eval pairs --rule best_worst --out pairs.jsonl
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_eval.config import as_settings
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, PreferencePair, Run, to_json
from rlhf_eval.stages.drive import Tally
from rlhf_eval.stages.pairs import Selection
from rlhf_eval.verbs.flow import account
from rlhf_eval.verbs.session import Session, split_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to select from."""

    judgments: str = "latest"
    """A run that holds judgments."""
    rule: str = "best_worst"
    """The plugin that selects."""
    by: str = ""
    """The judge whose judgments count, where the run holds several."""
    out: str = ""
    """A JSONL file for the pairs, in the shape that TRL reads."""


@dataclass(frozen=True, slots=True)
class PairsResult:
    """The run, its account, and what was selected."""

    run: Run
    tally: Tally
    pairs: list[PreferencePair]
    resumed: bool


def pairs(session: Session, table: Mapping[str, Any]) -> PairsResult:
    """Apply a selection rule to the judgments of a run."""
    settings, plugin, config = split_settings(table, "pairs", Settings, "rule", "selection")
    source = session.find(settings.judgments, verbs=("judge", "load"))
    resolved = {"rule": settings.rule, "by": settings.by, **as_settings(config)}
    with session.begin("pairs", resolved, {"judgments": source.id}, free=True) as run:
        resumed = run.run.status == "done"
        if not resumed:
            selection = _select(session, source, settings, plugin.select, config)
            _store(run, selection)
            tally = Tally(total=len(selection.outcomes))
            for outcome in selection.outcomes:
                tally.add(outcome)
            run.finish("done", {**tally.counts(), "pairs": len(selection.pairs)}, session.usage())
        found = session.read(PreferencePair, run.run)
        if settings.out:
            write_jsonl(Path(settings.out), found)
        return PairsResult(run.run, account(session, run.run, run.run.counts.get("total", 0)), found, resumed)


def write_jsonl(path: Path, records: Iterable[Any]) -> None:
    """Write records one a line; the file appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            for record in records:
                file.write(to_json(record) + b"\n")
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def _select(session: Session, source: Run, settings: Settings, select: Any, config: Any) -> Selection:
    lineage = session.lineage(source)
    judgments = session.read(Judgment, source)
    judges = sorted({j.judge for j in judgments})
    if not judges:
        raise UserError(f"run {source.id} holds no judgments; run 'rlhf-eval judge --completions {source.id}' first")
    chosen = (
        [name for name in judges if name == settings.by or name.startswith(f"{settings.by}/")]
        if settings.by
        else judges
    )
    if len(chosen) != 1:
        raise UserError(f"run {source.id} has {len(chosen)} judges that fit; name one with --by: {', '.join(judges)}")
    completions = session.store.read(Completion, run=lineage)
    selection: Selection = select(
        session.prompts(source), completions, [j for j in judgments if j.judge == chosen[0]], config
    )
    return selection


def _store(run: Any, selection: Selection) -> None:
    for table, records in (
        ("pairs", selection.pairs),
        ("demonstrations", selection.demonstrations),
        ("outcomes", selection.outcomes),
    ):
        known = run.ids(table)
        for record in records:
            if record.id not in known:
                run.append(table, record)
