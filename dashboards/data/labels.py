"""Labels of people: what is asked, in which order, what was answered, and what it says about a judge and a win rate.

A question stands in the queue by its worth and with a known chance (``stages.route``), so that stopping anywhere leaves
evidence without bias. Answers lie in ``labels/<person>.jsonl``, in the shape that ``--human`` and ``pairs --set labels=``
read.

    queue = questions(store, run)
    save(store, queue[0], "a", person="ada")
    standing(store, run).estimates
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dashboards.data.reading import about, pick, prompts_of
from dashboards.data.state import Nothing
from rlhf_eval.audit.card import Finding
from rlhf_eval.audit.evidence import gather, role
from rlhf_eval.audit.findings import audit
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.errors import UserError
from rlhf_eval.interop import human
from rlhf_eval.interop.training_rows import turns
from rlhf_eval.records import Estimate, Judgment, Message, fingerprint
from rlhf_eval.stages.human import corrected
from rlhf_eval.stages.labels import Item
from rlhf_eval.stages.route import chances, in_order_of_worth, open_comparisons, second_first
from rlhf_eval.store import labels as files
from rlhf_eval.store.manifest import now
from rlhf_eval.store.runs import Store

Choice = Literal["a", "b", "tie", "both_bad"]

MOST = 5_000
"""Prompts of a run that are offered to people; a run with more has these of its prompts in the queue, by a hash."""
QUEUE = 500
"""Questions that are laid out at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Two answers of one prompt as one person sees them, and the chance with which they were asked about."""

    id: str
    prompt_id: str
    prompt: tuple[Message, ...]
    category: str
    ids: tuple[str, str]
    """First and second as shown."""
    a: str
    b: str
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A run whose comparisons people can decide."""

    run: str
    verb: str
    comparisons: int
    """Judgments about pairs that no person in the run has decided."""
    judges: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the labels so far say."""

    labels: int
    people: Mapping[str, int]
    """Person to how many questions they answered."""
    both_bad: int
    judge: str
    """Who is held against people: the judge that was asked for, or the one of most verdicts."""
    findings: tuple[Finding, ...]
    """Its agreement with people, and that of people with each other."""
    estimates: tuple[Estimate, ...]
    """The win rates corrected by the labels."""
    why_not: str
    """Why there is no corrected win rate; empty where there is one."""


def said_by_people(store: Store) -> tuple[list[Judgment], list[str]]:
    """Everybody's labels as judgments of ``human/<person>``, and the rows that cannot be read."""
    found: list[Judgment] = []
    problems: list[str] = []
    for path in files.people(store.labels_folder).values():
        try:
            loaded = human.read(path, lenient=True)
        except UserError as error:
            problems.append(str(error))
            continue
        found += loaded.judgments
        problems += [w for w in loaded.warnings if "labelled again" not in w]
    return found, problems


def sources(store: Store) -> list[Source]:
    """The runs with comparisons that no person in them has decided, newest first; raises Nothing where there is none."""
    query = """
        select run_id as run, judge, count(*) as n from judgments where len(completion_ids) = 2
        group by 1, 2 order by run desc, n desc, judge"""
    verbs = {run.id: run.verb for run in store.runs()}
    told: dict[str, dict[str, int]] = defaultdict(dict)
    for row in store.sql(query).to_pylist():
        if verbs.get(row["run"], "audit") != "audit":
            told[row["run"]][row["judge"]] = row["n"]
    found = []
    for run, counts in told.items():
        judges = tuple(judge for judge in counts if not judge.startswith("human/"))
        open_ones = sum(counts[judge] for judge in judges)
        if len(judges) < len(counts):
            open_ones = _undecided(store, run)
        if open_ones:
            found.append(Source(run=run, verb=verbs[run], comparisons=open_ones, judges=judges))
    if not found:
        raise Nothing(
            "There are no comparisons to label yet: people decide what judges have been asked.",
            command="rlhf-eval judge --judge-model SPEC",
        )
    return found


def _undecided(store: Store, run: str) -> int:
    """How many judgments of a run are about pairs that no person in it has decided."""
    query = """
        with met as (select judge, list_sort(completion_ids) as pair from judgments
                     where run_id = ? and len(completion_ids) = 2)
        select count(*) as n from met anti join (select pair from met where starts_with(judge, 'human/')) using (pair)"""
    return int(store.sql(query, [run]).column("n")[0].as_py())


def judged(store: Store, run: str) -> list[Judgment]:
    """The comparisons of a run, of as many of its prompts as a page can hold, picked by a hash."""
    ids, _ = prompts_of(store, "run_id = ? and len(completion_ids) = 2", [run], most=MOST)
    where = "run_id = ? and len(completion_ids) = 2 and prompt_id in (select unnest(?::varchar[]))"
    return pick(store, Judgment, where, [run, ids])


