"""prometheus-eval: the size of the data that it carries, as their papers state it."""

from __future__ import annotations

from collections.abc import Iterator

from rlhf_eval.errors import UserError
from rlhf_eval.interop import autoj as reader
from rlhf_eval.parity.claim import Claim, Tree, absent, missing

PEER = "prometheus_eval"
_TAIL = "benchmark/data/autoj_pairwise.json"
PAIRS, SCENARIOS = 1392.0, 58.0
"""Auto-J's pairwise test set (arXiv 2310.05470, section 4): 58 scenarios of 24 pairs each."""


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of Auto-J's pairs."""
    files = tree.find(_TAIL)
    if not files:
        yield from missing(PEER, [_TAIL])
    for file in files:
        try:
            loaded = reader.read(file)
        except UserError as error:
            yield absent(PEER, "autoj_pairwise", "pairs", str(error))
            continue
        source = tree.name(file)
        scenarios = {prompt.category for prompt in loaded.prompts}
        for number, published, ours in (
            ("pairs", PAIRS, len(loaded.judgments)),
            ("scenarios", SCENARIOS, len(scenarios)),
        ):
            yield Claim(
                peer=PEER, subject="autoj_pairwise", number=number, published=published, ours=float(ours), source=source
            )
