"""What Examples shows: every two answers that a judge compared, cut by the page's filters, and all that is known of one.

table = pairs(store, judge)
kept = select(table, Filters(model="tonight", outcome="lost"))
example(store, table, kept[0]).verdicts
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal

import numpy as np

from dashboards.data.labels import said_by_people
from dashboards.data.reading import pick
from dashboards.data.state import Nothing
from dashboards.words import short
from rlhf_eval.benchmarks.standings import dedupe
from rlhf_eval.records import Completion, Judgment, Prompt
from rlhf_eval.stats.arrays import Bools, Floats, Ints
from rlhf_eval.store.runs import Store

if TYPE_CHECKING:
    import pyarrow as pa

Outcome = Literal["", "won", "lost", "tied", "flipped", "disputed", "unread"]
OUTCOMES: Mapping[Outcome, str] = {
    "": "all",
    "won": "A won",
    "lost": "A lost",
    "tied": "tied",
    "flipped": "flipped",
    "disputed": "disputed",
    "unread": "unread",
}
"""What the outcomes are called, on pages and in their URLs."""

Gap = Literal["", "longer", "shorter", "alike"]

MUCH = 1.5
"""How many times as long an answer is that counts as longer."""
LONGEST = 4_000
"""Words of an answer up to which differences are looked for."""
LEAST_ALIKE = 0.35
"""Share of words in common below which marking the differences would mark everything."""

_QUERY = """
with text as (select id, any_value(model) as model from completions where not starts_with(model, 'audit/') group by id),
once as (select id, judge, prompt_id, completion_ids, scores, "order", error from judgments
         where len(completion_ids) = 2 and ($2 is null or run_id = $2) {dedupe}),
mine as (select completion_ids[1] as x, completion_ids[2] as y, any_value(prompt_id) as prompt_id,
                avg(scores[1]) as share, avg(scores[1]) filter ("order"[1] = 0) as shown_first,
                avg(scores[1]) filter ("order"[1] = 1) as shown_second,
                count(*) filter (error is null) as readable, count(error) as unreadable
         from once where judge = $1 group by 1, 2),
{others}
select prompt_id, x, y, a.model as model, b.model as opponent, share, shown_first, shown_second, readable, unreadable,
       case when x <= y then least else 1 - most end as others_least,
       case when x <= y then most else 1 - least end as others_most
from mine join text a on a.id = x join text b on b.id = y
left join said on low = least(x, y) and high = greatest(x, y)
order by prompt_id, x, y
"""


_OTHERS = """
others as (select least(completion_ids[1], completion_ids[2]) as low,
                  greatest(completion_ids[1], completion_ids[2]) as high, judge,
                  avg(case when completion_ids[1] <= completion_ids[2] then scores[1] else scores[2] end) as share
           from once where judge <> $1 and error is null group by 1, 2, 3),
