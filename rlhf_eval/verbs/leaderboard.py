"""``leaderboard``: every model's win rate or mean grade, and which models first place cannot be told from.

rlhf-eval leaderboard
rlhf-eval leaderboard --by category --format latex
rlhf-eval leaderboard --rank
rlhf-eval leaderboard --grades --by turn
rlhf-eval leaderboard --judge alpaca_eval/weighted_alpaca_eval_gpt4_turbo --json
"""

from __future__ import annotations

from rlhf_eval.benchmarks.boards import Behind, Board, boards
from rlhf_eval.benchmarks.grades import GradeBoard, grade_boards, graded
from rlhf_eval.benchmarks.ratings import RatingBoard, ratings
from rlhf_eval.benchmarks.standings import categories, standings
from rlhf_eval.verbs.session import Session

__all__ = ["Behind", "Board", "GradeBoard", "leaderboard", "mean_grades", "ranking"]


def leaderboard(
    session: Session, *, judge: str = "", baseline: str = "", run: str = "", by_category: bool = False
) -> list[Board]:
    """A board for each judge, baseline (unless one is named) and, if wanted, category.

    Raises UserError where there is nothing to show.
    """
    found = standings(session.store, runs=only(session, run))
    parts = categories(session.store) if found and by_category else None
    return boards(found, judge=judge, baseline=baseline, parts=parts)


def mean_grades(session: Session, *, judge: str = "", run: str = "", by: str = "") -> list[GradeBoard]:
    """A board of mean grades for each judge of single answers, and if wanted for each ``category`` or ``turn``.

    Raises UserError where there is nothing to show.
    """
    found = graded(session.store, runs=only(session, run))
    parts = categories(session.store) if found and by == "category" else None
    return grade_boards(found, judge=judge, parts=parts, by_turn=by == "turn")


def only(session: Session, run: str) -> list[str] | None:
    """The run that was asked for, as a filter; None where all were."""
    return [session.store.find(run).id] if run else None


def ranking(session: Session, *, judge: str = "", run: str = "") -> list[RatingBoard]:
    """A ranking of all models for each judge; raises UserError where there is nothing to rank."""
    return ratings(standings(session.store, runs=only(session, run)), judge=judge)
