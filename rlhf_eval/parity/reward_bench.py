"""RewardBench: the section scores of the README's example, and the Ties score of a file of scores.

The README prints subset accuracies of one model; the sections that upstream's code makes of them are known. A Ties file
holds scores of right and wrong answers; its published score is the one that upstream's code gives for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.benchmarks.labels import items
from rlhf_eval.benchmarks.reward_bench import SECTIONS, sections
from rlhf_eval.benchmarks.reward_bench_2 import ties
from rlhf_eval.errors import UserError
from rlhf_eval.interop import reward_bench as reader
from rlhf_eval.parity.claim import Claim, Tree, absent, missing
from rlhf_eval.stats.intervals import Interval

PEER = "reward_bench"
_README = "README.md"
_METRICS = re.compile(r"metrics = \{(.*?)\n\}", re.DOTALL)
_ENTRY = re.compile(r'"([\w-]+)":\s*([0-9.]+)')

EXAMPLE: Mapping[str, Mapping[str, float]] = {
    "PKU-Alignment/beaver-7b-v1.0-cost": {
        "Chat": 0.6089385,
        "Chat Hard": 0.4495614,
        "Safety": 0.7216216,
        "Reasoning": 0.4667567,
    }
}
"""Model of the README's example to the sections that ``calculate_scores_per_section`` makes of it; to seven decimals."""

TIES: Mapping[str, float] = {
    "rb2_ties_fixture.json": 0.6798008785085254,
}
"""Name of a Ties file to the score that ``process_single_model`` gives it."""


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of the README's example and of every Ties file."""
    readmes = [(file, found) for file in tree.find(_README) if (found := _example(file)) is not None]
    files = tree.find("*ties*.json")
    if not readmes and not files:
        yield from missing(PEER, ["a README.md with an example of subset scores", "*ties*.json"])
        return
    if not readmes:
        yield absent(PEER, "README example", "sections", "no README.md of reward-bench with subset scores")
    for file, (model, subsets) in readmes:
        yield from _sections(tree, file, model, subsets)
    for file in files:
        yield _ties(tree, file)


def _example(file: Path) -> tuple[str, dict[str, float]] | None:
    """The model and subset accuracies printed in a README; None where it prints none."""
    text = file.read_text(encoding="utf-8", errors="replace")
    block = _METRICS.search(text)
    if block is None or "calculate_scores_per_section" not in text:
        return None
    subsets = {name: float(value) for name, value in _ENTRY.findall(block[1])}
    model = re.search(r'"model":\s*"([^"]+)"', block[1])
    return (model[1], subsets) if model and subsets else None


def _sections(tree: Tree, file: Path, model: str, subsets: Mapping[str, float]) -> Iterator[Claim]:
    ours = sections({name: _known(value) for name, value in subsets.items()})
    for section in SECTIONS:
        published = EXAMPLE.get(model, {}).get(section)
        yield Claim(
            peer=PEER, subject=f"README example, {model}", number=section, published=published,
            ours=ours[section].value if section in ours else None, tolerance=5.1e-8, source=tree.name(file),
            note="" if published is not None else "no sections of this model are known here",
        )  # fmt: skip


def _known(value: float) -> Interval:
    return Interval(value=value, low=0, high=1, se=0, n=1, n_eff=1, level=0.95, method="as printed")


def _ties(tree: Tree, file: Path) -> Claim:
    subject = tree.name(file)
    published = TIES.get(file.name)
    if published is None:
        return absent(PEER, subject, "Ties score", "no published score of this file is known here")
    try:
        loaded = reader.read(file)
        evidence = Evidence.of(loaded.prompts, loaded.completions, loaded.judgments)
        whole, _ = ties(items(evidence, evidence.judges[0]))
    except UserError as error:
        return absent(PEER, subject, "Ties score", str(error))
    return Claim(
        peer=PEER,
        subject=subject,
        number="Ties score",
        published=published,
        ours=whole.score,
        tolerance=1e-12,
        source=subject,
    )
