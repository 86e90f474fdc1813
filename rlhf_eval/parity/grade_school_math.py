"""Grade-school math: the correctness that was published with every sample solution, decided again by our verifier."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlhf_eval import registry
from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row, read_rows
from rlhf_eval.parity.claim import Claim, Tree, of_files
from rlhf_eval.records import Prompt

PEER = "grade_school_math"
_TAIL = "data/example_model_solutions.jsonl"


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of every system in the file of solutions, whatever it is called."""
    return of_files(PEER, tree, _TAIL, _claims)


def _claims(tree: Tree, file: Path) -> Iterator[Claim]:
    verdicts = _verdicts(list(read_rows(file, [], lenient=True)))
    if not verdicts:
        raise UserError("it holds no solution with a verdict")
    for system, pairs in verdicts.items():
        n = len(pairs)
        same = sum(published == ours for published, ours in pairs)
        yield Claim(
            peer=PEER, subject=system, number=f"verdicts that agree, of {n}", published=float(n), ours=float(same),
            source=tree.name(file),
        )  # fmt: skip
        rates = [100 * sum(column) / n for column in zip(*pairs, strict=True)]
        yield Claim(
            peer=PEER, subject=system, number="accuracy", published=rates[0], ours=rates[1], source=tree.name(file)
        )


def _verdicts(rows: Sequence[Row]) -> dict[str, list[tuple[bool, bool]]]:
    """System to (published, ours) for each of its solutions."""
    verifier = registry.load("judge", "verifier")
    config = verifier.Config(kind="gsm8k")
    found: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for row in rows:
        prompt = Prompt.of(row.text("question"), reference=row.text("ground_truth"))
        for system, solution in row.values.items():
            if isinstance(solution, dict) and "is_correct" in solution:
                text: Any = solution.get("solution")
                found[system].append((bool(solution["is_correct"]), verifier.verify(prompt, str(text), config).right))
    return found
