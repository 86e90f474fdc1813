"""The data card: what a team should know of a preference set before it trains on it.

Counts that sum, sources and costs, biases, repeats, contamination, label quality, diversity, and warnings in words. A
warning needs an interval that is clear of harmless: a small clean set raises none by chance.

    card = card_of(sheet_of(pairs), name="tonight")
    markdown(card)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlhf_eval.records import Estimate
from rlhf_eval.stages import measures
from rlhf_eval.stages.matrix import Floats
from rlhf_eval.stages.sheet import Sheet

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A data card, as it is written to JSON."""

    name: str
    counts: Mapping[str, int] = field(default_factory=dict)
    """Rows, pairs, prompts, and how every prompt or row ended."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Where the set comes from: run, rule, labelers, judges, models, cost, inputs by hash."""
    estimates: tuple[Estimate, ...] = ()
    histograms: Mapping[str, list[tuple[float, float, int]]] = field(default_factory=dict)
    """Name to (from, to, count)."""
    matrix: tuple[tuple[str, str, int], ...] = ()
    """Chosen model, rejected model, how often."""
    examples: Mapping[str, str] = field(default_factory=dict)
    """What went wrong with a row, and the first place where it did."""
    warnings: tuple[str, ...] = ()
    version: int = VERSION

    def get(self, name: str) -> Estimate | None:
        """The estimate of a name, if the card has it."""
        return next((e for e in self.estimates if e.name == name), None)


def card_of(
    sheet: Sheet,
    *,
    name: str,
    against: Sequence[str] = (),
    policy: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
    counts: Mapping[str, int] | None = None,
    extra: Sequence[Estimate] = (),
    rewards: Mapping[str, Floats] | None = None,
    seed: int = 0,
) -> Card:
    """The card of a set.

    ``against`` are benchmark prompts, ``extra`` what was measured of judgments or an SFT set, ``rewards`` the scores whose
    histograms are shown, by name.
    """
    found: list[Estimate] = [*extra]
    if len(sheet):
        found += measures.of_lengths(sheet) + measures.of_strength(sheet) + measures.of_repeats(sheet)
        found += measures.of_answers(sheet) + measures.of_contamination(sheet, against)
        found += measures.of_diversity(sheet, seed) + measures.of_policy(sheet, policy)
    labelers = Counter(name for name in sheet.labeler if name)
    matrix = tuple(measures.win_matrix(sheet))
    words = (
        _from_rows(sheet)
        + [w for e in found for w in [_warning(e)] if w]
        + _one_sided(sheet, matrix)
        + _own_scores(found)
    )
    return Card(
        name=name,
        counts={
            "rows": sheet.rows,
            "pairs": len(sheet),
            "prompts": len(set(sheet.prompt)),
            **{f"unusable: {reason}": count for reason, count in sheet.broken.most_common()},
            **(counts or {}),
        },
        about={"labelers": dict(labelers.most_common()), **(about or {})},
        estimates=tuple(found),
        histograms={
            "margin": measures.histogram(sheet.numbers(sheet.margin)),
            "probability": measures.histogram(sheet.numbers(sheet.probability)),
            **{name: measures.histogram(values) for name, values in (rewards or {}).items()},
        },
        matrix=matrix,
        examples=dict(sheet.examples),
        warnings=tuple(words),
    )


LIMITS: Mapping[str, tuple[float, str]] = {
    "coin_flips": (
        0.3,
        "{value:.0%} of the labels are near coin flips (probability under .6): raise min_margin, or ask again",
    ),
    "duplicate_rows": (0.005, "{value:.1%} of the rows repeat an earlier one word for word: deduplicate"),
    "near_duplicate_prompts": (
        0.01,
        "{value:.1%} of the prompts nearly repeat an earlier one: pairs --set duplicates=near",
    ),
    "contradictions": (
        0.002,
        "{value:.1%} of the pairs stand in the set the other way round too: labels contradict each other",
    ),
    "alike_answers": (0.05, "{value:.1%} of the pairs differ in almost no word: there is little to learn from them"),
    "refusals_chosen": (0.03, "{value:.1%} of the chosen answers refuse: a model will learn to"),
    "truncated_chosen": (0.05, "{value:.1%} of the chosen answers stop in the middle: raise max_tokens"),
    "other_language": (0.02, "{value:.1%} of the chosen answers are in another language than their prompt"),
    "leaked_test_prompts": (
        0.02,
        "{value:.1%} of the test prompts stand in this set: results on that benchmark mean nothing",
    ),
    "label_noise": (0.1, "about {value:.0%} of the labels are wrong, by how often repeats of them disagree ({source})"),
    "order_flips": (0.3, "{value:.0%} of the verdicts of {judge} flip when the answers change places"),
    "duplicate_answers": (0.05, "{value:.1%} of the kept answers repeat another one word for word"),
}
"""Measure to the bound that its interval must lie over before it is a warning, and the warning."""


