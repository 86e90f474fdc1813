"""Leaderboards as a table on the screen, Markdown, CSV, LaTeX or JSON lines.

Every format holds the same cells: win rate with its interval, n, counts, what failed, and whether first place can be told
from the model at all.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence

from rlhf_eval.records import Estimate, to_row
from rlhf_eval.verbs.leaderboard import Behind, Board

FORMATS = ("table", "md", "csv", "latex", "json")
FEW = 30
"""Prompts below which a row says so."""

HEAD = ("model", "win rate", "95 % interval", "n", "won/tied/lost", "failed", "behind first", "p (Holm)", "")
FIELDS = (
    "judge", "baseline", "category", "model", "win_rate", "low", "high", "se", "n", "wins", "ties", "losses", "failed",
    "unreadable", "behind_first", "behind_low", "behind_high", "p_holm", "separable_from_first",
)  # fmt: skip


def boards(found: Sequence[Board], form: str) -> None:
    """Print boards in a format."""
    if form == "json":
        for board in found:
            for row, behind in zip(board.rows, board.behind, strict=True):
                print(json.dumps(_event(board, row, behind), ensure_ascii=False))
        return
    if form == "csv":
        writer = csv.DictWriter(sys.stdout, FIELDS, lineterminator="\n")
        writer.writeheader()
        for board in found:
            writer.writerows(_fields(board, row, behind) for row, behind in zip(board.rows, board.behind, strict=True))
        return
    for board in found:
        print(rendered(board, form))


def rendered(board: Board, form: str) -> str:
    """One board as a table for the screen, Markdown or LaTeX."""
    return {"table": _table, "md": _markdown, "latex": _latex}[form](board)


def _title(board: Board) -> str:
    part = f", {board.category}" if board.category else ""
    return f"win rate against {board.baseline}, judge {board.judge}{part}"


def _note(board: Board) -> str:
    """What the marks mean, and how much of first place may be luck."""
    if len(board.rows) < 2:
        return ""
    tied = sum(not behind.separable for behind in board.behind) - 1
    shown = (
        f"= {tied} of {len(board.rows) - 1} cannot be told from first place"
        if tied
        else "first place is separable from all"
    )
    return (
        f"{shown} (paired difference, Holm); of {len(board.rows)} equal models the best would seem "
        f"{100 * board.luck:.1f} points ahead by luck"
    )


def _cells(row: Estimate, behind: Behind, place: int) -> list[str]:
    gap, settings = behind.gap, row.settings
    return [
        ("= " if place and not behind.separable else "  ") + str(settings["model"]),
        f"{100 * row.value:.1f} %",
        f"[{100 * row.low:.1f}, {100 * row.high:.1f}]",
        f"{row.n:,}",
        f"{settings['wins']}/{settings['ties']}/{settings['losses']}",
        f"{row.failed + settings['unreadable']}",
        f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]" if gap else "-",
        f"{behind.p_holm:.3g}" if behind.p_holm is not None else "-",
        "few prompts" if row.n < FEW else "",
    ]


def _rows(board: Board) -> list[list[str]]:
    return [_cells(row, behind, n) for n, (row, behind) in enumerate(zip(board.rows, board.behind, strict=True))]


def _table(board: Board) -> str:
    from rlhf_eval.cli.show import table

    note = _note(board)
    return f"\n{_title(board)}\n{table(['  model', *HEAD[1:]], _rows(board))}" + (f"\n  {note}" if note else "")


def _markdown(board: Board) -> str:
    lines = [f"**{_title(board)}**", "", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(cell.strip().replace("|", "\\|") for cell in row) + " |" for row in _rows(board)]
    return "\n".join([*lines, "", _note(board), ""])


def _latex(board: Board) -> str:
    lines = [f"% {_title(board)}", rf"\begin{{tabular}}{{l{'r' * (len(HEAD) - 2)}l}}", r"\toprule"]
    lines += [" & ".join(map(_escaped, HEAD)) + r" \\", r"\midrule"]
    lines += [" & ".join(_escaped(cell.strip()) for cell in row) + r" \\" for row in _rows(board)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", f"% {_note(board)}", ""])


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def _fields(board: Board, row: Estimate, behind: Behind) -> dict[str, object]:
    gap, settings = behind.gap, row.settings
    return {
        "judge": board.judge, "baseline": board.baseline, "category": board.category, "model": settings["model"],
        "win_rate": row.value, "low": row.low, "high": row.high, "se": settings["se"], "n": row.n,
        "wins": settings["wins"], "ties": settings["ties"], "losses": settings["losses"], "failed": row.failed,
        "unreadable": settings["unreadable"], "behind_first": gap.value if gap else None,
        "behind_low": gap.low if gap else None, "behind_high": gap.high if gap else None, "p_holm": behind.p_holm,
        "separable_from_first": behind.separable,
    }  # fmt: skip


def _event(board: Board, row: Estimate, behind: Behind) -> dict[str, object]:
    names = ("category", "behind_first", "behind_low", "behind_high", "p_holm", "separable_from_first")
    fields = _fields(board, row, behind)
    return {"event": "estimate", **to_row(row), **{name: fields[name] for name in names}}
