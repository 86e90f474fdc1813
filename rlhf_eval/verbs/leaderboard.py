"""``leaderboard``: every model's win rate against a baseline, and which models first place cannot be told from.

rlhf-eval leaderboard
rlhf-eval leaderboard --by category --format latex
rlhf-eval leaderboard --rank
rlhf-eval leaderboard --judge alpaca_eval/weighted_alpaca_eval_gpt4_turbo --json
"""

from __future__ import annotations

from rlhf_eval.benchmarks.boards import Behind, Board, boards
from rlhf_eval.benchmarks.ratings import RatingBoard, ratings
from rlhf_eval.benchmarks.standings import categories, standings
from rlhf_eval.verbs.session import Session

__all__ = ["Behind", "Board", "leaderboard", "ranking"]


def leaderboard(
    session: Session, *, judge: str = "", baseline: str = "", run: str = "", by_category: bool = False
) -> list[Board]:
    """A board for each judge, baseline (unless one is named) and, if wanted, category.

    Raises UserError where there is nothing to show.
    """
    found = standings(session.store, runs=[session.store.find(run).id] if run else None)
    parts = categories(session.store) if found and by_category else None
    return boards(found, judge=judge, baseline=baseline, parts=parts)


def ranking(session: Session, *, judge: str = "", run: str = "") -> list[RatingBoard]:
    """A ranking of all models for each judge; raises UserError where there is nothing to rank."""
    return ratings(standings(session.store, runs=[session.store.find(run).id] if run else None), judge=judge)
