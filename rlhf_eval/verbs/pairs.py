"""``pairs``: stored judgments become preference pairs and SFT sets, each with its data card; no model is called.

rlhf-eval pairs --rule best_worst --out pairs.jsonl
rlhf-eval pairs --rule top_per_prompt --set filters.duplicates=near --set format=hub --out set/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rlhf_eval import registry
from rlhf_eval.audit import shelf
from rlhf_eval.audit.card import summary
from rlhf_eval.config import as_settings, build
from rlhf_eval.interop import ultrafeedback
from rlhf_eval.records import Demonstration, Judgment, Outcome, PreferencePair, Run, Usage
from rlhf_eval.stages import evidence
from rlhf_eval.stages.card import Card, card_of
from rlhf_eval.stages.drive import Tally
from rlhf_eval.stages.matrix import Floats, Ints
from rlhf_eval.stages.pairs import Selection, account, run_rule
from rlhf_eval.stages.sheet import sheet_of
from rlhf_eval.verbs.export import export, manifest_of
from rlhf_eval.verbs.flow import account as tally_of
from rlhf_eval.verbs.lint import names, write_card
from rlhf_eval.verbs.pairs_inputs import Inputs, Settings, files_of, find_source, read_inputs
from rlhf_eval.verbs.session import Session, split_settings


@dataclass(frozen=True, slots=True)
class PairsResult:
    """The run, its account, what was selected, and its data card."""

    run: Run
    tally: Tally
    pairs: list[PreferencePair]
    resumed: bool
    card: Card
    control: Run | None = None
    """The run of the matched random set, where the rule has one."""
    written: tuple[Path, ...] = ()


def pairs(session: Session, table: Mapping[str, Any]) -> PairsResult:
    """Apply a selection rule to the judgments of a run; write the set's card into the run, and the set where asked."""
    settings, plugin, config = split_settings(table, "pairs", Settings, "rule", "selection")
    needs_scores = getattr(plugin, "NEEDS_SCORES", True)
    source = find_source(session, settings, needs_scores=needs_scores)
    resolved = {**settings.given(), **as_settings(config)}
    control = _control(
        session, table, plugin, config, settings
    )  # first, so that ``latest`` is the set that was asked for
    # Before the run, so that a mistake leaves none that ``latest`` would find.
    inputs = read_inputs(session, settings, source, needs_scores=needs_scores)
    selection = selected(inputs, plugin, config, settings.rule)
    read = {**session.reads("judgments", source, Judgment), **files_of(settings)}
    with session.begin("pairs", resolved, read, free=True) as run:
        resumed = run.run.status == "done"
        if not resumed:
            _store(run, selection)
            tally = Tally(total=len(selection.outcomes))
            for outcome in selection.outcomes:
                tally.add(outcome)
            counts = {**tally.counts(), **made(selection), **account(selection.outcomes)}
            run.finish("done", counts, Usage())
    card = card_for(session, run.run, inputs, selection, settings, plugin, config)
    write_card(card, session.store.folder(run.run.id) / "card")
    written = _out(settings, run.run, inputs, selection, card)
    tally = tally_of(session, run.run, run.run.counts.get("total", 0))
    return PairsResult(run.run, tally, list(selection.pairs), resumed, card, control, written)


def selected(inputs: Inputs, plugin: ModuleType, config: Any, rule: str) -> Selection:
    """What the rule makes of the inputs, with the prompts that a filter caught among the outcomes."""
    selection = run_rule(inputs.book, plugin, config, rule)
    return replace(selection, outcomes=(*selection.outcomes, *inputs.outcomes()))


def made(selection: Selection) -> dict[str, int]:
    """How many records of each kind a selection holds, by the plural that cards use."""
    counts = {
        "pairs": len(selection.pairs),
        "demonstrations": len(selection.demonstrations),
        "labelled": len(selection.labelled),
    }
    return {name: count for name, count in counts.items() if count or name == "pairs"}


