"""``load``: prompts, and whatever else a peer's folder holds, enter the store.

rlhf-eval load sandbox
rlhf-eval load jsonl questions.jsonl
rlhf-eval load alpaca_eval path/to/alpaca_eval
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_eval import registry
from rlhf_eval.config import as_settings, build
from rlhf_eval.errors import UserError
from rlhf_eval.interop.loaded import Loaded
from rlhf_eval.records import Run, Usage, fingerprint
from rlhf_eval.verbs.session import Session

MANY = 20
"""Files above which a run keeps one hash over all instead of one for each."""


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
    config |= provenance(Path(settings.path), loaded.sources) if settings.path else {}
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


def provenance(path: Path, sources: Mapping[str, str]) -> dict[str, Any]:
    """The SHA-256 of every file that was read (of many, one over all), and the revision of a checkout or hub snapshot."""
    known: dict[str, Any] = {}
    if sources:
        many = len(sources) > MANY
        known["files"] = {"count": len(sources), "hash": fingerprint(sources)} if many else dict(sources)
    revision = _snapshot(path) or _commit(path / ".git")
    return {**known, "revision": revision} if revision else known


def _snapshot(path: Path) -> str:
    """The revision in ``.../snapshots/REVISION/...``, as the hub's cache lays files out."""
    parts = path.absolute().parts
    found = next((n for n, part in enumerate(parts[:-1]) if part == "snapshots"), None)
    return parts[found + 1] if found is not None and re.fullmatch(r"[0-9a-f]{40}", parts[found + 1]) else ""


def _commit(git: Path) -> str:
    """The commit that a checkout is at; empty where it is none."""
    with suppress(OSError, UnicodeDecodeError):
        head = (git / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        if (git / ref).is_file():
            return (git / ref).read_text("utf-8").strip()
        packed = (git / "packed-refs").read_text("utf-8").splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), "")
    return ""


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
