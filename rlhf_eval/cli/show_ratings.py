"""A ranking of all models as a table or as JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rlhf_eval.benchmarks.ratings import Rated, RatingBoard
from rlhf_eval.cli.show import table
from rlhf_eval.cli.words import emit


def ratings(found: Sequence[RatingBoard], *, as_json: bool) -> None:
    """Print the rankings: strength, its interval, and the ranks that a model may still have."""
    if as_json:
        for board in found:
            for row in board.rows:
                emit({"event": "rating", "judge": board.judge, **asdict(row), "note": board.note})
        return
    for board in found:
        print(f"\nBradley-Terry, judge {board.judge}: {board.comparisons:,} comparisons on {board.prompts:,} prompts")
        if board.note:
            print(f"  {board.note}")
        print(table(["  model", "log-odds", "95 % interval", "rank"], [_row(row) for row in board.rows]))
        print(_carried(board))


def _row(row: Rated) -> list[str]:
    strength = row.strength
    rank = f"{row.best}" if row.best == row.worst else f"{row.best} to {row.worst}"
    return [f"  {row.model}", f"{strength.value:+.2f}", f"[{strength.low:+.2f}, {strength.high:+.2f}]", rank]


def _carried(board: RatingBoard) -> str:
    held = board.carried
    if held is None:
        return "  first place is not identified: see above"
    if held.games_to_flip is None or held.share is None:
        return f"  no set of comparisons was found without which {held.runner_up} would lead"
    return (
        f"  without {held.games_to_flip:,} of the comparisons ({held.share:.1%}) {held.runner_up} would lead "
        f"instead of {held.leader}; ranks hold together at 95 %"
    )
