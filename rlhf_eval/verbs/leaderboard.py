"""``leaderboard``: every model's win rate against a baseline, from the judgments that the store holds.

rlhf-eval leaderboard
rlhf-eval leaderboard --judge alpaca_eval/weighted_alpaca_eval_gpt4_turbo --json
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_eval.benchmarks import winrate
from rlhf_eval.benchmarks.comparisons import Comparisons, comparisons
from rlhf_eval.errors import UserError, nearest
from rlhf_eval.records import Estimate
from rlhf_eval.verbs.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One table: the models that one judge compared with one baseline, best first."""

    judge: str
    baseline: str
    rows: tuple[Estimate, ...]


def leaderboard(session: Session, *, judge: str = "", baseline: str = "", run: str = "") -> list[Board]:
    """A board for each judge (and each baseline, unless one is named); raises UserError where there is nothing."""
    runs = [session.store.find(run).id] if run else None
    groups = comparisons(session.store, runs=runs)
    if not groups:
        raise UserError(
            "the store holds no comparison of two models yet; run 'rlhf-eval evaluate winrate' or 'rlhf-eval load'"
        )
    boards = [
        _board(judge_name, opponent, _facing(mine, opponent))
        for judge_name, mine in _by_judge(groups, judge)
        for opponent in ([baseline] if baseline else _baselines(mine))
    ]
    found = [board for board in boards if board.rows]
    if not found:
        known = {name for g in groups for name in (g.model, g.opponent)}
        raise UserError(f"no judgment compares a model with '{baseline}'.{nearest(baseline, known)}")
    return found


def _by_judge(groups: Sequence[Comparisons], wanted: str) -> list[tuple[str, list[Comparisons]]]:
    names = dict.fromkeys(group.judge for group in groups)
    chosen = [name for name in names if name.startswith(wanted)]
    if not chosen:
        raise UserError(f"no judge is called '{wanted}'.{nearest(wanted, names)}")
    return [(name, [g for g in groups if g.judge == name]) for name in chosen]


def _baselines(groups: Sequence[Comparisons]) -> list[str]:
    """The models that stand second: what was compared against; the commonest first."""
    return [name for name, _ in Counter(group.opponent for group in groups).most_common()]


def _facing(groups: Sequence[Comparisons], baseline: str) -> list[Comparisons]:
    return [g if g.opponent == baseline else g.mirrored() for g in groups if baseline in (g.model, g.opponent)]


def _board(judge: str, baseline: str, groups: Sequence[Comparisons]) -> Board:
    rows = [winrate.score(group, winrate.Config())[0] for group in groups if len(group.share)]
    return Board(
        judge=judge, baseline=baseline, rows=tuple(sorted(rows, key=lambda row: (-row.value, str(row.settings))))
    )