said as (select low, high, min(share) as least, max(share) as most from others group by 1, 2)
"""
_NOBODY_ELSE = "said as (select '' as low, '' as high, 0.5::double as least, 0.5::double as most where false)"
"""In place of the others where a judge is alone: looking for them would read everything once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Every two answers that a judge compared, sorted by prompt; arrays have one entry a pair."""

    judge: str
    table: pa.Table
    """Columns ``prompt_id``, ``x`` and ``y`` (the two answers), ``model`` and ``opponent``."""
    share: Floats
    """Of the verdicts, what went to ``x``; NaN where none could be read."""
    first: Floats
    """The same where ``x`` was shown first; NaN where it never was."""
    second: Floats
    others: tuple[Floats, Floats]
    """The least and the most that another judge gave ``x``; NaN where no other judge saw the pair."""

    def __len__(self) -> int:
        return len(self.share)

    def ids(self, row: int) -> tuple[str, str, str]:
        """The prompt and the two answers of a row."""
        prompt_id, x, y = (str(self.table.column(name)[row]) for name in ("prompt_id", "x", "y"))
        return prompt_id, x, y

    @property
    def flipped(self) -> Bools:
        """Where the two orders name different winners."""
        with np.errstate(invalid="ignore"):
            flips: Bools = (self.first - 0.5) * (self.second - 0.5) < 0
        return flips

    @property
    def disputed(self) -> Bools:
        """Where another judge names the other winner."""
        with np.errstate(invalid="ignore"):
            least, most = (np.sign(side - 0.5) for side in self.others)
            mine = np.sign(self.share - 0.5)
            against: Bools = (least * mine < 0) | (most * mine < 0)
        return against


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What the page's filters say; an empty one lets everything through."""

    model: str = ""
    opponent: str = ""
    category: str = ""
    outcome: Outcome = ""
    gap: Gap = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One comparison with all that is known of it: ``left`` is the model that was asked for."""

    prompt: Prompt | None
    """None where the store holds answers without their prompt."""
    left: Completion
    right: Completion
    verdicts: tuple[Judgment, ...]
    """Every judge's words about the two, the chosen judge's first."""
    grades: tuple[Judgment, ...]
    """What scored one of them alone: grades and reward models."""

    def share(self, verdict: Judgment) -> float | None:
        """Of one verdict, what went to ``left``; None where it could not be read."""
        return verdict.scores[verdict.completion_ids.index(self.left.id)] if verdict.scores else None

    def left_first(self, verdict: Judgment) -> bool:
        """Whether ``left`` was the answer shown first."""
        return verdict.completion_ids[verdict.order[0]] == self.left.id


def pairs(store: Store, judge: str, *, run: str = "") -> Pairs:
    """Every pair that a judge compared; raises Nothing where it compared none."""
    alone = store.sql("select distinct judge from judgments where len(completion_ids) = 2").num_rows < 2
    query = _QUERY.format(dedupe=dedupe(store), others=_NOBODY_ELSE if alone else _OTHERS)
    table = store.sql(query, [judge, store.find(run).id if run else None])
    if not table.num_rows:
        raise Nothing(
            f"No two answers were compared by {judge or 'any judge'} here.",
            command="rlhf-eval judge --completions latest:generate --judge-model SPEC",
        )

    def numbers(name: str) -> Floats:
        return np.asarray(table.column(name).to_numpy(), dtype=np.float64)

    return Pairs(
        judge=judge,
        table=table.select(["prompt_id", "x", "y", "model", "opponent"]),
        share=numbers("share"),
        first=numbers("shown_first"),
        second=numbers("shown_second"),
        others=(numbers("others_least"), numbers("others_most")),
    )


def models(store: Store, judge: str) -> list[str]:
    """The models whose answers a judge compared."""
    query = """
        with met as (select distinct unnest(completion_ids) as id from judgments
                     where judge = $1 and len(completion_ids) = 2)
        select distinct model from completions join met using (id) where not starts_with(model, 'audit/') order by 1"""
    return [str(name) for name in store.sql(query, [judge]).column(0).to_pylist()]


def lengths(store: Store) -> tuple[pa.Array, Ints]:
    """Ids of all answers and their characters; read only when a filter asks, because it touches every text."""
    table = store.sql("select id, any_value(length(text)) as chars from completions group by id").combine_chunks()
    return table.column("id").combine_chunks(), table.column("chars").to_numpy().astype(np.int64)


def prompts_in(store: Store, category: str) -> pa.Array:
    """Ids of the prompts of a category."""
    table = store.sql("select distinct id from prompts where category = $1", [category])
    return table.column(0).combine_chunks()


def oriented(found: Pairs, filters: Filters) -> tuple[Ints, Bools]:
    """The pairs of the two models that were asked for, and for each whether ``x`` is the model that was asked for."""
    import pyarrow.compute as pc

    model, opponent = found.table.column("model"), found.table.column("opponent")

    def matches(one: object, other: object) -> Bools:
        left = pc.equal(one, filters.model).to_numpy() if filters.model else np.ones(len(found), dtype=bool)
        right = pc.equal(other, filters.opponent).to_numpy() if filters.opponent else np.ones(len(found), dtype=bool)
        both: Bools = left & right
        return both

    straight, turned = matches(model, opponent), matches(opponent, model)
    kept = np.flatnonzero(straight | turned)
    return kept, straight[kept]


def select(
    found: Pairs,
    filters: Filters,
    *,
    prompts: pa.Array | None = None,
    chars: tuple[pa.Array, Ints] | None = None,
) -> Ints:
    """The rows that pass, in order; ``prompts`` are the ids of the category, ``chars`` is what ``lengths`` says."""
    import pyarrow.compute as pc

    kept, straight = oriented(found, filters)
    share = np.where(straight, found.share[kept], 1 - found.share[kept])
    with np.errstate(invalid="ignore"):
        passes: Mapping[str, Bools] = {
            "won": share > 0.5,
            "lost": share < 0.5,
            "tied": share == 0.5,
            "flipped": found.flipped[kept],
            "disputed": found.disputed[kept],
            "unread": np.isnan(share),
        }
    mask = passes[filters.outcome].copy() if filters.outcome else np.ones(len(kept), dtype=bool)
    if prompts is not None:
        mask &= pc.is_in(found.table.column("prompt_id").take(kept), value_set=prompts).to_numpy()
    if filters.gap and chars is not None:
        mask &= _gaps(found, kept, straight, chars)[filters.gap]
    rows: Ints = kept[mask]
    return rows


def chars_of(found: Pairs, rows: Ints, chars: tuple[pa.Array, Ints]) -> tuple[Floats, Floats]:
    """Characters of ``x`` and of ``y`` in some rows; ``chars`` is what ``lengths`` says."""
    import pyarrow.compute as pc

    ids, counts = chars

    def of(column: str) -> Floats:
        place = pc.index_in(found.table.column(column).take(rows), value_set=ids).to_numpy()
        return np.asarray(counts[place.astype(np.int64)], dtype=np.float64)

    return of("x"), of("y")


def _gaps(found: Pairs, kept: Ints, straight: Bools, chars: tuple[pa.Array, Ints]) -> dict[str, Bools]:
    x, y = chars_of(found, kept, chars)
    left, right = np.where(straight, x, y) + 1, np.where(straight, y, x) + 1
    longer, shorter = left > MUCH * right, right > MUCH * left
    return {"longer": longer, "shorter": shorter, "alike": ~longer & ~shorter}


def address(found: Pairs, kept: Ints, place: int) -> str:
    """How a link names a pair of ``kept``: its prompt's id, and ``:2`` for the second pair of that prompt."""
    prompts = found.table.column("prompt_id")
    mine, before = prompts[kept[place]], 0
    while place > before and prompts[kept[place - before - 1]] == mine:
        before += 1
    return f"{mine}:{before + 1}" if before else str(mine)