def card_for(
    session: Session,
    run: Run,
    inputs: Inputs,
    selection: Selection,
    settings: Settings,
    plugin: ModuleType,
    config: Any,
) -> Card:
    """The card of a set of ours: of its texts, its judgments, its selection and its account."""
    judges = sorted({j.judge for j in inputs.judgments})
    spent = evidence.cost_of(inputs.judgments)
    extra = evidence.of_outcomes(selection.outcomes) + evidence.of_judgments(inputs.judgments)
    truth = inputs.truth or [j for j in session.read(Judgment, inputs.source) if j.judge.startswith(("gold", "human/"))]
    others = [j for j in inputs.judgments if j.judge not in {t.judge for t in truth}]
    extra += evidence.against_truth(others, truth)
    rewards: dict[str, Floats] = {}
    if selection.demonstrations and not selection.pairs:
        matrix = inputs.book.matrix.judged()
        kept = _numbers(inputs, [d.completion_id for d in selection.demonstrations])
        rewards = {"reward": matrix.score, "reward of what was kept": matrix.score[kept]}
        gold = evidence.by_truth(matrix, [inputs.book.completions[int(i)].id for i in matrix.index], truth)
        extra += evidence.of_selection(matrix, kept) + evidence.best_of_n(matrix)
        if gold is not None:
            extra += evidence.best_of_n(matrix, gold)
        name = getattr(plugin, "CONTROL", "")
        if name:
            rule = registry.load("selection", name)
            drawn = rule.choose(matrix, build(rule.Config, _shared(rule, config), where=name)).kept
            extra += evidence.against_control(matrix, kept, drawn, "selected_minus_control")
            if gold is not None:
                extra += evidence.against_control(gold, kept, drawn, "gold_minus_control")
    sources = sorted({prompt.source for prompt in inputs.prompts if prompt.source})
    return card_of(
        sheet_of(selection.pairs),
        name=run.id,
        against=inputs.tests,
        policy=names(settings.policies),
        about={
            "rule": settings.rule,
            "judges": judges,
            "judge cards": {judge: summary(card) for judge in judges if (card := shelf.card_of(session.store, judge))},
            "prompts from": sources,
            "models": list(inputs.book.matrix.models),
            "judgments": len(inputs.judgments),
            "cost": f"${spent.cost:.4f}",
            "tokens of judging": spent.prompt_tokens + spent.completion_tokens,
            **inputs.about,
            "inputs": dict(run.inputs),
        },
        counts={"prompts in": len(inputs.prompts), **account(selection.outcomes), **made(selection)},
        extra=extra,
        rewards=rewards,
        seed=session.options.seed,
    )


def _numbers(inputs: Inputs, identities: Sequence[str]) -> Ints:
    """Where completions stand in the matrix of judged completions."""
    matrix = inputs.book.matrix.judged()
    place = {inputs.book.completions[int(i)].id: k for k, i in enumerate(matrix.index)}
    return np.array(sorted(place[identity] for identity in identities), dtype=np.int64)


def _control(
    session: Session, table: Mapping[str, Any], plugin: ModuleType, config: Any, settings: Settings
) -> Run | None:
    """The matched random set: the same inputs, size and filters, and no look at the reward."""
    name = getattr(plugin, "CONTROL", "")
    if not name or not settings.control:
        return None
    rule = registry.load("selection", name)
    shared = _shared(rule, config)
    kept = {k: v for k, v in table.items() if k in Settings.__dataclass_fields__}
    out = Path(settings.out) if settings.out else None
    aside = str(out.with_name(f"{out.stem}.control{out.suffix}")) if out else ""
    return pairs(session, {**kept, **shared, "rule": name, "out": aside}).run


def _shared(rule: ModuleType, config: Any) -> dict[str, Any]:
    """The settings that the control takes over: how many are kept."""
    return {f: v for f, v in as_settings(config).items() if f in rule.Config.__dataclass_fields__ and f == "k"}


def _out(settings: Settings, run: Run, inputs: Inputs, selection: Selection, card: Card) -> tuple[Path, ...]:
    if not settings.out:
        return ()
    manifest = manifest_of(run, inputs.source, (p.id for p in inputs.prompts), {j.judge for j in inputs.judgments})
    if settings.format == ultrafeedback.SOURCE:
        graded = ultrafeedback.Graded(inputs.book.prompts, inputs.book.completions, inputs.judgments)
        return export(graded, Path(settings.out), settings.format, card, manifest)
    records = selection.pairs or selection.demonstrations or selection.labelled
    return export(records, Path(settings.out), settings.format, card, manifest)


def _store(run: Any, selection: Selection) -> None:
    tables: Mapping[str, Sequence[PreferencePair | Demonstration | Outcome]] = {
        "pairs": selection.pairs,
        "demonstrations": selection.demonstrations,
        "outcomes": selection.outcomes,
    }
    for table, records in tables.items():
        known = run.ids(table)
        for record in records:
            if record.id not in known:
                run.append(table, record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """One rule's row of the table that compares rules on the same judgments."""

    rule: str
    counts: Mapping[str, int]
    card: Card


def compare_rules(session: Session, table: Mapping[str, Any], rules: Sequence[str]) -> list[Ablation]:
    """The sets that several rules make of the same judgments, side by side; nothing is stored.

    Settings in ``table`` that a rule does not know are left to the others; one that none knows is an error.
    """
    known = {f for rule in rules for f in registry.load("selection", rule).Config.__dataclass_fields__}
    rows = []
    for rule in rules:
        plugin = registry.load("selection", rule)
        mine = {k: v for k, v in table.items() if k not in known or k in plugin.Config.__dataclass_fields__}
        settings, _, config = split_settings({**mine, "rule": rule}, "pairs", Settings, "rule", "selection")
        needs_scores = getattr(plugin, "NEEDS_SCORES", True)
        source = find_source(session, settings, needs_scores=needs_scores)
        inputs = read_inputs(session, settings, source, needs_scores=needs_scores)
        selection = selected(inputs, plugin, config, rule)
        run = Run(id=f"{source.id}/{rule}", verb="pairs", config={}, inputs={"judgments": source.id})
        card = card_for(session, run, inputs, selection, settings, plugin, config)
        rows.append(Ablation(rule=rule, counts={**account(selection.outcomes), **made(selection)}, card=card))
    return rows
