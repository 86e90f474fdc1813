"""What Leaderboard, Compare and Head-to-head show: the boards and duels of the command line, cut by the page's filters.

found = met(store)
board(found, judge, baseline).rows
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dashboards.data.state import Nothing
from rlhf_eval.audit.evidence import role
from rlhf_eval.audit.shelf import reputation
from rlhf_eval.benchmarks import boards as all_boards
from rlhf_eval.benchmarks.boards import Board
from rlhf_eval.benchmarks.duels import Duel, duels
from rlhf_eval.benchmarks.grades import GradeBoard, Graded, grade_boards, graded
from rlhf_eval.benchmarks.standings import Hashes, Standing, categories, standings
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate, Message
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.bradley_terry import Ranking, bradley_terry, rating_intervals
from rlhf_eval.stats.intervals import Interval
from rlhf_eval.stats.ranking import cyclic_triads, rank_sets
from rlhf_eval.store.runs import Store

LENGTHS = ("answer_tokens", "answer_characters")
RATES = ("win_rate", "flip_rate", "first_slot_share")
"""Estimates that the board and the judge's card show already."""


def met(store: Store, *, run: str = "") -> tuple[Standing, ...]:
    """Every two models that a judge compared, in the whole store or in one run; raises Nothing where none did."""
    runs = [store.find(run).id] if run else None
    found = tuple(s for s in standings(store, runs=runs) if len(s.share))
    if not found:
        raise Nothing(
            "There is no comparison of two models here yet.",
            command="rlhf-eval evaluate winrate --model SPEC --baseline SPEC --judge-model SPEC",
        )
    return found


def graded_answers(store: Store, *, run: str = "") -> tuple[Graded, ...]:
    """Every model whose answers a judge graded one by one, in the whole store or in one run; raises Nothing without any."""
    found = tuple(one for one in graded(store, runs=[store.find(run).id] if run else None) if one.read.any())
    if not found:
        raise Nothing("There is no graded answer here yet.", command="rlhf-eval judge --judge grade --judge-model SPEC")
    return found


def kinds(store: Store) -> tuple[bool, bool]:
    """Whether the store holds comparisons of two answers, and grades of one."""
    table = store.sql("select distinct len(completion_ids) as shown from judgments where error is null")
    shown = table.column("shown").to_pylist()
    return 2 in shown, 1 in shown


def runs_with_judgments(store: Store, judge: str = "", *, answers: int = 2) -> list[str]:
    """The runs that hold judgments of so many answers each, or those of one judge, newest first."""
    query = "select distinct run_id from judgments where $1 in ('', judge) and len(completion_ids) = $2 order by 1 desc"
    return [str(run) for run in store.sql(query, [judge, answers]).column(0).to_pylist()]


def prompt_categories(store: Store) -> dict[str, Hashes]:
    """Category to the hashes of its prompts; empty where no prompt has one."""
    try:
        return categories(store)
    except UserError:
        return {}


def graders(found: Sequence[Graded]) -> list[str]:
    """The judges of single answers, the one with the most grades first, and last those that others are measured by."""
    count: dict[str, int] = {}
    for one in found:
        count[one.judge] = count.get(one.judge, 0) + len(one.grade)
    return sorted(count, key=lambda name: (bool(role(name)), -count[name], name))


def judges(found: Sequence[Standing]) -> list[str]:
    """The judges, the one with the most judgments first."""
    count: dict[str, int] = {}
    for standing in found:
        count[standing.judge] = count.get(standing.judge, 0) + int(standing.readable.sum())
    return sorted(count, key=lambda name: (-count[name], name))


def baselines(found: Sequence[Standing], judge: str) -> list[str]:
    """What the judge compared the others with, the commonest first."""
    return all_boards.baselines([s for s in found if s.judge == judge])


def models(found: Sequence[Standing], judge: str) -> list[str]:
    """All models that the judge compared."""
    return sorted({name for s in found if s.judge == judge for name in (s.model, s.opponent)})


def default_pair(found: Sequence[Standing], judge: str) -> tuple[str, str]:
    """The two that are compared unless others are named: the leader of the commonest baseline's board, and the next."""
    first = baselines(found, judge)[0]
    names = [str(row.settings["model"]) for row in board(found, judge, first).rows]
    return names[0], names[1] if len(names) > 1 else first


def parts_of(known: Mapping[str, Hashes], found: Sequence[Standing | Graded]) -> list[str]:
    """The categories of the prompts that these judgments are about."""
    return [name for name, prompts in known.items() if any(np.isin(s.prompt, prompts).any() for s in found)]


def board(found: Sequence[Standing], judge: str, baseline: str, prompts: Hashes | None = None) -> Board:
    """One board; raises UserError where the judge read nothing about the baseline, or not on these prompts."""
    mine = [s for s in found if s.judge == judge]
    parts = None if prompts is None else {"": prompts}
    return all_boards.boards(mine, judge=judge, baseline=baseline, parts=parts)[0]


def grade_board(found: Sequence[Graded], judge: str, *, prompts: Hashes | None = None, turn: int = 0) -> GradeBoard:
    """The board of one judge's grades, of some prompts or of one turn; raises UserError where it read none there."""
    mine = [one.only(one.turn == turn) if turn else one for one in found if one.judge == judge]
    return grade_boards(mine, judge=judge, parts=None if prompts is None else {"": prompts})[0]


