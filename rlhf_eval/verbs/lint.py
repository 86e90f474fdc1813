"""``lint``: the data card of anybody's preference file; nothing is stored and no model is called.

rlhf-eval lint preferences.jsonl --against benchmark.jsonl --out card
rlhf-eval lint preferences.jsonl --suspects doubted.jsonl
rlhf-eval lint path/to/PandaLM --suspects doubted.jsonl
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rlhf_eval import registry
from rlhf_eval.config import build
from rlhf_eval.errors import GateFailed, UserError
from rlhf_eval.interop.files import hash_of
from rlhf_eval.interop.recognise import recognise
from rlhf_eval.stages.card import Card, card_of, markdown
from rlhf_eval.stages.sheet import Sheet, read_sheet, sheet_of_votes
from rlhf_eval.stages.suspects import Suspects, suspects
from rlhf_eval.verbs.session import Session

VOTES = ("pandalm", "autoj", "human")
"""Formats that hold what people say of pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to look at."""

    file: str = ""
    """A file, or a folder of files, of preference pairs in any shape that trainers read, or of people's votes on pairs."""
    against: tuple[str, ...] | str = ()
    """Benchmarks or prompt files whose prompts must not be in the set."""
    policy: tuple[str, ...] | str = ()
    """Names of the models that will be trained, for the on-policy share."""
    out: str = ""
    """Write the card to OUT.md and OUT.json."""
    suspects: str = ""
    """Write the pairs whose labels the other pairs speak against to this file (JSONL), the likeliest mistake first."""
    strict: bool = False
    """Exit with 4 where there is a warning."""


@dataclass(frozen=True, slots=True)
class LintResult:
    """The card, what is doubted where that was asked, and where both were written."""

    card: Card
    written: tuple[Path, ...]
    suspects: Suspects | None = None


def lint(session: Session, table: Mapping[str, Any]) -> LintResult:
    """Read a set and measure it; raises UserError where no row is a pair, GateFailed on a warning with ``strict``."""
    settings = build(Settings, table, where="lint")
    if not settings.file:
        raise UserError("lint needs a file: rlhf-eval lint preferences.jsonl")
    path = Path(settings.file)
    sheet = _sheet(path, session.options.limit)
    about = {"file": path.name} | ({"sha256": hash_of(path)} if path.is_file() else {})
    card = card_of(
        sheet,
        name=path.name,
        against=benchmark_prompts(names(settings.against)),
        policy=names(settings.policy),
        about=about,
        seed=session.options.seed,
    )
    written = write_card(card, Path(settings.out)) if settings.out else ()
    found = suspects(sheet, seed=session.options.seed) if settings.suspects else None
    if found:
        written = (*written, write_suspects(found, Path(settings.suspects)))
    if settings.strict and card.warnings:
        raise GateFailed(f"{path.name}: {len(card.warnings)} warnings; the first: {card.warnings[0]}")
    return LintResult(card, written, found)


def _sheet(path: Path, limit: int | None) -> Sheet:
    """The pairs of a file; of one that holds people's votes, what most of them say."""
    readers = [registry.load("format", name) for name in VOTES] if path.exists() else []
    for reader in readers:
        if reader.detect(path):
            loaded = reader.read(path)
            return sheet_of_votes(loaded.prompts[:limit], loaded.completions, loaded.judgments, "human/")
    return read_sheet(path, limit=limit)


def names(value: tuple[str, ...] | str) -> tuple[str, ...]:
    """One name or several, as several."""
    return (value,) if isinstance(value, str) and value else tuple(value)


def benchmark_prompts(paths: tuple[str, ...]) -> list[str]:
    """The prompts of benchmarks and prompt files, whatever their format."""
    texts: list[str] = []
    for path in paths:
        reader = registry.load("format", recognise(Path(path)))
        texts += [prompt.text for prompt in reader.read(Path(path)).prompts]
    return list(dict.fromkeys(texts))


def write_suspects(found: Suspects, path: Path) -> Path:
    """The doubted pairs as JSON Lines, which appear whole or not at all."""
    rows = b"".join(msgspec.json.encode(one) + b"\n" for one in found.ranked[: found.flagged])
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(rows)
        draft.replace(path)
    except OSError as error:
        raise UserError(f"{path}: the doubted pairs cannot be written: {error.strerror}") from error
    return path


def write_card(card: Card, stem: Path) -> tuple[Path, ...]:
    """Write the card as ``STEM.md`` and ``STEM.json``; each appears whole or not at all."""
    pages = {".md": markdown(card).encode(), ".json": msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"}
    written = []
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for suffix, content in pages.items():
            target = stem.with_name(stem.name + suffix)
            draft = stem.with_name(f".{stem.name}{suffix}.draft")
            draft.write_bytes(content)
            draft.replace(target)
            written.append(target)
    except OSError as error:
        raise UserError(f"{stem}: the card cannot be written: {error.strerror}") from error
    return tuple(written)
