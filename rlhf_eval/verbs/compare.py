"""``compare A B``: is A better than B, on the same prompts and by the same judge?

Where the two met, the head-to-head judgments answer; else their judgments against a common baseline do, paired by prompt.

    rlhf-eval compare tonight lastweek --fail-on-regression
"""

from __future__ import annotations

from rlhf_eval.benchmarks.duels import Duel, duels
from rlhf_eval.benchmarks.standings import categories, standings
from rlhf_eval.verbs.leaderboard import only
from rlhf_eval.verbs.session import Session


def compare(
    session: Session, a: str, b: str, *, judge: str = "", run: str = "", by_category: bool = False
) -> list[Duel]:
    """Every judge's answer, overall and for each category if wanted.

    Raises UserError where the two never met and share no baseline.
    """
    parts = categories(session.store) if by_category else None
    found = standings(session.store, runs=only(session, run))
    return duels(session.store, found, a, b, judge=judge, parts=parts)