def place_of(found: Pairs, kept: Ints, wanted: str) -> int | None:
    """Where the pair that ``address`` names stands in ``kept``; None where it is not among them.

    The beginning of an id will do, and where a prompt has fewer pairs the last one is meant.
    """
    import pyarrow.compute as pc

    prompt_id, _, number = wanted.partition(":")
    if not prompt_id or not len(kept):
        return None
    hits = np.flatnonzero(pc.starts_with(found.table.column("prompt_id").take(kept), prompt_id).to_numpy())
    which = int(number) - 1 if number.isdecimal() else 0
    return int(hits[min(max(which, 0), len(hits) - 1)]) if len(hits) else None


def example(store: Store, prompt_id: str, x: str, y: str, *, judge: str = "", model: str = "") -> Example:
    """All that the store knows about two answers; ``model`` stands left where it is one of theirs."""
    both = {x, y}
    told = pick(store, Judgment, "prompt_id = ? and len(completion_ids) <= 2", [prompt_id])
    people, _ = said_by_people(store)
    told += [label for label in people if label.prompt_id == prompt_id]
    # The prompt's id is said once more because answers lie sorted by it: a part of the file instead of all of it.
    answers = {c.id: c for c in pick(store, Completion, "prompt_id = ? and id in (?, ?)", [prompt_id, x, y])}
    prompts = pick(store, Prompt, "id = ?", [prompt_id])
    left, right = answers[x], answers[y]
    if model and right.model == model and left.model != model:
        left, right = right, left
    verdicts = [j for j in told if len(j.completion_ids) == 2 and set(j.completion_ids) == both]
    grades = [j for j in told if len(j.completion_ids) == 1 and j.completion_ids[0] in both]
    return Example(
        prompt=prompts[0] if prompts else None,
        left=left,
        right=right,
        verdicts=tuple(sorted(verdicts, key=lambda j: (j.judge != judge, j.judge, j.order, j.repeat))),
        grades=tuple(sorted(grades, key=lambda j: (j.judge, j.completion_ids != (left.id,)))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What one judge or person says about the two answers of an example, over all orders and repeats."""

    judge: str
    asked: int
    read: int
    """Of its verdicts, those that could be read: what the shares are means of."""
    share: float | None
    """Of its verdicts, what went to ``left``; None where none could be read."""
    first: float | None
    """The same where ``left`` was shown first; None where it never was."""
    second: float | None
    problem: str
    """Why verdicts could not be read."""

    @property
    def shares(self) -> tuple[float | None, float | None, float | None]:
        """Overall, shown first, shown second."""
        return self.share, self.first, self.second

    @property
    def says(self) -> str:
        """``A`` for left, ``B`` for right, ``tie``, or ``unread``."""
        if self.share is None:
            return "unread"
        return "A" if self.share > 0.5 else "B" if self.share < 0.5 else "tie"


def votes(one: Example) -> list[Vote]:
    """The verdicts of an example, one row a judge, in their order."""
    rows: dict[str, list[Judgment]] = {}
    for verdict in one.verdicts:
        rows.setdefault(verdict.judge, []).append(verdict)
    return [_vote(one, judge, given) for judge, given in rows.items()]


def _vote(one: Example, judge: str, given: Sequence[Judgment]) -> Vote:
    sides: dict[bool, list[float]] = {True: [], False: []}
    for verdict in given:
        share = one.share(verdict)
        if share is not None:
            sides[one.left_first(verdict)].append(share)
    both = sides[True] + sides[False]
    share, first, second = (sum(s) / len(s) if s else None for s in (both, sides[True], sides[False]))
    problem = "; ".join(sorted({short(v.error, 100) for v in given if v.error}))
    return Vote(judge=judge, asked=len(given), read=len(both), share=share, first=first, second=second, problem=problem)


# Differences ----------------------------------------------------------------------------------------------------------

Span = tuple[str, bool]
"""A piece of text, and whether the other text lacks it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two texts cut into what they share and what only one has."""

    left: tuple[Span, ...]
    right: tuple[Span, ...]
    alike: float
    """Share of the words in common."""
    reason: str = ""
    """Why nothing is marked; empty where it is."""


def difference(left: str, right: str) -> Difference:
    """Word by word what only one of two texts has; nothing is marked where they are long or have little in common."""
    a, b = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (left, right))
    whole = {"left": ((left, False),), "right": ((right, False),)}
    if max(len(a), len(b)) > LONGEST:
        return Difference(**whole, alike=0.0, reason="the answers are too long to mark their differences")
    counts = [Counter(token for token in side if token[0].isalnum()) for side in (a, b)]
    total = sum(counts[0].values()) + sum(counts[1].values())
    alike = 2 * sum((counts[0] & counts[1]).values()) / total if total else 1.0
    if alike < LEAST_ALIKE:
        return Difference(**whole, alike=alike, reason="the answers have few words in common")
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    spans: tuple[list[Span], list[Span]] = ([], [])
    for tag, a0, a1, b0, b1 in matcher.get_opcodes():
        for side, words, low, high in ((spans[0], a, a0, a1), (spans[1], b, b0, b1)):
            if high > low:
                side.append(("".join(words[low:high]), tag != "equal"))
    return Difference(left=tuple(spans[0]), right=tuple(spans[1]), alike=alike)