def compared(
    store: Store, found: Sequence[Standing], judge: str, a: str, b: str, known: Mapping[str, Hashes]
) -> list[Duel]:
    """A against B by one judge: over all prompts, then over each category."""
    return duels(store, [s for s in found if s.judge == judge], a, b, judge=judge, parts=known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One model against another: the model's share of the verdicts."""

    model: str
    opponent: str
    value: float
    low: float
    high: float
    n: int
    expected: float
    """What the Bradley-Terry strengths of the two predict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tournament:
    """Everybody against everybody by one judge."""

    judge: str
    models: tuple[str, ...]
    """Strongest first."""
    strengths: tuple[Interval, ...]
    """Log-odds against the average model, in the order of ``models``."""
    ranks: tuple[tuple[int, int], ...]
    """The best and the worst rank that each can still have, all of them at once."""
    cells: tuple[Cell, ...]
    cycles: int
    """Triples of models that beat each other in a circle, of those that all met."""
    triples: int
    note: str = ""


def tournament(found: Sequence[Standing], judge: str, prompts: Hashes | None = None) -> Tournament:
    """Pairwise win rates, Bradley-Terry strengths and cycles of one judge's comparisons.

    Raises UserError where the judge read nothing on these prompts.
    """
    mine = [s if prompts is None else s.only(prompts) for s in found if s.judge == judge]
    mine = [s for s in mine if len(s.share)]
    if not mine:
        raise UserError(f"{judge} compared no two models on these prompts")
    ranking = _ranking(mine)
    order = np.argsort(-ranking.ratings, kind="stable")
    names = tuple(ranking.models[i] for i in order)
    sets, strengths = rank_sets(ranking), rating_intervals(ranking)
    cells = _cells(mine, dict(zip(ranking.models, ranking.ratings.tolist(), strict=True)))
    cycles, triples = _cycles(cells, names)
    return Tournament(
        judge=judge,
        models=names,
        strengths=tuple(strengths[i] for i in order),
        ranks=tuple((sets.best[i], sets.worst[i]) for i in order),
        cells=cells,
        cycles=cycles,
        triples=triples,
        note=ranking.note,
    )


def _ranking(mine: Sequence[Standing]) -> Ranking:
    """Strengths from one score a prompt and pair of models; models go in as numbers, because text is slow to sort."""
    names = sorted({name for s in mine for name in (s.model, s.opponent)})
    sizes = [len(s.share) for s in mine]
    first = np.repeat([names.index(s.model) for s in mine], sizes)
    second = np.repeat([names.index(s.opponent) for s in mine], sizes)
    share = np.concatenate([s.share for s in mine])
    fitted = bradley_terry(first, second, share, clusters=np.concatenate([s.prompt for s in mine]))
    return replace(fitted, models=tuple(names[int(number)] for number in fitted.models))


def _cells(mine: Sequence[Standing], strength: Mapping[str, float]) -> tuple[Cell, ...]:
    cells = []
    for standing in mine:
        for side in (standing, standing.mirrored()):
            rated = side.estimate()
            gap = strength[side.model] - strength[side.opponent]
            cells.append(
                Cell(
                    model=side.model, opponent=side.opponent, value=rated.value, low=rated.low, high=rated.high, n=rated.n,
                    expected=float(1 / (1 + np.exp(-gap))),
                )
            )  # fmt: skip
    return tuple(cells)


def _cycles(cells: Sequence[Cell], names: Sequence[str]) -> tuple[int, int]:
    """Circles among the triples of models of which all three pairs met."""
    place = {name: i for i, name in enumerate(names)}
    beats: Floats = np.zeros((len(names), len(names)))
    played = np.zeros_like(beats)
    for cell in cells:
        played[place[cell.model], place[cell.opponent]] = 1
        beats[place[cell.model], place[cell.opponent]] = float(cell.value > 0.5)
    return round(float(cyclic_triads(beats))), round(float(np.trace(played @ played @ played)) / 6)


def prompt_texts(store: Store, ids: Sequence[str]) -> dict[str, str]:
    """The questions of some prompts, by id."""
    query = "select id, any_value(messages) as messages from prompts where list_contains($1::varchar[], id) group by id"
    table = store.sql(query, [list(ids)])
    return {str(row["id"]): _question([Message(**m) for m in row["messages"]]) for row in table.to_pylist()}


def measurements(store: Store) -> list[tuple[str, Estimate]]:
    """What evaluations have measured beside win rates (exact checks, gold, benchmarks), with the run, newest run first.

    Of one run lengths come last: they tell how to read the others. What a study is made of, the study tells.
    """
    found = []
    studied = {part for study in store.runs("lab") for part in study.inputs.values()}
    for run in reversed([run for run in store.runs("evaluate") if run.id not in studied]):
        own = [e for e in store.records(Estimate, run=run.id) if e.name not in RATES]
        found += [(run.id, e) for e in sorted(own, key=lambda e: e.name.startswith(LENGTHS))]
    return found


def _question(messages: Sequence[Message]) -> str:
    return next((m.content for m in reversed(messages) if m.role == "user"), "")


def badge(store: Store, judge: str) -> str:
    """One line on a judge: the summary of its card, that it is what others are measured by, or that nobody knows."""
    return reputation(store, judge) or "never measured: an audit says how far it can be believed"
