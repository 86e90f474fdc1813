"""PandaLM: how the three annotators agree, and how the majority's labels are spread, as its README says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations

from rlhf_eval.errors import UserError
from rlhf_eval.interop import pandalm as reader
from rlhf_eval.interop.loaded import FIRST, SECOND, TIE, Loaded
from rlhf_eval.parity.claim import Claim, Tree, absent, attempt, missing
from rlhf_eval.stats.agreement import cohen_kappa

PEER = "pandalm"
_TAIL = "data/testset-v1.json"
KAPPAS = {("annotator1", "annotator2"): 0.85, ("annotator1", "annotator3"): 0.88, ("annotator2", "annotator3"): 0.86}
LABELS = {TIE: 105.0, FIRST: 422.0, SECOND: 472.0}
"""Majority labels; where all three differ the first annotator's."""

_LABELS = (TIE, FIRST, SECOND)


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of the test set."""
    files = tree.find(_TAIL)
    if not files:
        yield from missing(PEER, [_TAIL])
    for file in files:
        try:
            loaded = reader.read(file.parent)
        except UserError as error:
            yield absent(PEER, "test set", "agreement", str(error))
            continue
        yield from attempt(PEER, "test set", _claims(loaded, tree.name(file)))


def _claims(loaded: Loaded, source: str) -> Iterator[Claim]:
    labels: dict[str, dict[str, tuple[float, ...]]] = {name: {} for name in reader.ANNOTATORS}
    for judgment in loaded.judgments:
        person = judgment.judge.removeprefix("human/")
        if person in labels and judgment.scores:
            labels[person][str(judgment.metadata["idx"])] = judgment.scores
    shared = sorted(set.intersection(*(set(given) for given in labels.values())))
    for pair in combinations(reader.ANNOTATORS, 2):
        codes = [[_LABELS.index(labels[name][idx]) for idx in shared] for name in pair]
        yield Claim(
            peer=PEER, subject=" and ".join(pair), number="kappa", published=KAPPAS[pair], ours=cohen_kappa(*codes),
            tolerance=0.005, source=source, note="published to two decimals",
        )  # fmt: skip
    majority = Counter(Counter(labels[name][idx] for name in reader.ANNOTATORS).most_common(1)[0][0] for idx in shared)
    for label, published in LABELS.items():
        name = {TIE: "ties", FIRST: "first better", SECOND: "second better"}[label]
        yield Claim(
            peer=PEER, subject="majority", number=name, published=published, ours=float(majority[label]), source=source
        )