def questions(store: Store, run: str, person: str, *, seed: int = 0, most: int = QUEUE) -> list[Question]:
    """What to ask one person about a run, most worth asking first; the same at every call.

    Raises UserError where every comparison is of two answers of the same words, or decided by people in the run.
    """
    items = open_comparisons(judged(store, run))
    if not items:
        raise UserError(f"run {run} has no comparison that people have not decided")
    # A quarter of all, so that the chances differ: with as many as there are, everything would be asked in any order.
    chance = chances(items, max(1, min(100, len(items) // 4)))
    order = in_order_of_worth(items, chance, seed=seed)[:most]
    wanted = [items[i] for i in order]
    prompts, answers = about(store, (i.prompt_id for i in wanted), (c for i in wanted for c in i.completion_ids))
    made = []
    for i, item in zip(order, wanted, strict=True):
        if item.prompt_id in prompts and all(c in answers for c in item.completion_ids):
            first, second = _sides(item, person, seed)
            prompt = prompts[item.prompt_id]
            made.append(
                Question(
                    id=fingerprint("question", item.prompt_id, *item.completion_ids), prompt_id=item.prompt_id,
                    prompt=prompt.messages, category=prompt.category, ids=(first, second), a=answers[first].text,
                    b=answers[second].text, chance=round(float(chance[i]), 6),
                )
            )  # fmt: skip
    return made


def _sides(item: Item, person: str, seed: int) -> tuple[str, str]:
    first, second = item.completion_ids[:2]
    return (second, first) if second_first(item, seed=seed, person=person) else (first, second)


def save(store: Store, question: Question, choice: Choice, *, person: str, comment: str = "") -> Path:
    """Put an answer on disk; a later answer to the same question counts instead of it, and both stay in the file."""
    return files.append(
        store.labels_folder,
        person,
        {
            "id": question.id,
            "prompt_id": question.prompt_id,
            "completion_ids": list(question.ids),
            "prompt": turns(question.prompt),
            "a": question.a,
            "b": question.b,
            "choice": choice,
            "labeler": person,
            "comment": comment,
            "chance": question.chance,
            "time": now(),
        },
    )


def answered(store: Store, person: str) -> dict[tuple[str, str], str]:
    """What a person has said: the two answers as they were shown, to the choice that counts."""
    path = files.people(store.labels_folder).get(person)
    if path is None:
        return {}
    found = {}
    for label in human.read(path, lenient=True).judgments:
        first, second = label.completion_ids
        if label.metadata.get("both_bad"):
            said = human.BOTH_BAD
        else:
            said = next(name for name, scores in human.CHOICES.items() if scores == label.scores)
        found[first, second] = said
    return found


def standing(store: Store, run: str, judge: str = "") -> Standing:
    """Agreement of a judge of the run with people, and the win rates that their labels correct."""
    told = judged(store, run)
    known = {tuple(sorted(j.completion_ids)) for j in told}
    labels = [label for label in said_by_people(store)[0] if tuple(sorted(label.completion_ids)) in known]
    counts = Counter(j.judge for j in told if not role(j.judge))
    chosen = judge if judge in counts else next((name for name, _ in counts.most_common(1)), "")
    mine = [j for j in told if j.judge == chosen]
    findings: tuple[Finding, ...] = ()
    estimates: list[Estimate] = []
    why_not = "nobody has labelled a comparison of this run yet"
    if labels:
        prompts, answers = about(store, {j.prompt_id for j in mine}, {c for j in mine for c in j.completion_ids})
        asked = {label.prompt_id for label in labels}
        evidence = gather(chosen, (j for j in mine if j.prompt_id in asked), answers, {"human": labels})
        findings = tuple(f for f in audit(evidence) if f.section == "agreement")
        why_not = ""
        try:
            estimates = corrected(Evidence.of(prompts.values(), answers.values(), mine), labels)
        except UserError as error:
            why_not = str(error)
        if not estimates and not why_not:
            why_not = "no two models met in this run: its comparisons are of one model's answers"
    return Standing(
        labels=len(labels), people=Counter(label.judge.removeprefix("human/") for label in labels),
        both_bad=sum(bool(label.metadata.get("both_bad")) for label in labels), judge=chosen, findings=findings,
        estimates=tuple(estimates), why_not=why_not,
    )  # fmt: skip


def runs_state(store: Store) -> str:
    """A text that changes with the runs and not with the labels: a queue stays as it is while people work on it."""
    return fingerprint([(run.id, run.updated) for run in store.runs()])
