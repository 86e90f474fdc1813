"""Leaderboards as a table on the screen, Markdown, CSV, LaTeX or JSON lines.

Every format holds the same cells: win rate or mean grade with its interval, n, counts, what failed, and whether first place
can be told from the model at all.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlhf_eval.benchmarks.boards import told_apart
from rlhf_eval.cli.words import emit
from rlhf_eval.records import Estimate, to_row
from rlhf_eval.verbs.leaderboard import Behind, Board, GradeBoard

FORMATS = ("table", "md", "csv", "latex", "json")
FEW = 30
"""Prompts below which a row says so."""

_GAP = ("behind_first", "behind_low", "behind_high", "p_holm", "separable_from_first")


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A board as cells of text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str


def boards(found: Sequence[Board | GradeBoard], form: str) -> None:
    """Print boards in a format."""
    lines = [(board, row, behind) for board in found for row, behind in zip(board.rows, board.behind, strict=True)]
    if form == "json":
        for line in lines:
            emit(_event(*line))
    elif form == "csv":
        rows = [_fields(*line) for line in lines]
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        for board in found:
            print(rendered(board, form))


def rendered(board: Board | GradeBoard, form: str) -> str:
    """One board as a table for the screen, Markdown or LaTeX."""
    sheet = _grades(board) if isinstance(board, GradeBoard) else _win_rates(board)
    return {"table": _table, "md": _markdown, "latex": _latex}[form](sheet)


def _win_rates(board: Board) -> _Sheet:
    part = f", {board.category}" if board.category else ""
    rows = [
        [
            _name(row, behind, place),
            f"{100 * row.value:.1f} %",
            f"[{100 * row.low:.1f}, {100 * row.high:.1f}]",
            f"{row.n:,}",
            f"{row.settings['wins']}/{row.settings['ties']}/{row.settings['losses']}",
            f"{row.failed + row.settings['unreadable']}",
            *_behind(behind, 100, "+.1f"),
            "few prompts" if row.n < FEW else "",
        ]
        for place, (row, behind) in enumerate(zip(board.rows, board.behind, strict=True))
    ]
    head = ("model", "win rate", "95 % interval", "n", "won/tied/lost", "failed", "behind first", "p (Holm)", "")
    title = f"win rate against {board.baseline}, judge {board.judge}{part}"
    return _Sheet(title, head, rows, _note(board, f"{100 * board.luck:.1f} points"))


def _grades(board: GradeBoard) -> _Sheet:
    form = f".{board.digits}f"
    rows = [
        [
            _name(row, behind, place),
            f"{row.value:{form}}",
            f"[{row.low:{form}}, {row.high:{form}}]" if math.isfinite(row.low) else "one question: none",
            f"{row.n:,}",
            f"{row.settings['grades']:,}",
            f"{row.failed + row.settings['unreadable']}",
            *_behind(behind, 1, f"+{form}"),
            "few questions" if row.n < FEW else "",
        ]
        for place, (row, behind) in enumerate(zip(board.rows, board.behind, strict=True))
    ]
    head = ("model", "mean grade", "95 % interval", "n", "grades", "failed", "behind first", "p (Holm)", "")
    title = f"mean grade, judge {board.judge}{f', {board.part}' if board.part else ''}"
    return _Sheet(title, head, rows, _note(board, f"{board.luck:{form}}"))


def _name(row: Estimate, behind: Behind, place: int) -> str:
    mark = " " if not place or behind.separable else "=" if behind.gap else "?"
    return f"{mark} {row.settings['model']}"


def _behind(behind: Behind, scale: float, form: str) -> list[str]:
    gap = behind.gap
    bounds = [format(scale * bound, form) for bound in (gap.value, gap.low, gap.high)] if gap else []
    p = f"{behind.p_holm:.3g}" if behind.p_holm is not None else "-"
    return [f"{bounds[0]} [{bounds[1]}, {bounds[2]}]" if bounds else "-", p]


def _note(board: Board | GradeBoard, luck: str) -> str:
    """What the marks mean, and how much of first place may be luck."""
    if len(board.rows) < 2:
        return ""
    shown = told_apart(board.behind, marks=("= ", "? "))
    return (
        f"{shown} (paired difference, Holm); of {len(board.rows)} equal models the best would seem {luck} ahead by luck"
    )


def _table(sheet: _Sheet) -> str:
    from rlhf_eval.cli.show import table

    made = table([f"  {sheet.head[0]}", *sheet.head[1:]], sheet.rows)
    return f"\n{sheet.title}\n{made}" + (f"\n  {sheet.note}" if sheet.note else "")


def _markdown(sheet: _Sheet) -> str:
    lines = [f"**{sheet.title}**", "", "| " + " | ".join(sheet.head) + " |", "|" + "---|" * len(sheet.head)]
    lines += ["| " + " | ".join(cell.strip().replace("|", "\\|") for cell in row) + " |" for row in sheet.rows]
    return "\n".join([*lines, "", sheet.note, ""])


def _latex(sheet: _Sheet) -> str:
    lines = [f"% {sheet.title}", rf"\begin{{tabular}}{{l{'r' * (len(sheet.head) - 2)}l}}", r"\toprule"]
    lines += [" & ".join(map(_escaped, sheet.head)) + r" \\", r"\midrule"]
    lines += [" & ".join(_escaped(cell.strip()) for cell in row) + r" \\" for row in sheet.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", f"% {sheet.note}", ""])


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def _fields(board: Board | GradeBoard, row: Estimate, behind: Behind) -> dict[str, object]:
    """One row of CSV."""
    gap, settings = behind.gap, row.settings
    interval = {"low": row.low, "high": row.high, "se": settings["se"], "n": row.n}
    if isinstance(board, GradeBoard):
        about = {"judge": board.judge, "part": board.part, "model": settings["model"], "mean_grade": row.value}
        counts = {"grades": settings["grades"]}
    else:
        about = {
            "judge": board.judge, "baseline": board.baseline, "category": board.category, "model": settings["model"],
            "win_rate": row.value,
        }  # fmt: skip
        counts = {name: settings[name] for name in ("wins", "ties", "losses")}
    lost = {"failed": row.failed, "unreadable": settings["unreadable"]}
    bounds = (gap.value, gap.low, gap.high) if gap else (None, None, None)
    compared = dict(zip(_GAP, (*bounds, behind.p_holm, behind.separable), strict=True))
    return {**about, **interval, **counts, **lost, **compared}


def _event(board: Board | GradeBoard, row: Estimate, behind: Behind) -> dict[str, object]:
    fields = _fields(board, row, behind)
    part: Mapping[str, object] = {"part": board.part} if isinstance(board, GradeBoard) else {"category": board.category}
    return {"event": "estimate", **to_row(row), **part, **{name: fields[name] for name in _GAP}}
