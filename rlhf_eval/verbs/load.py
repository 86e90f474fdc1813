"""``load``: prompts, and whatever else a peer's folder holds, enter the store.

rlhf-eval load sandbox
rlhf-eval load jsonl questions.jsonl
rlhf-eval load alpaca_eval path/to/alpaca_eval
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_eval import registry
from rlhf_eval.config import as_settings, build
from rlhf_eval.errors import UserError
from rlhf_eval.interop.loaded import Loaded
from rlhf_eval.records import Run, Usage, fingerprint
from rlhf_eval.verbs.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to load."""

    source: str = "sandbox"
    """``sandbox``, or a format: jsonl, alpaca_eval, ..."""
    path: str = ""
    """File or folder, for a format."""
    split: str = "heldout"
    """Part of the sandbox: train or heldout."""
    limit: int | None = None
    """Most prompts to take; the command's own --limit may take fewer."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; at least 1 prompt is needed")


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The run, and what was left out."""

    run: Run
    warnings: tuple[str, ...]
    resumed: bool


def load(session: Session, table: Mapping[str, Any]) -> LoadResult:
    """Read a source and store its records; raises UserError before anything is stored where the source is broken."""
    settings = build(Settings, table, where="load")
    loaded = _read(session, settings)
    own = {name: value for name, value in as_settings(settings).items() if value is not None}
    config = {**own, "path": str(Path(settings.path).name) if settings.path else ""}
    content = fingerprint(loaded.sources, [p.id for p in loaded.prompts])
    with session.begin("load", config, {"content": content}, free=True) as run:
        if run.run.status == "done":
            return LoadResult(run.run, loaded.warnings, resumed=True)
        counts: dict[str, int] = {}
        for name, records in (
            ("prompts", loaded.prompts),
            ("completions", loaded.completions),
            ("judgments", loaded.judgments),
            ("pairs", loaded.pairs),
        ):
            known = run.ids(name)
            for record in records:
                if record.id not in known:
                    run.append(name, record)
            if records:
                counts[name] = len(records)
        message = "; ".join(loaded.warnings)[:2000]
        run.finish("done", counts, Usage(), message=message)
        return LoadResult(run.run, loaded.warnings, resumed=False)


def _read(session: Session, settings: Settings) -> Loaded:
    limit = min((n for n in (settings.limit, session.options.limit) if n is not None), default=None)
    if settings.source == "sandbox":
        from rlhf_eval.sandbox.world import prompts

        if settings.path:
            raise UserError(f"load sandbox takes no path; '{settings.path}' belongs to a format such as jsonl")
        return Loaded(prompts=tuple(prompts(settings.split, limit=limit, seed=session.options.seed)))
    reader = registry.load("format", settings.source)
    if not settings.path:
        raise UserError(f"load {settings.source} needs a path: rlhf-eval load {settings.source} PATH")
    loaded: Loaded = reader.read(Path(settings.path))
    if limit is None or not loaded.prompts:  # labels of prompts that are stored already stay whole
        return loaded
    kept = {prompt.id for prompt in loaded.prompts[:limit]}
    return Loaded(
        prompts=loaded.prompts[:limit],
        completions=tuple(c for c in loaded.completions if c.prompt_id in kept),
        judgments=tuple(j for j in loaded.judgments if j.prompt_id in kept),
        pairs=tuple(p for p in loaded.pairs if p.prompt_id in kept),
        warnings=loaded.warnings,
        sources=loaded.sources,
    )
