"""Arena-Hard: the style counts that are stored with every answer, counted again."""

from __future__ import annotations

from collections.abc import Iterator

from rlhf_eval.benchmarks.style import counts
from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row, read_rows
from rlhf_eval.parity.claim import Claim, Tree, absent, missing

PEER = "arena_hard"
_TAIL = "data/*/model_answer/*.jsonl"
FAMILIES = ("header_count", "list_count", "bold_count")


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of every file of answers that carries counts."""
    files = [file for file in tree.find(_TAIL) if "arena-hard" in file.parts[-3]]
    if not files:
        yield from missing(PEER, [_TAIL])
    for file in files:
        problems: list[str] = []
        try:
            answers = [_answer(row) for row in read_rows(file, problems, lenient=True)]
        except UserError as error:
            yield absent(PEER, file.stem, "style counts", str(error))
            continue
        carried = [(text, stored) for text, stored in answers if stored]
        if not carried:
            yield absent(PEER, file.stem, "style counts", "these answers carry no counts")
            continue
        same = sum(all(getattr(counts(text), name) == stored[name] for name in FAMILIES) for text, stored in carried)
        yield Claim(
            peer=PEER, subject=file.stem, number=f"answers of equal style counts, of {len(carried)}",
            published=float(len(carried) + len(problems)), ours=float(same), source=tree.name(file),
        )  # fmt: skip


def _answer(row: Row) -> tuple[str, dict[str, dict[str, int]]]:
    """The text of an answer, and its stored counts; none in the older layout."""
    if "messages" not in row.values:
        return "", {}
    last = row.rows("messages")[-1]
    text = last.text("content") if isinstance(last.get("content"), str) else last.inner("content").text("answer")
    stored = row.values.get("metadata")
    whole = isinstance(stored, dict) and all(name in stored for name in FAMILIES)
    return text, dict(stored) if whole and stored else {}
