"""Training sets of the store: what a preference set is made of, pair by pair, and how two sets differ.

for row in sets(store): print(row.run, row.pairs)
card(store, run).warnings
browse(store, run, labeler="...", page=0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from dashboards.data.reading import once, pick
from dashboards.data.state import Nothing
from rlhf_eval.records import Demonstration, Estimate, Judgment, PreferencePair
from rlhf_eval.stages.card import VERSION, Card, card_of
from rlhf_eval.stages.measures import histogram
from rlhf_eval.stages.sheet import sheet_of
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.store.runs import Store

PAGE = 20
MEASURED = 5_000
"""Pairs of which a card is worked out here, where the set brings none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One set: a run that holds preference pairs or demonstrations."""

    run: str
    verb: str
    status: str
    rule: str
    pairs: int
    demonstrations: int
    prompts: int
    counts: Mapping[str, int]
    """How every prompt or row ended, as the run accounts for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which pairs are wanted; what is empty lets everything through."""

    labeler: str = ""
    rule: str = ""
    at_least: float = 0.5
    """Probability from which a pair is shown."""
    at_most: float = 1.0
    containing: str = ""
    """Words that stand in the prompt or either answer."""
    flipped: bool = False
    """Only pairs whose judge changed its mind with the order."""
    longer: str = ""
    """``chosen`` or ``rejected``: which side must be the longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A pair with what the judges said of it."""

    pair: PreferencePair
    judgments: tuple[Judgment, ...]
    flips: bool
    """Whether two orders of one judge name different winners."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some pairs of a set, and how many there are."""

    shown: tuple[Shown, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """Two sets side by side."""

    shared_prompts: int
    only_one: int
    only_other: int
    """Prompts that stand in one set alone."""
    same_pairs: int
    turned: int
    """Pairs of the same two answers whose chosen one is the other set's rejected one."""
    measures: tuple[tuple[str, Estimate | None, Estimate | None], ...]


def sets(store: Store) -> list[Row]:
    """The runs with pairs, newest first, then those with demonstrations alone; raises Nothing where there is none."""
    query = """
        with rows as (select run_id, 1 as pair, prompt_id from pairs
                      union all select run_id, 0, prompt_id from demonstrations)
        select run_id as run, sum(pair)::int as pairs, sum(1 - pair)::int as demonstrations,
               count(distinct prompt_id) as prompts from rows group by 1 order by sum(pair) = 0, 1 desc"""
    runs = {run.id: run for run in store.runs()}
    found = [
        Row(
            run=row["run"], verb=runs[row["run"]].verb, status=runs[row["run"]].status,
            rule=str(runs[row["run"]].config.get("rule", "")), pairs=row["pairs"], demonstrations=row["demonstrations"],
            prompts=row["prompts"], counts=runs[row["run"]].counts,
        )
        for row in store.sql(query).to_pylist()
        if row["run"] in runs
    ]  # fmt: skip
    if not found:
        raise Nothing("There is no preference set in this store yet.", command="rlhf-eval pairs --rule best_worst")
    return found


def card(store: Store, run: str) -> tuple[Card, str]:
    """The set's data card, and where it comes from: its run, or worked out here from some of its pairs."""
    path = store.folder(run) / "card.json"
    try:
        made = msgspec.json.decode(path.read_bytes(), type=Card)
        if made.version <= VERSION:
            return made, "its run"
        store.note(f"{path}: skipped, a data card of version {made.version}; this rlhf-eval reads up to {VERSION}")
    except FileNotFoundError:
        pass
    except (OSError, msgspec.MsgspecError) as error:
        store.note(f"{path}: skipped, not a data card: {error}")
    where = "run_id = ? order by hash(id), id limit ?"
    rows = _some(store, where, [run, MEASURED])
    return card_of(sheet_of(rows), name=run), f"{len(rows):,} of its pairs, measured for this page"


def lengths(store: Store, run: str) -> tuple[tuple[float, float, int], ...]:
    """Histogram of how many words more the chosen answer has: (from, to, pairs)."""
    gaps = _gaps(store, run)
    # Words are counted: narrower bins than one word would leave gaps that mean nothing.
    return tuple(histogram(gaps, bins=int(min(20, max(1, np.ptp(gaps)))) if len(gaps) else 1))


def labelers(store: Store, run: str) -> tuple[list[str], list[str]]:
    """Who labelled the pairs of a set, and by which rules they were chosen."""
    query = "select distinct labeler, rule from pairs where run_id = ?"
    rows = store.sql(query, [run]).to_pylist()
    return sorted({row["labeler"] for row in rows}), sorted({row["rule"] for row in rows})


def browse(store: Store, run: str, wanted: Filter | None = None, *, page: int = 0, size: int = PAGE) -> Page:
    """One page of a set's pairs, the least sure first."""
    where, params = _where(store, run, wanted or Filter())
    total = store.sql(f"select count(*) as n from pairs where {where}", params).column("n")[0].as_py()
    ids = store.sql(
        f"select id from pairs where {where} order by probability, id limit ? offset ?", [*params, size, page * size]
    )
    order = {identity: n for n, identity in enumerate(ids.column("id").to_pylist())}
    found = pick(store, PreferencePair, "run_id = ? and id in (select unnest(?::varchar[]))", [run, list(order)])
    found.sort(key=lambda pair: order[pair.id])
    behind = sorted({identity for pair in found for identity in pair.judgment_ids})
    told = {j.id: j for j in pick(store, Judgment, "id in (select unnest(?::varchar[]))", [behind])} if behind else {}
    shown = []
    for pair in found:
        own = tuple(told[i] for i in pair.judgment_ids if i in told)
        shown.append(Shown(pair=pair, judgments=own, flips=_flips(pair, own)))
    return Page(shown=tuple(shown), total=int(total))


def demonstrations(store: Store, run: str, *, page: int = 0, size: int = PAGE) -> list[Demonstration]:
    """One page of an SFT set, best scores first."""
    ids = store.sql(
        "select id from demonstrations where run_id = ? order by score desc, id limit ? offset ?",
        [run, size, page * size],
    )
    order = {identity: n for n, identity in enumerate(ids.column("id").to_pylist())}
    found = pick(store, Demonstration, "run_id = ? and id in (select unnest(?::varchar[]))", [run, list(order)])
    return sorted(found, key=lambda demonstration: order[demonstration.id])


def versus(store: Store, one: str, other: str) -> Versus:
    """How two sets differ: their prompts, the labels that they give to the same answers, and what their cards measure."""
    prompts = store.sql(
        "with a as (select distinct prompt_id from pairs where run_id = ?), "
        "b as (select distinct prompt_id from pairs where run_id = ?) "
        "select (select count(*) from a semi join b using (prompt_id)) as shared, "
        "(select count(*) from a anti join b using (prompt_id)) as one, "
        "(select count(*) from b anti join a using (prompt_id)) as other",
        [one, other],
    ).to_pylist()[0]
    answers = store.sql(
        "with a as (select distinct chosen_id, rejected_id from pairs where run_id = ?), "
        "b as (select distinct chosen_id, rejected_id from pairs where run_id = ?) "
        "select (select count(*) from a semi join b using (chosen_id, rejected_id)) as same, "
        "(select count(*) from a join b on a.chosen_id = b.rejected_id and a.rejected_id = b.chosen_id) as turned",
        [one, other],
    ).to_pylist()[0]
    first, second = ({_name(e): e for e in card(store, run)[0].estimates} for run in (one, other))
    names = dict.fromkeys([*first, *second])
    return Versus(
        shared_prompts=prompts["shared"], only_one=prompts["one"], only_other=prompts["other"],
        same_pairs=answers["same"], turned=answers["turned"],
        measures=tuple((name, first.get(name), second.get(name)) for name in names),
    )  # fmt: skip


def _name(e: Estimate) -> str:
    """A measure with what tells it from others of its name."""
    told = [str(e.settings[key]) for key in ("judge", "labelers", "truth", "n") if key in e.settings]
    return f"{e.name} ({', '.join(told)})" if told else e.name


def _some(store: Store, where: str, params: list[object]) -> list[PreferencePair]:
    ids = store.sql(f"select id from pairs where {where}", params).column("id").to_pylist()
    return pick(store, PreferencePair, "run_id = ? and id in (select unnest(?::varchar[]))", [params[0], ids])


_WORDS = "len(string_split_regex(trim({side}[1].content), '\\s+'))"
_GAP = f"{_WORDS.format(side='chosen')} - {_WORDS.format(side='rejected')}"


def _gaps(store: Store, run: str) -> Floats:
    table = store.sql(f"select ({_GAP})::double as gap from pairs where run_id = ?", [run])
    gaps: Floats = table.column("gap").to_numpy(zero_copy_only=False)
    return gaps


def _where(store: Store, run: str, wanted: Filter) -> tuple[str, list[object]]:
    parts, params = ["run_id = ?"], [run]
    conditions: list[tuple[object, str]] = [
        (wanted.labeler, "labeler = ?"),
        (wanted.rule, "rule = ?"),
        (wanted.at_least if wanted.at_least > 0.5 else None, "probability >= ?"),
        (wanted.at_most if wanted.at_most < 1 else None, "probability <= ?"),
    ]
    every: list[object] = [*params]
    for value, condition in conditions:
        if value:
            parts.append(condition)
            every.append(value)
    if wanted.containing:
        texts = " || ' ' || ".join(
            f"list_aggregate(list_transform({side}, lambda m: m.content), 'string_agg', ' ')"
            for side in ("prompt", "chosen", "rejected")
        )
        parts.append(f"contains(lower({texts}), lower(?))")
        every.append(wanted.containing)
    if wanted.longer in ("chosen", "rejected"):
        parts.append(f"{_GAP} {'>' if wanted.longer == 'chosen' else '<'} 0")
    if wanted.flipped:
        parts.append(f"id in ({_FLIPPED.format(judgments=_once(store))})")
        every.append(run)
    return " and ".join(parts), every


def _once(store: Store) -> str:
    return once(store, "judgments", where="len(completion_ids) = 2 and error is null")


_FLIPPED = """
    with made as (select id as pair, chosen_id, unnest(judgment_ids) as judgment from pairs where run_id = ?),
    said as (select m.pair, j.judge, j."order"[list_position(j.completion_ids, m.chosen_id)] as place,
                    j.scores[list_position(j.completion_ids, m.chosen_id)] as share
             from made m join {judgments} j on j.id = m.judgment)
    select a.pair from said a join said b on a.pair = b.pair and a.judge = b.judge and a.place < b.place
    where (a.share - .5) * (b.share - .5) < 0"""


def _flips(pair: PreferencePair, judgments: tuple[Judgment, ...]) -> bool:
    """Whether the chosen answer wins in one order and loses in another, by one judge."""
    shares: dict[str, list[float]] = {}
    for judgment in judgments:
        if len(judgment.scores) == 2 and pair.chosen_id in judgment.completion_ids:
            share = judgment.scores[judgment.completion_ids.index(pair.chosen_id)]
            shares.setdefault(judgment.judge, []).append(share)
    return any(min(given) < 0.5 < max(given) for given in shares.values())
