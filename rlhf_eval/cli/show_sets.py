"""What the user sees of a training set: its data card, rules side by side, what verify found, what people are asked."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from rlhf_eval.cli import show
from rlhf_eval.cli.words import emit
from rlhf_eval.records import Estimate
from rlhf_eval.stages.card import Card
from rlhf_eval.stages.suspects import Suspects
from rlhf_eval.verbs.corrupt import CorruptResult
from rlhf_eval.verbs.lint import LintResult
from rlhf_eval.verbs.pairs import Ablation
from rlhf_eval.verbs.route import RouteResult
from rlhf_eval.verbs.session import Session
from rlhf_eval.verbs.verify import VerifyResult

SIDE_BY_SIDE = (
    "mean_probability",
    "coin_flips",
    "chosen_longer",
    "length_d",
    "length_auc",
    "alike_answers",
    "agreement_with_truth",
    "kept_score",
    "selected_minus_pool",
    "selected_minus_control",
    "gold_minus_control",
    "duplicate_answers",
    "vendi",
)
"""Measures of a card that tell rules apart, in the order of the table; those that no rule's card has are left out."""


def lint(result: LintResult, path: str, *, as_json: bool) -> None:
    """The data card of a file."""
    if as_json:
        written = [str(page) for page in result.written]
        doubted = {"doubted": _doubted(result.suspects)} if result.suspects else {}
        emit({"event": "data_card", "card": msgspec.to_builtins(result.card), **doubted, "written": written})
        return
    print(f"\n{card_text(result.card)}\n")
    if result.suspects:
        told = ", ".join(f"{name} {value:.4g}" for name, value in _doubted(result.suspects).items())
        print(f"  labels that the other pairs speak against: {told}")
        if result.suspects.split:
            of, others = (f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}]" for i in result.suspects.split)
            print(f"  people were split on {of} of these, and on {others} of the others")
    for page in result.written:
        print(f"  results: {page}")
    print(f"  next:    rlhf-eval train dpo --data {shlex.quote(path)} --model SPEC")


def _doubted(found: Suspects) -> dict[str, float]:
    """How many labels are doubted, how often the doubter agrees (one half: it knows nothing), and its AUROC where known."""
    known = {} if found.auroc is None else {"auroc": found.auroc}
    if found.split:
        known |= {"split": found.split[0].value, "others_split": found.split[1].value}
    return {"doubted": found.flagged, "of": len(found.ranked), "agreement": found.agreement, **known}


def card_text(card: Card) -> str:
    """A data card for a terminal: counts, measures with intervals, and the warnings last, where they are read."""
    counts = ", ".join(f"{count:,} {name}" for name, count in card.counts.items())
    rows = [
        [f"  {e.name.replace('_', ' ')}", f"{e.value:.4g}", f"[{e.low:.4g}, {e.high:.4g}]", f"n={e.n:,}", _of(e)]
        for e in card.estimates
    ]
    warned = [f"  ! {warning}" for warning in card.warnings] or ["  no warnings"]
    return "\n".join([f"{card.name}: {counts}", show.table([], rows), *warned])


def ablation(rows: Sequence[Ablation], judgments: str, session: Session, *, as_json: bool) -> None:
    """The sets that several rules make of the same judgments, a column a rule."""
    if as_json:
        for row in rows:
            counts, card = dict(row.counts), msgspec.to_builtins(row.card)
            emit({"event": "rule", "rule": row.rule, "counts": counts, "card": card})
        return
    print()
    print(show.table(["", *(row.rule for row in rows)], [*_counts(rows), *_measures(rows)]))
    for row in rows:
        for warning in row.card.warnings:
            print(f"  ! {row.rule}: {warning}")
    store = session.options.store_flag
    print(f"\n  next:    rlhf-eval pairs --judgments {judgments} --rule {rows[0].rule} --out pairs.jsonl{store}")


def _counts(rows: Sequence[Ablation]) -> list[list[str]]:
    """How the prompts ended and what came out of them."""
    names = dict.fromkeys(name for row in rows for name in row.counts)
    ends = {"pair": "prompts with a record", "tie": "prompts that tie", "dropped": "prompts dropped"}
    return [[ends.get(name, name), *(f"{row.counts.get(name, 0):,}" for row in rows)] for name in names]


def _measures(rows: Sequence[Ablation]) -> list[list[str]]:
    found = [[row.card.get(name) for row in rows] for name in SIDE_BY_SIDE]
    return [
        [name.replace("_", " "), *(f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" if e else "-" for e in cells)]
        for name, cells in zip(SIDE_BY_SIDE, found, strict=True)
        if any(cells)
    ]


def corrupt(result: CorruptResult, session: Session, *, as_json: bool) -> None:
    """How many labels were turned, and where the set lies."""
    if as_json:
        written = [str(page) for page in result.written]
        counts = {"run": result.run.id, "pairs": result.pairs, "flipped": result.flipped, "written": written}
        emit({"event": "corrupted", **counts})
        return
    share = 100 * result.flipped / result.pairs
    print(f"\ncorrupt: {result.flipped:,} of {result.pairs:,} labels turned ({share:.4g} %)")
    for page in result.written:
        print(f"  written: {page}")
    print(f"  results: {result.folder}")
    print(
        f"  next:    rlhf-eval train reward_model --data {result.run.id[-8:]} --model SPEC{session.options.store_flag}"
    )


def verify(result: VerifyResult, session: Session, *, as_json: bool) -> None:
    """Whether a set can be made again."""
    if as_json:
        emit({"event": "verify", **msgspec.to_builtins(result), "good": result.good})
        return
    said = "can be made again, to the last field" if result.good else "CANNOT be made again as it is"
    print(f"\n{result.run.id} {said}")
    print(f"  records:   {result.records:,} in the set; {result.same:,} the same, {result.lost:,} lost or changed, "
          f"{result.extra:,} that it does not hold")  # fmt: skip
    fates = ", ".join(f"{count:,} {fate}" for fate, count in sorted(result.judgments.items())) or "none"
    print(f"  judgments: read anew from the stored replies: {fates}")
    for words in result.differences:
        print(f"  ! {words}")
    digits = result.run.id[-8:]
    follow = f"train dpo --data {digits} --model SPEC" if result.good else f"runs show {digits}"
    print(f"  next:    rlhf-eval {follow}{session.options.store_flag}")


def route(result: RouteResult, session: Session, *, as_json: bool) -> None:
    """What people are asked, and where."""
    if as_json:
        emit({"event": "route", **asdict(result)})
        return
    print(f"\nroute: {result.drawn:,} of {result.open:,} undecided comparisons of {result.run} drawn for people")
    print(
        "  fill in 'choice' (a, b or tie) and 'labeler' in each row; each row carries the chance that it was drawn with"
    )
    print(f"  results: {result.written}")
    labels = f"--judgments {result.run[-8:]} --labels {shlex.quote(str(result.written))} --aggregate majority"
    print(f"  next:    rlhf-eval pairs {labels}{session.options.store_flag}")


def _of(e: Estimate) -> str:
    told: Mapping[str, Any] = {k: v for k, v in e.settings.items() if k not in ("level", "tokens")}
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in told.items())