def _warning(e: Estimate) -> str:
    """The warning that an estimate gives; empty where it gives none."""
    if e.name in LIMITS:
        bound, words = LIMITS[e.name]
        return words.format(value=e.value, **e.settings) if e.low > bound else ""
    # The interval must exclude .6 as well, so that a small set does not cry wolf.
    if e.name == "length_auc" and (e.value > 0.65 and e.low > 0.6):
        return (
            f"length alone tells chosen from rejected (AUC {e.value:.2f}): the longer answer wins; try length_matched"
        )
    if e.name == "length_auc" and (e.value < 0.35 and e.high < 0.4):
        return f"length alone tells chosen from rejected (AUC {e.value:.2f}): the shorter answer wins"
    if e.name == "first_slot" and e.settings["once"] and abs(e.value) > 0.05 and (e.low > 0 or e.high < 0):
        slot = "first" if e.value > 0 else "second"
        once = f"{e.settings['once']:.0%} of its comparisons were shown in one order only"
        return f"{e.settings['judge']} favours the answer shown {slot} by {abs(e.value):.2f}, and {once}: judge in both"
    if e.name == "labeler_agreement" and e.high < 0.6:
        return f"{e.settings['labelers']} agree on {e.value:.0%} of the pairs only; half would be chance"
    if e.name == "contaminated_prompts" and e.value > 0:
        return (
            f"{e.value:.2%} of the prompts hold a test prompt: pass the benchmark with --against when you build the set"
        )
    return ""


def _from_rows(sheet: Sheet) -> list[str]:
    return [
        f"{count:,} of {sheet.rows:,} rows cannot be used: {reason} (first: {sheet.examples.get(reason, '?')})"
        for reason, count in sheet.broken.most_common()
    ]


def _one_sided(sheet: Sheet, matrix: Sequence[tuple[str, str, int]]) -> list[str]:
    """Whether the name of the model alone tells which side is chosen."""
    wins: Counter[str] = Counter()
    met: Counter[str] = Counter()
    for a, b, count in matrix:
        if a and b and a != b:
            wins[a] += count
            met[a] += count
            met[b] += count
    total = sum(met.values()) // 2
    always = [m for m in met if met[m] == total and total >= 20 and wins[m] >= 0.95 * met[m]]
    if len(met) < 2 or not always or total < 0.5 * len(sheet):
        return []
    return [
        f"{always[0]} is chosen in {wins[always[0]]:,} of the {total:,} pairs between models: who wrote it gives it away"
    ]


def _own_scores(found: Sequence[Estimate]) -> list[str]:
    gain = next((e for e in found if e.name == "selected_minus_pool"), None)
    if gain is None:
        return []
    words = (
        f"the scores of the kept answers are inflated: they were picked by the same scores (winner's curse); "
        f"the gain of {gain.value:.3g} over the pool is no estimate of quality: use another judge or held-out prompts"
    )
    return [words]


def markdown(card: Card) -> str:
    """The card as a page."""
    lines = [f"# Data card: {card.name}", ""]
    if card.warnings:
        lines += ["## Warnings", "", *(f"- {warning}" for warning in card.warnings), ""]
    else:
        lines += ["No warnings.", ""]
    lines += ["## Counts", "", *_table(["", "n"], [[k, f"{v:,}"] for k, v in card.counts.items()]), ""]
    about = [[k, _plain(v)] for k, v in card.about.items() if v]
    if about:
        lines += ["## Origin", "", *_table(["", ""], about), ""]
    rows = [
        [e.name.replace("_", " "), f"{e.value:.4g}", f"{e.low:.4g} to {e.high:.4g}", f"{e.n:,}", _settings(e)]
        for e in card.estimates
    ]
    if rows:
        lines += ["## Measures", "", *_table(["measure", "value", "95 % interval", "n", "of"], rows), ""]
    for name, bins in card.histograms.items():
        if bins:
            most = max(count for _, _, count in bins) or 1
            shown = [[f"{a:.3g} to {b:.3g}", f"{n:,}", "█" * round(24 * n / most)] for a, b, n in bins]
            lines += [f"## Histogram of the {name}", "", *_table(["from, to", "n", ""], shown), ""]
    if card.matrix:
        shown = [[a or "?", b or "?", f"{n:,}"] for a, b, n in card.matrix]
        lines += ["## Who was chosen over whom", "", *_table(["chosen", "rejected", "n"], shown), ""]
    return "\n".join(lines)


def _settings(e: Estimate) -> str:
    told = {k: v for k, v in e.settings.items() if k != "level"}
    return ", ".join(f"{k} {_plain(v)}" for k, v in told.items())


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in cells)]
