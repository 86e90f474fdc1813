"""What ``train`` trains on: the records of a run, or the rows of a file, of ours or in one of TRL's formats.

data, identity = read_data(session, "latest", ("pairs",), trainer="dpo")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import content_of
from rlhf_eval.records import Demonstration, PreferencePair, Prompt, Run
from rlhf_eval.stages.training import Data
from rlhf_eval.stages.training_files import both_sides, read_file
from rlhf_eval.verbs.lint import names
from rlhf_eval.verbs.session import Session, limited

MAKERS: Mapping[str, str] = {
    "pairs": "rlhf-eval pairs --rule best_worst",
    "demonstrations": "rlhf-eval pairs --rule top_per_prompt",
    "labelled": "rlhf-eval pairs --rule unpaired --out labelled.jsonl",
    "stepwise": "a file of rows with prompt, completions and labels",
    "prompts": "rlhf-eval load",
}
"""Kind of data to what makes it."""


def read_data(
    session: Session, refs: str | tuple[str, ...], reads: Sequence[str], *, trainer: str
) -> tuple[Data, dict[str, str]]:
    """The records that a trainer reads, of one run or file or of several, and the inputs by which its run is known.

    Raises UserError, in one line, where a run or file holds none of them, naming what it does hold.
    """
    first, *others = names(refs) or ("",)
    data, inputs = _read(session, first, reads, trainer)
    for number, ref in enumerate(others, start=2):
        more, known = _read(session, ref, reads, trainer)
        data = replace(data, **{name: (*getattr(data, name), *getattr(more, name)) for name in reads})
        inputs |= {f"{name} {number}": value for name, value in known.items()}
    return data, inputs


def _read(session: Session, ref: str, reads: Sequence[str], trainer: str) -> tuple[Data, dict[str, str]]:
    path = Path(ref)
    if path.exists() or path.suffix in {".jsonl", ".json", ".parquet", ".csv", ".gz"}:
        found, inputs, where = read_file(path), {f"file:{path.name}": content_of(path)}, ref
    else:
        run = session.find(ref, verbs=_verbs(reads))
        found, inputs, where = _of_run(session, run, reads), {"data": run.id}, f"run {run.id} ({run.verb})"
    kept = {name: tuple(limited(list(getattr(found, name)), session.options.limit)) for name in reads}
    data = Data(**kept)
    if not data.counts():
        held = ", ".join(found.counts()) or "nothing that can be trained on"
        wanted = " or ".join(reads)
        raise UserError(f"{trainer} reads {wanted}, and {where} holds {held}; make them with: {MAKERS[reads[0]]}")
    return data, inputs


def _verbs(reads: Sequence[str]) -> tuple[str, ...]:
    return ("load", "generate") if tuple(reads) == ("prompts",) else ("pairs", "load")


def _of_run(session: Session, run: Run, reads: Sequence[str]) -> Data:
    pairs = session.read(PreferencePair, run)
    return Data(
        pairs=tuple(pairs),
        demonstrations=tuple(session.read(Demonstration, run)),
        labelled=both_sides(pairs) if "labelled" in reads else (),
        prompts=tuple(session.store.read(Prompt, run=session.lineage(run))),
    )
