"""IFEval: the official verdicts on published responses, strict and loose, decided again by our checkers.

Up to two verdicts may differ, because sentence splitting and language detection are our own. One instruction is left out:
where it counts a letter that is none, upstream draws another at random, which nobody can reproduce.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_eval import registry
from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row, read_rows
from rlhf_eval.parity.claim import Claim, Tree, attempt, missing
from rlhf_eval.records import Prompt

PEER = "ifeval"
_TAIL = "test_output/eval_results_{}.jsonl"
MAY_DIFFER = 2


@dataclass(slots=True)
class _Tally:
    """Verdicts on instructions and on prompts, published and ours."""

    instructions: list[tuple[bool, bool]] = field(default_factory=list)
    prompts: list[tuple[bool, bool]] = field(default_factory=list)


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of every pair of result files with their prompts and responses beside them."""
    for number, reading in enumerate(("strict", "loose")):
        files = tree.find(_TAIL.format(reading))
        if not files:
            yield from missing(PEER, [_TAIL.format(reading)])
        for file in files:
            yield from attempt(PEER, reading, _claims(tree, file, reading, number))


def _claims(tree: Tree, file: Path, reading: str, number: int) -> Iterator[Claim]:
    tally = _tally(file, number)
    if not tally.prompts:
        raise UserError("it holds no verdict on a whole prompt")
    same = sum(a == b for a, b in tally.instructions)
    n = len(tally.instructions)
    yield Claim(
        peer=PEER, subject=reading, number=f"verdicts that agree, of {n}", published=float(n), ours=float(same),
        tolerance=float(MAY_DIFFER), source=tree.name(file),
    )  # fmt: skip
    for level, pairs in (("instruction", tally.instructions), ("prompt", tally.prompts)):
        rates = [100 * sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
        yield Claim(
            peer=PEER, subject=reading, number=f"{level}-level accuracy", published=rates[0], ours=rates[1],
            tolerance=100 * MAY_DIFFER / len(pairs) + 1e-9, source=tree.name(file),
        )  # fmt: skip


def _tally(file: Path, reading: int) -> _Tally:
    judge = registry.load("judge", "ifeval")
    folder = file.parents[1]
    tasks = {row.text("prompt"): row for row in _rows(folder, "input_data.jsonl")}
    said = {row.text("prompt"): row.text("response") for row in _rows(folder, "input_response_data_*.jsonl")}
    tally = _Tally()
    for row in read_rows(file, [], lenient=True):
        text = row.text("prompt")
        response = row.label("response") or said.get(text, "")
        if text not in tasks:
            raise row.wrong("its prompt is not in input_data.jsonl")
        settings = {name: tasks[text].items(name) for name in ("instruction_id_list", "kwargs")}
        ours = judge.verify(Prompt.of(text, metadata=settings), response)[reading]
        kept = [not _drawn(values) for values in settings["kwargs"]]
        pairs = list(zip(row.items("follow_instruction_list"), ours, kept, strict=True))
        tally.instructions += [(bool(theirs), mine) for theirs, mine, keep in pairs if keep]
        if all(kept):
            tally.prompts.append((bool(row.get("follow_all_instructions")), all(ours)))
    return tally


def _rows(folder: Path, pattern: str) -> Sequence[Row]:
    files = sorted(folder.glob(pattern))
    if not files:
        raise UserError(f"{pattern} is not beside the results")
    return list(read_rows(files[0], [], lenient=True))


def _drawn(settings: Mapping[str, object]) -> bool:
    letter = (settings or {}).get("letter")
    return isinstance(letter, str) and not letter.isalpha()
