"""What the store knows about its judges: their report cards, and the same questions asked of the verdicts that lie there.

A card comes from ``rlhf-eval audit``, which also buys what is missing (swaps, repeats, altered copies, injections). What an
audit has not measured is worked out here from stored verdicts by the audit's own code, and says so.

    for row in overview(store): print(row.judge, row.unreadable)
    quality(store, "pairwise/sandbox:judge#d8e73a46").findings
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dashboards.data.labels import said_by_people
from dashboards.data.reading import MOST, about, once, pick, prompts_of
from dashboards.data.state import Nothing
from rlhf_eval.audit.card import Finding, JudgeCard
from rlhf_eval.audit.compare import JudgeComparison, compare_judgments
from rlhf_eval.audit.evidence import Evidence, gather, role, sign
from rlhf_eval.audit.findings import audit
from rlhf_eval.audit.measures import credit, decided, winners_share
from rlhf_eval.audit.probes import words
from rlhf_eval.audit.shelf import card_of, cards
from rlhf_eval.benchmarks.comparisons import comparisons
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate, Judgment
from rlhf_eval.stats.agreement import agreement
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.intervals import Interval, wilson
from rlhf_eval.store.runs import Store

COMPARED = 200_000
"""Judgments up to which a page compares two judges while somebody waits."""
JUDGES = 12
"""Judges that are held against each other on one page."""
BINS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One judge of the store, in counts."""

    judge: str
    role: str
    """``gold`` or ``human`` for what others are measured by, else empty."""
    comparisons: int
    grades: int
    rankings: int
    prompts: int
    unreadable: int
    dollars: float
    tokens: int
    seconds: float | None
    """Mean time of a call that was not answered from the cache; None where nothing says."""
    runs: tuple[str, ...]
    audited: str = ""
    """The run of its newest card."""

    @property
    def judgments(self) -> int:
        """All verdicts, the unreadable ones among them."""
        return self.comparisons + self.grades + self.rankings


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One mark of a chart: where it stands, and the number there."""

    low: float
    high: float
    at: float
    found: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One question about a judge with what answers it."""

    finding: Finding
    source: str
    """``audit``, or ``stored verdicts`` where the audit has no number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """All that a page says about one judge."""

    judge: str
    answers: tuple[Answer, ...]
    card: JudgeCard | None
    reference: str
    """What is held to be right: ``gold``, ``human``, or empty."""
    reliability: tuple[Bin, ...]
    lengths: tuple[Bin, ...]
    prompts: int
    of: int
    """Prompts that were read, of those that the judge has judged."""

    def find(self, name: str) -> Finding | None:
        """The finding of a name, or the one about the first reference (``agreement`` finds ``agreement.gold``)."""
        wanted = (name, f"{name}.{self.reference}")
        return next((a.finding for a in self.answers if a.finding.name in wanted), None)


def overview(store: Store) -> list[Row]:
    """Every judge with a stored verdict, those with most verdicts first; raises Nothing where there is none."""
    query = f"""
        select judge, count(*) filter (len(completion_ids) = 2) as comparisons,
               count(*) filter (len(completion_ids) = 1) as grades, count(*) filter (len(completion_ids) > 2) as rankings,
               count(distinct prompt_id) as prompts, count(error) as unreadable, sum(usage.cost) as dollars,
               sum(usage.prompt_tokens + usage.completion_tokens)::bigint as tokens,
               avg(usage.seconds) filter (usage.seconds > 0) as seconds, list(distinct run_id order by run_id) as runs
        from {once(store, "judgments")} group by judge order by count(*) desc, judge"""
    rows = store.sql(query).to_pylist()
    if not rows:
        raise Nothing("No judge has said anything in this store yet.", command="rlhf-eval judge --judge-model SPEC")
    audited = {name: card.run for name, card in cards(store).items()}
    return [
        Row(**{**row, "runs": tuple(row["runs"])}, role=role(row["judge"]), audited=audited.get(row["judge"], ""))
        for row in rows
    ]


def quality(store: Store, judge: str, *, most: int = MOST) -> Quality:
    """Card, findings and charts of one judge, from at most ``most`` of its prompts."""
    evidence, _, (read, of) = gathered(store, judge, most=most)
    stored = {finding.name: finding for finding in audit(evidence)}
    card = card_of(store, judge)
    return Quality(
        judge=judge,
        answers=_answers(card, stored),
        card=card,
        reference=evidence.truth[0],
        reliability=reliability(evidence),
        lengths=by_length(evidence),
        prompts=read,
        of=of,
    )


def gathered(store: Store, judge: str, *, most: int = MOST) -> tuple[Evidence, Mapping[str, str], tuple[int, int]]:
    """What is known of a judge on some of its prompts; the category of each prompt; and how many prompts of how many.

    Raises UserError for a judge that is not there.
    """
    ids, of = prompts_of(store, "judge = ?", [judge], most=most)
    if not ids:
        raise UserError(f"no stored judgment is by '{judge}'")
    told = pick(
        store, Judgment, "prompt_id in (select unnest(?::varchar[])) and (judge = ? or judge = 'gold' "
        "or starts_with(judge, 'gold#') or starts_with(judge, 'human/'))", [ids, judge],
    )  # fmt: skip
    people, _ = said_by_people(store)
    wanted = set(ids)
    told += [label for label in people if label.prompt_id in wanted]
    prompts, completions = about(store, ids, (c for j in told for c in j.completion_ids))
    references: dict[str, list[Judgment]] = defaultdict(list)
    for judgment in told:
        if role(judgment.judge) and judgment.judge != judge:
            references[role(judgment.judge)].append(judgment)
    behind = judge.partition("/")[2].partition("#")[0]
    evidence = gather(judge, told, completions, references, own=(behind,) if behind else ())
    return evidence, {p.id: p.category for p in prompts.values()}, (len(ids), of)


def reliability(evidence: Evidence, *, bins: int = BINS) -> tuple[Bin, ...]:
    """How often the winner that the judge names is right, by how sure it says it is; bins of equal mass."""
    rows = [(pair, winner) for pair, winner in decided(evidence) if pair.mean is not None and sign(pair.mean)]
    sure = np.array([max(pair.mean or 0.0, 1 - (pair.mean or 0.0)) for pair, _ in rows])
    right = np.array([credit(winners_share(pair, winner), 1) for pair, winner in rows])
    return binned(sure, right, [pair.prompt for pair, _ in rows], "right", evidence.judge, bins=bins)


def by_length(evidence: Evidence, *, bins: int = BINS) -> tuple[Bin, ...]:
    """The share that goes to the longer of two answers, by how many times as long it is."""
    rows = []
    for pair in evidence.natural():
        a, b = words(pair.a.text) + 1, words(pair.b.text) + 1
        if a != b and pair.mean is not None:
            rows.append((max(a, b) / min(a, b), pair.mean if a > b else 1 - pair.mean, pair.prompt))
    ratio, share = np.array([r for r, _, _ in rows]), np.array([s for _, s, _ in rows])
    return binned(ratio, share, [p for _, _, p in rows], "share of the longer answer", evidence.judge, bins=bins)


def binned(x: Floats, y: Floats, prompts: Sequence[str], name: str, judge: str, *, bins: int = BINS) -> tuple[Bin, ...]:
    """Means of ``y`` over bins of ``x`` with as many rows each, clustered by prompt; equal values share a bin."""
    if not len(x):
        return ()
    bins = max(1, min(bins, len(x) // 10))
    edges = np.unique(np.quantile(x, np.arange(1, bins) / bins)) if bins > 1 else np.empty(0)
    index = np.searchsorted(edges, x, side="left")
    clusters = np.asarray(prompts)
    made = []
    for k in np.unique(index):
        own = index == k
        interval = wilson(y[own], clusters[own])
        made.append(
            Bin(
                low=float(x[own].min()), high=float(x[own].max()), at=float(x[own].mean()),
                found=estimate_of(name, interval, {"judge": judge}),
            )
        )  # fmt: skip
    return tuple(made)


def agreements(store: Store, *, most: int = MOST) -> list[tuple[str, str, Estimate, Estimate | None]]:
    """Every two judges on the pairs of answers that both decided: raw agreement, and kappa where both labels occur."""
    ids, _ = prompts_of(store, "len(completion_ids) = 2", most=most)
    query = f"""
        with said as (
            select judge, prompt_id, list_aggregate(list_sort(completion_ids), 'string_agg', '') as pair,
                   avg(case when completion_ids[1] <= completion_ids[2] then scores[1] else 1 - scores[1] end) as share
            from {once(store, "judgments", where="len(completion_ids) = 2 and prompt_id in (select unnest(?::varchar[]))")}
            where error is null group by 1, 2, 3),
        loud as (select judge from said group by 1 order by count(*) desc, judge limit {JUDGES})
        select a.judge as one, b.judge as other, list(a.prompt_id) as prompts, list(a.share > .5) as x,
               list(b.share > .5) as y
        from said a join said b on a.pair = b.pair and a.judge < b.judge
        where abs(a.share - .5) > 1e-9 and abs(b.share - .5) > 1e-9
              and a.judge in (from loud) and b.judge in (from loud)
        group by 1, 2 order by 1, 2"""
    found = []
    for row in store.sql(query, [ids]).to_pylist():
        told = agreement(row["x"], row["y"], np.asarray(row["prompts"]), draws=200)
        about_them = {"judge": f"{row['one']} and {row['other']}", "pairs": len(row["x"])}
        kappa = estimate_of("kappa", told.kappa, about_them) if np.isfinite(told.kappa.low) else None
        found.append((row["one"], row["other"], estimate_of("agreement", told.raw, about_them), kappa))
    return found


def compare(store: Store, old: str, new: str) -> JudgeComparison:
    """Whether the leaderboard would change if ``new`` made it; raises UserError where the two share nothing."""
    count = store.sql("select count(*) as n from judgments where judge in (?, ?)", [old, new]).column("n")[0].as_py()
    if count > COMPARED:
        raise UserError(
            f"the two judges have {count:,} verdicts, too many to wait for here; run: rlhf-eval audit --compare "
            f"'{old}' '{new}'"
        )
    return compare_judgments(comparisons(store, judge=old), comparisons(store, judge=new))


def rivals(store: Store) -> list[tuple[str, str]]:
    """Judges that have compared the same two answers, so that they can be held against each other."""
    query = """
        with met as (select distinct judge, list_aggregate(list_sort(completion_ids), 'string_agg', '') as pair
                     from judgments where len(completion_ids) = 2 and error is null)
        select distinct a.judge as one, b.judge as other from met a join met b on a.pair = b.pair and a.judge <> b.judge
        order by 1, 2"""
    return [(row["one"], row["other"]) for row in store.sql(query).to_pylist()]


def estimate_of(name: str, interval: Interval, about_it: Mapping[str, object], *, failed: int = 0) -> Estimate:
    """An interval as what a page shows."""
    return Estimate(
        name=name, value=interval.value, low=min(interval.low, interval.value), high=max(interval.high, interval.value),
        n=interval.n, failed=failed, method=interval.method,
        settings={**about_it, "se": interval.se, "level": interval.level, "note": interval.note},
    )  # fmt: skip


def _answers(card: JudgeCard | None, stored: Mapping[str, Finding]) -> tuple[Answer, ...]:
    """The card's findings, and from stored verdicts those that it has no number for."""
    mine = {finding.name: finding for finding in card.findings} if card else {}
    answers = []
    for name in dict.fromkeys([*mine, *stored]):
        kept = mine.get(name)
        if kept is not None and (kept.estimate is not None or stored.get(name, kept).estimate is None):
            answers.append(Answer(finding=kept, source="audit"))
        else:
            answers.append(Answer(finding=stored[name], source="stored verdicts"))
    measured = {a.finding.section for a in answers if a.finding.estimate is not None}
    return tuple(sorted(answers, key=lambda a: (a.finding.section not in measured, a.finding.estimate is None)))
