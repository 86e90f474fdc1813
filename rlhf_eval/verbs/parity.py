"""``parity PATH``: published numbers, derived again from published files through this program's own readers and scoring.

PATH is a folder of upstream checkouts, one checkout, or a part of one. What is found is checked; what is missing is said to
be missing and never counts as a pass. One module for each peer in ``rlhf_eval/parity``.

    rlhf-eval parity path/to/checkouts --json
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.parity.claim import Claim, Tree, attempt

PEERS = (
    "alpaca_eval",
    "correlation",
    "llmbar",
    "wildbench",
    "mt_bench",
    "judge_bench",
    "pandalm",
    "grade_school_math",
    "ifeval",
    "human_eval",
    "evalica",
    "arena_rank",
    "reward_bench",
    "arena_hard",
    "prometheus_eval",
)
"""Modules of ``rlhf_eval.parity``, in the order of the report."""


def parity(path: Path, *, only: str = "", allow_code: bool = False) -> Iterator[Claim]:
    """The claims of every peer, or of one, as they are decided; raises UserError on an unknown peer or a missing folder."""
    if only and only not in PEERS:
        raise UserError(f"there is no parity check '{only}'.{nearest(only, PEERS)}")
    tree = Tree(path, allow_code=allow_code)
    for peer in [only] if only else PEERS:
        yield from attempt(peer, peer, import_module(f"rlhf_eval.parity.{peer}").check(tree))
