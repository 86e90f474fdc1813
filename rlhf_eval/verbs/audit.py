"""``audit``: what a judge is worth, from the judgments that are stored and those that it buys because they are missing.

    rlhf-eval audit --judge pairwise --judge-model sandbox:judge --max-cost 1
    rlhf-eval audit --judge alpaca_eval/weighted_alpaca_eval_gpt4_turbo      # stored judgments only: costs nothing
    rlhf-eval audit --compare OLD NEW                                       # would my leaderboard change?

Truth comes from labels in the store (the judges ``gold`` and ``human/NAME``), from the judge that ``--reference`` names,
or, for prompts of the sandbox, from its gold reward. The card lies in the run's folder: ``card.json``, ``card.md``.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_eval.audit import card as judge_card
from rlhf_eval.audit.buy import Shopping, purchases
from rlhf_eval.audit.card import JudgeCard
from rlhf_eval.audit.compare import JudgeComparison, compare_judgments
from rlhf_eval.audit.evidence import gather, role
from rlhf_eval.audit.findings import Config
from rlhf_eval.audit.findings import audit as findings_of
from rlhf_eval.audit.shelf import CARD_JSON, CARD_MARKDOWN, read_card, reputation
from rlhf_eval.benchmarks.comparisons import comparisons
from rlhf_eval.errors import BudgetExceeded, UserError
from rlhf_eval.records import Completion, Judgment, Prompt, Run, Usage, fingerprint
from rlhf_eval.stages.flow import Judging
from rlhf_eval.stages.judge import Call, Design, calls, matches
from rlhf_eval.store.runs import Store
from rlhf_eval.verbs.audit_sources import (
    Paid,
    Subject,
    exactly,
    find_paid,
    find_program,
    find_subject,
    resolved,
    role_of,
    stored_judges,
)
from rlhf_eval.verbs.flow import Bench, FlowResult, Ledger, account, follow
from rlhf_eval.verbs.session import Session


@dataclass(frozen=True, slots=True)
class AuditResult:
    """The run with its account, and the card."""

    run: Run
    flow: FlowResult
    card: JudgeCard


async def audit(session: Session, table: Mapping[str, Any]) -> AuditResult:
    """Measure a judge; the same command on the same judgments prints the finished card.

    Stops buying when the budget is reached and makes the card of what there is; ``card.stopped`` then says so. Raises
    UserError where there is no such judge, or nothing that it could judge.
    """
    subject = find_subject(session, table)
    paid = find_paid(session, subject)
    truth = find_program(session, subject, paid)
    with session.begin("audit", resolved(subject, truth), paid.inputs) as writer:
        ledger = Ledger(writer)
        shopping = _shopping(session, subject, paid)
        prompts = [p for p in paid.prompts if truth or p.id in shopping.prompts]

        def conclude(stopped: str = "") -> None:
            card = _card(session, subject, paid, ledger.run, truth, stopped)
            _keep(session.store, card)
            for finding in () if stopped else card.measured:
                if finding.estimate is not None:
                    ledger.append("estimates", finding.estimate)

        try:
            flow = await follow(
                session, "audit", prompts, [ledger],
                judgings=_judgings(subject, shopping, truth, paid, ledger), answers=paid.answers(), conclude=conclude,
            )  # fmt: skip
        except BudgetExceeded as error:
            tally = account(session, ledger.run, len(prompts))
            conclude(str(error))
            flow = FlowResult(writer.finish("stopped", tally.counts(), ledger.usage, str(error)), tally, 0)
        if session.options.dry_run:
            return AuditResult(flow.run, flow, JudgeCard(judge=subject.name))
        card = read_card(session.store, flow.run) or _card(session, subject, paid, flow.run, truth, "")
        return AuditResult(flow.run, flow, card)


def stamp(session: Session, judge: str) -> str:
    """What stands beside the name of a judge wherever it has a result: what is known of it, or how to get to know it."""
    how = f"rlhf-eval audit --judge {shlex.quote(judge)}{session.options.store_flag}"
    known = reputation(session.store, judge) or f"none, the judge was never measured; {how}"
    return known if role(judge) else f"judge card: {known}"


def render(card: JudgeCard) -> str:
    """The card as a terminal shows it."""
    return judge_card.text(card)


def compare_judges(session: Session, old: str, new: str) -> JudgeComparison:
    """What replacing one judge by another does to the leaderboard, on the pairs that both have judged.

    Raises UserError where a judge is not known or the two share too little.
    """
    names = stored_judges(session.store)
    groups = {name: comparisons(session.store, judge=exactly(name, names)) for name in (old, new)}
    return compare_judgments(groups[old], groups[new])


# What is bought, and the card -----------------------------------------------------------------------------------------


def _shopping(session: Session, subject: Subject, paid: Paid) -> Shopping:
    """What to buy, for which prompts: a sample drawn by the seed from those with two different answers."""
    settings, seed = subject.settings, session.options.seed
    usable = [p for p, group in paid.answers().items() if len({c.text for c in group}) > 1]
    drawn = sorted(usable, key=lambda prompt: fingerprint(seed, "audit", prompt))
    size = min(settings.sample, session.options.limit or settings.sample) if subject.bench and settings.kinds else 0
    said: dict[str, list[Judgment]] = defaultdict(list)
    met: dict[str, list[Judgment]] = defaultdict(list)
    for judgment in paid.judgments:
        said[judgment.prompt_id].append(judgment)
        if judgment.id in paid.asked:
            met[judgment.prompt_id].append(judgment)
    return Shopping(
        kinds=settings.kinds,
        repeats=settings.repeats,
        attacks=settings.attacks,
        heavy=settings.heavy,
        seed=seed,
        own=subject.own,
        prompts=frozenset(drawn[:size]),
        met=met,
        paid=said,
        rehearse=session.options.dry_run,
    )


def _judgings(subject: Subject, shopping: Shopping, truth: Bench | None, paid: Paid, ledger: Ledger) -> list[Judging]:
    known = ledger.ids("judgments") | {j.id for j in paid.judgments}
    judgings: list[Judging] = []
    if truth is not None:
        told = known | {j.id for judgments in paid.references.values() for j in judgments}
        judgings.append(Judging(instrument=truth.instrument, plan=_everything(truth), sink=ledger, known=told))
    if subject.bench is not None and shopping.prompts:
        judgings += purchases(subject.bench.instrument, shopping, ledger, known)
    return judgings


def _everything(truth: Bench) -> Callable[[Prompt, Sequence[Completion]], list[Call]]:
    """Every question that there is about the answers of a prompt."""

    def plan(prompt: Prompt, completions: Sequence[Completion]) -> list[Call]:
        return calls(matches(completions, truth.instrument.arity, "all"), Design(), swapped=False)

    return plan


def _card(session: Session, subject: Subject, paid: Paid, run: Run, truth: Bench | None, stopped: str) -> JudgeCard:
    """The card of all that is stored and of what this run has bought so far."""
    bought = session.read(Judgment, run)
    completions = {**paid.completions, **{c.id: c for c in session.read(Completion, run)}}
    judgments = {j.id: j for j in (*paid.judgments, *(j for j in bought if j.judge == subject.name))}
    references = dict(paid.references)
    if truth is not None:
        role = role_of(truth.instrument.name, subject.settings.reference)
        told = [j for j in bought if j.judge == truth.instrument.name]
        references[role] = tuple({j.id: j for j in (*references.get(role, ()), *told)}.values())
    evidence = gather(subject.name, judgments.values(), completions, references, own=subject.own)
    mine = [j for j in bought if j.judge == subject.name]
    return JudgeCard(
        judge=subject.name,
        run=run.id,
        findings=findings_of(evidence, Config(tolerance=subject.settings.tolerance)),
        settings=run.config,
        prompts=len({j.prompt_id for j in evidence.judgments}),
        judgments=len(evidence.judgments),
        bought=len(mine),
        spent=sum((j.usage for j in mine), Usage()),
        stopped=stopped,
    )


def _keep(store: Store, card: JudgeCard) -> None:
    """Write the card into its run's folder, as JSON and Markdown; each file appears whole or not at all."""
    for name, content in ((CARD_JSON, judge_card.to_json(card)), (CARD_MARKDOWN, judge_card.markdown(card).encode())):
        path = store.folder(card.run) / name
        partial = path.with_name(f".{name}.partial")
        try:
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from error
