"""A set on its way out: the file that a trainer reads, its data card, and the manifest that it can be remade from.

export(records, Path("pairs.jsonl"), "trl", card, manifest)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.interop import axolotl, handbook, nemo_rl, openrlhf, trl, ultrafeedback
from rlhf_eval.interop.training_rows import Training, turns, write_rows
from rlhf_eval.records import Run, fingerprint, to_json
from rlhf_eval.stages.card import Card, markdown
from rlhf_eval.stages.pairs import Labelled
from rlhf_eval.verbs.lint import write_card

Write = Callable[[Sequence[Training], Path], int]


def export(
    records: Sequence[Training] | Sequence[Labelled] | ultrafeedback.Graded,
    out: Path,
    shape: str,
    card: Card,
    manifest: Mapping[str, Any],
) -> tuple[Path, ...]:
    """Write a set with its card and manifest; the files written. Raises UserError on an unknown shape."""
    if shape not in (*SHAPES, ultrafeedback.SOURCE):
        raise UserError(f"there is no format '{shape}' for a set.{nearest(shape, (*SHAPES, ultrafeedback.SOURCE))}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out.parent}: {error.strerror}") from error
    if isinstance(records, ultrafeedback.Graded):
        ultrafeedback.write(records, out)
    elif records and isinstance(records[0], Labelled):
        _write_labelled(records, out)  # type: ignore[arg-type]
    else:
        SHAPES[shape](records, out)  # type: ignore[arg-type]
    stem = out / "card" if shape == "hub" else out.with_suffix(".card")
    written = [out, *write_card(card, stem)]
    if shape == "hub":
        written.append(_readme(out, card))
    page = (out / "manifest.json") if shape == "hub" else out.with_suffix(".manifest.json")
    _write(page, msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n")
    return (*written, page)


def manifest_of(run: Run, source: Run, prompts: Iterable[str], judges: Iterable[str]) -> dict[str, Any]:
    """What a set was made from: run, settings, seed, inputs, versions, and the prompts' hash."""
    return {
        "run": run.id,
        "rule": run.config.get("rule"),
        "config": dict(run.config),
        "seed": run.seed,
        "inputs": dict(run.inputs),
        "source": {"run": source.id, "verb": source.verb, "config": dict(source.config)},
        "prompts": fingerprint(sorted(prompts)),
        "judges": sorted(judges),
        "versions": {
            name: v for name, v in run.versions.items() if name != "command"
        },  # it tells paths of this machine
        "schema": run.schema,
    }


def _hub(records: Sequence[Training], folder: Path) -> int:
    """A Hugging Face ``datasets`` folder: Parquet under data/, a README with the set's configuration in its head."""
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from error
    return trl.write(records, folder / "data" / "train-00000-of-00001.parquet")


def _readme(folder: Path, card: Card) -> Path:
    rows = card.counts.get("pairs") or card.counts.get("demonstrations", 0)
    size = next((label for most, label in SIZES if rows < most), "n>1M")
    head = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: data/train-*",
        "tags:",
        "- preference" if card.counts.get("pairs") else "- sft",
        "- rlhf-eval",
        "size_categories:",
        f"- {size}",
        "---",
        "",
    ]
    page = folder / "README.md"
    _write(page, ("\n".join(head) + markdown(card)).encode())
    return page


SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def _records(records: Sequence[Training], out: Path) -> int:
    """Our own records, one a line, with everything that they know."""
    _write(out, b"".join(to_json(record) + b"\n" for record in records))
    return len(records)


def _write_labelled(records: Sequence[Labelled], out: Path) -> int:
    """Single answers with a label, as TRL's KTO reads them."""
    rows = (
        {"prompt": turns(r.prompt), "completion": turns(r.completion), "label": r.label, "score": r.score}
        for r in records
    )
    return write_rows(out, rows)


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


SHAPES: Mapping[str, Write] = {
    "jsonl": _records,
    "trl": trl.write,
    "trl_text": partial(trl.write, standard=True),
    "trl_unpaired": partial(trl.write, unpaired=True),
    "openrlhf": openrlhf.write,
    "axolotl": axolotl.write,
    "axolotl_rm": partial(axolotl.write, reward_model=True),
    "nemo_rl": nemo_rl.write,
    "handbook": handbook.write,
    "hub": _hub,
}
"""Name of a shape to what writes it."""
