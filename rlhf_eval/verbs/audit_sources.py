"""Whose card an audit makes, and what the store already holds for it: verdicts, answers, and labels that are right.

subject = find_subject(session, table)
paid = find_paid(session, subject)
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from rlhf_eval import registry
from rlhf_eval.audit.buy import KINDS
from rlhf_eval.audit.evidence import role
from rlhf_eval.audit.probes import is_probe
from rlhf_eval.config import as_settings, build
from rlhf_eval.errors import UserError, nearest
from rlhf_eval.records import Completion, Judgment, Prompt, Run, fingerprint
from rlhf_eval.store.runs import Store
from rlhf_eval.verbs.flow import Bench, completions_of, open_judge
from rlhf_eval.verbs.session import Session, split_settings

SANDBOX = "sandbox:"
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_BOUGHT = re.compile(r"-audit-[0-9a-f]{8}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Which judge to audit, against what, and what to buy for it."""

    judge: str = "pairwise"
    """The plugin that asks, or the beginning of the name of a judge whose verdicts are stored."""
    judge_model: str = ""
    """The model behind the judge; without it only stored judgments are read."""
    completions: str = ""
    """A run whose answers are used; by default all that the judge has judged, or else the latest run with answers."""
    reference: str = ""
    """A judge that is right: stored, or one by program. By default gold and human labels."""
    own: tuple[str, ...] | str = ()
    """Models whose answers are the judge's own; by default the model behind it."""
    buy: str = "all"
    """What may be asked for: all, none, or some of swaps,repeats,copies,triples,injections."""
    sample: int = 50
    """Prompts for which anything is bought."""
    repeats: int = 1
    """How often each question is put again."""
    attacks: int = 4
    """Injected orders that each of those prompts tries."""
    heavy: bool = False
    """Also try an answer of a hundred thousand characters."""
    tolerance: float = 0.02
    """A bias surely smaller than this raises no alarm."""

    def __post_init__(self) -> None:
        if min(self.sample, self.repeats, self.attacks) < 0:
            raise ValueError("sample, repeats and attacks are counts: 0 or more")
        for kind in self.kinds:
            if kind not in KINDS:
                raise ValueError(f"buy names '{kind}'.{nearest(kind, ('all', 'none', *KINDS))}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """What may be bought, as a list."""
        if self.buy in ("all", "none"):
            return KINDS if self.buy == "all" else ()
        return tuple(kind.strip() for kind in self.buy.split(",") if kind.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The judge under audit: always a name, and an instrument where it can be asked."""

    name: str
    settings: Settings
    bench: Bench | None = None
    own: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What the store holds about a judge, its references, and the answers that they judged."""

    inputs: Mapping[str, str]
    """The runs that it lies in, and what tells one state of the store from another."""
    prompts: tuple[Prompt, ...]
    completions: Mapping[str, Completion]
    judgments: tuple[Judgment, ...]
    asked: frozenset[str]
    """Ids of those judgments that no audit asked for: what the audit's own choices may depend on, now and on resume."""
    references: Mapping[str, tuple[Judgment, ...]]

    def answers(self) -> dict[str, list[Completion]]:
        """Prompt to the answers of models, in a fixed order."""
        groups: dict[str, list[Completion]] = defaultdict(list)
        for completion in self.completions.values():
            if not is_probe(completion) and completion.error is None:
                groups[completion.prompt_id].append(completion)
        for group in groups.values():
            group.sort(key=lambda c: (c.model, c.sample, c.id))
        return groups


def exactly(wanted: str, names: Sequence[str]) -> str:
    """The one stored judge whose name begins so; raises UserError where there is none or several."""
    found = [wanted] if wanted in names else [name for name in names if name.startswith(wanted)]
    if not found:
        raise UserError(f"no stored judgment is by a judge '{wanted}'.{nearest(wanted, names)}")
    if len(found) > 1:
        several = f"'{wanted}' is the beginning of several judges" if wanted else "several judges are stored"
        raise UserError(f"{several}; name one with --judge: {', '.join(found)}")
    return found[0]


def stored_judges(store: Store) -> list[str]:
    """The names of all judges of which the store holds a verdict."""
    names = store.sql("select distinct judge from judgments order by 1").column("judge").to_pylist()
    return [str(name) for name in names]


def find_subject(session: Session, table: Mapping[str, Any]) -> Subject:
    """The judge: one that can be asked, or, without a model, one whose verdicts are stored."""
    wanted = str(table.get("judge", ""))
    if not table.get("judge_model") and not _by_program(wanted):
        names = stored_judges(session.store) if session.store.path.is_dir() else []
        judged = [
            name for name in names if name.startswith(wanted) and not role_of(name, str(table.get("reference", "")))
        ]
        if judged:
            settings = build(Settings, table, where="audit")
            name = exactly(wanted, judged)
            behind = name.partition("/")[2].partition("#")[0]
            return Subject(name=name, settings=settings, own=_names(settings.own) or ((behind,) if behind else ()))
        if names and wanted and wanted not in registry.PLUGINS["judge"] and not _MODULE.fullmatch(wanted):
            known = [*registry.PLUGINS["judge"], *names]
            raise UserError(
                f"'{wanted}' is neither a judge plugin nor a judge with stored verdicts.{nearest(wanted, known)}"
            )
    settings, plugin, _ = split_settings(table, "audit", Settings, "judge", "judge")
    its_own = {f.name for f in fields(plugin.Config)} - {f.name for f in fields(Settings)}
    asked = {key: value for key, value in table.items() if key in its_own or key in ("judge", "judge_model")}
    _, bench = open_judge(session, asked)
    model = bench.instrument.model
    doors = model.values() if isinstance(model, Mapping) else [model] if model is not None else []
    own = _names(settings.own) or tuple(door.name for door in doors)
    return Subject(name=bench.instrument.name, settings=settings, bench=bench, own=own)


def _names(value: tuple[str, ...] | str) -> tuple[str, ...]:
    return tuple(name for name in (value.split(",") if isinstance(value, str) else value) if name)


def _by_program(name: str) -> bool:
    """Whether a judge of the registry, or of somebody's own module, needs no model."""
    if name not in registry.PLUGINS["judge"] and not _MODULE.fullmatch(name):
        return False
    return not getattr(registry.load("judge", name), "NEEDS_MODEL", True)


def role_of(judge: str, reference: str) -> str:
    """What a stored judge is to the audit: ``gold``, ``human``, the named reference, or nothing."""
    if reference and judge.startswith(reference):
        return reference.rpartition(".")[2] if _MODULE.fullmatch(reference) else reference
    return "" if reference else role(judge)


def find_paid(session: Session, subject: Subject) -> Paid:
    """Everything about the judge that is stored, whichever run it lies in, bought by earlier audits included."""
    query = "select run_id, judge, count(*) as n from judgments group by all order by all"
    rows = session.store.sql(query).to_pylist() if session.store.path.is_dir() else []
    roles = {row["judge"]: role_of(row["judge"], subject.settings.reference) for row in rows}
    mine = [row for row in rows if row["judge"] == subject.name]
    theirs = [row for row in rows if roles[row["judge"]] and row["judge"] != subject.name]
    own_work = [row for row in mine if not _BOUGHT.search(row["run_id"])]
    source = _source(session, subject, judged=bool(own_work))
    runs = list(dict.fromkeys([*([source.id] if source else []), *(row["run_id"] for row in mine)]))
    known = _lineage(session, runs)
    completions = {c.id: c for c in session.store.records(Completion, run=known)}
    if source is not None and subject.settings.completions:
        completions = _of_run(session, source, completions)
    references: dict[str, tuple[Judgment, ...]] = {}
    for part in dict.fromkeys(roles[row["judge"]] for row in theirs):
        references[part] = _about(session, [row for row in theirs if roles[row["judge"]] == part], completions)
    wanted = {c.prompt_id for c in completions.values()}
    judgments = _about(session, mine, completions)
    return Paid(
        inputs=_inputs(runs, [*mine, *theirs], buys=subject.bench is not None),
        prompts=tuple(p for p in session.store.records(Prompt, run=known) if p.id in wanted),
        completions=completions,
        judgments=judgments,
        asked=frozenset(j.id for j in (judgments if own_work == mine else _about(session, own_work, completions))),
        references=references,
    )


def _inputs(runs: Sequence[str], rows: Sequence[Mapping[str, Any]], *, buys: bool) -> dict[str, str]:
    """What tells this audit from one of other judgments.

    An audit that buys is the same one after it has bought, or it could not be resumed; one that only reads is another.
    """
    counted = [row for row in rows if not (buys and _BOUGHT.search(row["run_id"]))]
    inputs = {f"run{n}": run for n, run in enumerate(run for run in runs if not (buys and _BOUGHT.search(run)))}
    return {**inputs, "judgments": fingerprint([[*row.values()] for row in counted])}


def _source(session: Session, subject: Subject, *, judged: bool) -> Run | None:
    """The run whose answers are used; None where those that the judge has judged are."""
    named = subject.settings.completions
    if judged and not named:
        return None
    run = session.find(named or "latest", verbs=("generate", "load", "evaluate"), loaded="completions")
    if not completions_of(session, run):
        raise UserError(f"run {run.id} holds no answers to judge; name one that does with --completions")
    return run


def _lineage(session: Session, runs: Sequence[str]) -> list[str]:
    known: dict[str, None] = {}
    for run in runs:
        if run not in known:
            known.update(dict.fromkeys(session.lineage(session.store.find(run))))
    return list(known)


def _of_run(session: Session, run: Run, completions: Mapping[str, Completion]) -> dict[str, Completion]:
    """The answers of one run, and what audits made of them."""
    own = {c.id for group in completions_of(session, run).values() for c in group}
    return {c.id: c for c in completions.values() if c.id in own or c.metadata.get("of") in own}


def _about(
    session: Session, rows: Sequence[Mapping[str, Any]], completions: Mapping[str, Completion]
) -> tuple[Judgment, ...]:
    """The judgments of some judges, in some runs, that are about known answers."""
    judges = {row["judge"] for row in rows}
    found = session.store.records(Judgment, run=sorted({row["run_id"] for row in rows})) if rows else ()
    return tuple(j for j in found if j.judge in judges and all(c in completions for c in j.completion_ids))


def find_program(session: Session, subject: Subject, paid: Paid) -> Bench | None:
    """The reference that is a program, where there is one: it is asked about every answer, for nothing."""
    name = subject.settings.reference
    if not name and paid.prompts and all(p.source.startswith(SANDBOX) for p in paid.prompts):
        name = "gold"
    if not name or subject.name.partition("#")[0] == name:
        return None
    if _by_program(name):
        return open_judge(session, {"judge": name})[1]
    if not paid.references:
        raise UserError(f"no judgment of these answers is by '{name}', and no judge by program has that name")
    return None


def resolved(subject: Subject, truth: Bench | None) -> dict[str, Any]:
    """The settings of the audit as its run keeps them, with the names that were found."""
    kinds = list(subject.settings.kinds) if subject.bench else []
    reference = truth.instrument.name if truth else subject.settings.reference
    given = as_settings(subject.settings)
    return {**given, "judge": subject.name, "own": list(subject.own), "buy": kinds, "reference": reference}
