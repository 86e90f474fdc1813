"""Boards of graded answers: every model's mean grade by one judge, and which models first place cannot be told from.

One query over a store, arrays instead of records, as in ``standings``. The unit is the question: turns of one conversation
and several samples of one prompt are one cluster. Any judge of single answers will do: a grade of 1 to 10 (MT-Bench,
WildBench), a reward model, a verifier, gold.

    for board in grade_boards(graded(store)): print(board.rows[0].settings["model"], board.rows[0].value)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rlhf_eval.benchmarks.boards import LEVEL, Behind, behind_first, luck_of
from rlhf_eval.benchmarks.evidence import estimate
from rlhf_eval.benchmarks.standings import Hashes, dedupe
from rlhf_eval.errors import UserError, nearest
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Bools, Floats, Ints
from rlhf_eval.stats.intervals import PairedDifference, mean_interval, paired
from rlhf_eval.store.runs import Store

if TYPE_CHECKING:
    import pyarrow as pa

_QUERY = """
with text as (select hash(id) as h, any_value(model) as model from completions where not starts_with(model, 'audit/')
              group by 1),
asked as (select hash(id) as prompt, any_value(hash(case when key <> '' then concat(source, chr(10), key) else id end))
                 as question, any_value(try_cast(metadata ->> '$.turn' as bigint)) as turn
          from prompts group by 1),
once as (select judge, prompt_id, completion_ids, scores, error from judgments
         where len(completion_ids) = 1 and ($1 is null or list_contains($1::varchar[], run_id)) {dedupe}),
told as (select judge, model, hash(prompt_id) as prompt, scores[1] as grade, error is null as read
         from once join text on text.h = hash(completion_ids[1]))
select judge, model, list(prompt) as prompt, list(coalesce(question, prompt)) as question,
       list(coalesce(turn, 0)) as turn, list(grade) as grade, list(read) as read
from told left join asked using (prompt) group by 1, 2 order by 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """One model's answers as one judge graded them; arrays have one entry a judgment."""

    judge: str
    model: str
    prompt: Hashes
    question: Hashes
    """The author's question that the prompt belongs to; of a conversation all turns."""
    turn: Ints
    """Of a conversation, counted from 1; 0 where the prompt has no turns."""
    grade: Floats
    read: Bools
    """Whether the judge's words could be read; elsewhere ``grade`` is NaN."""

    def only(self, kept: Bools | Ints) -> Graded:
        """Some of the judgments, by a mask or by their numbers."""
        return replace(
            self, prompt=self.prompt[kept], question=self.question[kept], turn=self.turn[kept], grade=self.grade[kept],
            read=self.read[kept],
        )  # fmt: skip

    def estimate(self, level: float = LEVEL) -> Estimate:
        """The mean grade with its interval, clustered by question."""
        lost = len(np.setdiff1d(self.prompt, self.prompt[self.read]))
        about = {
            "model": self.model, "judge": self.judge, "grades": int(self.read.sum()),
            "unreadable": int((~self.read).sum()),
        }  # fmt: skip
        interval = mean_interval(self.grade[self.read], self.question[self.read], level=level)
        return estimate("mean_grade", interval, failed=lost, settings=about)

    def by_question(self) -> tuple[Hashes, Floats]:
        """Questions, and the mean of the grades of each."""
        questions, index = np.unique(self.question[self.read], return_inverse=True)
        return questions, np.bincount(index, weights=self.grade[self.read]) / np.bincount(index)


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeBoard:
    """One table: the models that one judge graded, best first."""

    judge: str
    rows: tuple[Estimate, ...]
    behind: tuple[Behind, ...]
    part: str = ""
    """The category or turn, where the board is about one."""
    luck: float = 0.0
    """How far the best of as many equal models would seem ahead of them by chance alone."""

    @property
    def digits(self) -> int:
        """Decimals that its numbers are shown with."""
        return 2 if max(abs(row.value) for row in self.rows) >= 2 else 3


def graded(store: Store, *, runs: Sequence[str] | None = None) -> list[Graded]:
    """Every model that a judge graded, in the order of judge and model."""
    table = store.sql(_QUERY.format(dedupe=dedupe(store)), [list(runs) if runs is not None else None])
    return [_graded(table, row) for row in range(table.num_rows)]


def turns(found: Sequence[Graded]) -> list[int]:
    """The turns that the graded prompts have; none where they are no conversations."""
    return sorted({int(turn) for one in found for turn in np.unique(one.turn)} - {0})


def grade_boards(
    found: Sequence[Graded], *, judge: str = "", parts: Mapping[str, Hashes] | None = None, by_turn: bool = False
) -> list[GradeBoard]:
    """A board for each judge whose name starts with ``judge``, and for each part: a category's prompts, or a turn.

    Raises UserError where there is nothing to show.
    """
    names = dict.fromkeys(one.judge for one in found)
    chosen = [name for name in names if name.startswith(judge)]
    if not found:
        raise UserError(
            "the store holds no graded answer yet; run 'rlhf-eval judge --judge grade --judge-model SPEC' or "
            "'rlhf-eval load mt_bench PATH'"
        )
    if not chosen:
        raise UserError(f"no judge called '{judge}' has graded an answer here.{nearest(judge, names)}")
    made = []
    for name in chosen:
        mine = [one for one in found if one.judge == name]
        for part, kept in _parts(mine, parts, by_turn=by_turn):
            readable = [one for one in kept if one.read.any()]
            if readable:
                made.append(_board(name, part, readable))
    if not made:
        whose = f" of '{judge}'" if judge else ""
        raise UserError(f"not one grade{whose} could be read here; there is no mean to show")
    return made


def _parts(
    mine: Sequence[Graded], parts: Mapping[str, Hashes] | None, *, by_turn: bool
) -> list[tuple[str, list[Graded]]]:
    if by_turn:
        return [(f"turn {turn}", [one.only(one.turn == turn) for one in mine]) for turn in turns(mine)]
    if parts is None:
        return [("", list(mine))]
    return [(part, [one.only(np.isin(one.prompt, prompts)) for one in mine]) for part, prompts in parts.items()]


def _board(judge: str, part: str, mine: Sequence[Graded]) -> GradeBoard:
    rated = sorted(((one, one.estimate()) for one in mine), key=lambda pair: (-pair[1].value, pair[0].model))
    rows = tuple(found for _, found in rated)
    gaps = [_difference(rated[0][0], other) for other, _ in rated[1:]]
    return GradeBoard(judge=judge, rows=rows, behind=behind_first(gaps), part=part, luck=luck_of(rows))


def _difference(a: Graded, b: Graded) -> PairedDifference | None:
    """A's mean grade minus B's over the questions that both answered; None without any."""
    (mine, first), (theirs, second) = a.by_question(), b.by_question()
    shared, left, right = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
    return paired(first[left], second[right], level=LEVEL) if len(shared) else None


def _graded(table: pa.Table, row: int) -> Graded:
    lists = {
        n: table.column(n)[row].values.to_numpy(zero_copy_only=False)
        for n in ("prompt", "question", "turn", "grade", "read")
    }
    found = Graded(
        judge=str(table.column("judge")[row]),
        model=str(table.column("model")[row]),
        prompt=lists["prompt"].astype(np.uint64),
        question=lists["question"].astype(np.uint64),
        turn=lists["turn"].astype(np.int64),
        grade=lists["grade"].astype(np.float64),
        read=lists["read"].astype(np.bool_),
    )
    return found.only(
        np.lexsort((found.grade, found.prompt))
    )  # the query's own order, and with it every sum, is chance
