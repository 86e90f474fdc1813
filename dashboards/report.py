"""The report: leaderboards, judge cards, studies, method and top flips in one HTML file without network or script.

rlhf-eval report -o report.html
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from dashboards import words
from dashboards.data import examples, results, studies
from dashboards.data.examples import Example, Filters
from dashboards.data.state import Nothing, unfinished
from rlhf_eval import __version__
from rlhf_eval.audit import card as cards
from rlhf_eval.audit.shelf import card_of
from rlhf_eval.benchmarks.boards import Board, boards
from rlhf_eval.benchmarks.grades import GradeBoard, grade_boards
from rlhf_eval.benchmarks.standings import Standing
from rlhf_eval.errors import UserError
from rlhf_eval.figures import Curve, Row, curves, dots
from rlhf_eval.records import Estimate
from rlhf_eval.store.runs import Store

MOST_BOARDS, MOST_EXAMPLES, LONGEST = 12, 5, 1_500
"""Boards that are drawn, examples for each, and characters of an answer that are shown."""

STYLE = """
:root {color-scheme: light dark; --ink: #22201d; --dim: #5c5852; --paper: #fff; --line: #d8d4cd;}
@media screen and (prefers-color-scheme: dark) {
  :root {--ink: #edebe8; --dim: #b3aea6; --paper: #171614; --line: #45413a;}}
body {font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; font-variant-numeric: tabular-nums;}
h1, h2, h3 {line-height: 1.25; overflow-wrap: anywhere;} h2 {margin-top: 2.5rem;} .dim {color: var(--dim);}
table {border-collapse: collapse; width: 100%; font-size: .9rem;}
th, td {text-align: left; padding: .3rem .5rem; border-bottom: 1px solid var(--line); vertical-align: top;}
td.num, th.num {text-align: right; white-space: nowrap;} tr.few td {color: var(--dim);}
pre {white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .8rem; margin: .3rem 0; font: inherit; unicode-bidi: isolate;}
summary {cursor: pointer; padding: .15rem 0;} code {font-family: ui-monospace, monospace;}
.pair {display: grid; grid-template-columns: 1fr 1fr; gap: 1rem;} .scroll {overflow-x: auto;}
svg {width: 100%; max-width: 52rem; height: auto; display: block;}
@media (max-width: 44rem) {.pair {grid-template-columns: 1fr;} td:last-child:not(.num) {min-width: 9rem;}}
@media print {
  :root {color-scheme: light;} details::details-content {content-visibility: visible;}
  body {font-size: 10pt; max-width: none; margin: 0;} table {font-size: 8pt;} h2 {break-after: avoid;}
  svg, tr, .pair {break-inside: avoid;}}
"""

LEGEND = "Circles: first, or not known to be behind it. Diamonds: surely behind the first."

METHOD = """
<p>The unit is the prompt. A model's score on a prompt is its mean share of the verdicts there, over both orders and all
repeats; a tie is one half. Intervals are Wilson's at 95 %, with an effective n from the prompt-clustered standard error and
a t quantile. Models are held against the first by the paired difference over shared prompts, and their p-values are
corrected for their number by Holm's method; overlap of intervals is not used. Judgments that failed or could not be read
are counted beside each number and never scored.</p>
<p>A study's unit is the seed: a t interval over seeds, and differences from the control paired by seed.</p>
<p>A judge's card says how often gold labels or people agree with it, how often its verdict changes with the order of the
answers, and what else moves it. A win rate by a judge that was never measured is that judge's opinion.</p>
"""


def main(store: Store, *, judge: str = "", baseline: str = "", run: str = "") -> str:
    """The report as HTML; raises UserError where there is nothing to report.

    Studies are told where no board was asked for by name.
    """
    told = [] if judge or baseline or run else _studies(store)
    graded = [] if baseline else _graded(store, judge=judge, run=run)
    try:
        found = results.met(store, run=run)
    except Nothing:
        if not told and not graded:
            raise
        found = ()
    made = _compared(found, judge=judge, baseline=baseline, optional=bool(graded)) if found else []
    flags = [f"--{name} {value}" for name, value in (("judge", judge), ("baseline", baseline), ("run", run)) if value]
    body = [
        f"<h1>Results of {_safe(store.path.resolve().name)}</h1>",
        f'<p class="dim">rlhf-eval {__version__} · {_safe(_newest(store))}</p>',
        *_unfinished(store),
        *(_board(store, found, board, run) for board in made[:MOST_BOARDS]),
        *_left_out(made),
        *map(_grades, graded),
        *told,
        *(["<h2>Judges</h2>"] if made or graded else []),
        *(_judge(store, name) for name in dict.fromkeys([*(b.judge for b in made), *(b.judge for b in graded)])),
        "<h2>Method</h2>",
        METHOD,
        f"<p>The same tables: <code>{_safe(' '.join(['rlhf-eval leaderboard', *flags]))}</code></p>",
        *_problems(store),
    ]
    title = f"rlhf-eval: {_safe(store.path.resolve().name)}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = (), few: Sequence[int] = ()
) -> str:
    """A table with every cell escaped; ``right`` are columns of numbers, ``few`` rows to be read with doubt."""

    def cells(row: Sequence[str], tag: str) -> str:
        kinds = [' class="num"' if n in right else "" for n in range(len(row))]
        return "".join(f"<{tag}{kind}>{_safe(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    body = [f"<tr{' class=few' if n in few else ''}>{cells(row, 'td')}</tr>" for n, row in enumerate(rows)]
    return f'<div class="scroll"><table><thead><tr>{cells(head, "th")}</tr></thead>{"".join(body)}</table></div>'


def _board(store: Store, found: Sequence[Standing], board: Board, run: str) -> str:
    head = ("model", "win rate", "95 % interval", "n", "won / tied / lost", "failed", "behind first", "p (Holm)", "")
    rows, drawn = [], []
    for place, (row, behind) in enumerate(zip(board.rows, board.behind, strict=True)):
        about, gap = row.settings, behind.gap
        value, _, interval = words.rate(row).partition(" [")
        note = words.doubt(row.n) or (behind.note if place else "")
        rows.append(
            [
                str(about["model"]), value, interval.rstrip("]").replace(", ", " to "), f"{row.n:,}",
                f"{about['wins']} / {about['ties']} / {about['losses']}", f"{row.failed + about['unreadable']}",
                f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]" if gap else "-",
                _p(behind.p_holm), note,
            ]
        )  # fmt: skip
        drawn.append(
            Row(
                name=words.name(str(about["model"])), value=row.value, low=row.low, high=row.high,
                words=f"{value}, n = {row.n:,}", second=behind.separable,
            )
        )  # fmt: skip
    few = [n for n, row in enumerate(board.rows) if words.doubt(row.n)]
    against = f"win rate against {words.name(board.baseline)}"
    drawing = dots(f"{against}, with 95 % intervals", drawn, reference=0.5, percent=True)
    luck = f" By luck alone the best of {len(rows)} equal models would seem {100 * board.luck:.1f} points ahead."
    luck = luck if len(rows) > 1 else ""
    return "".join(
        [
            f"<h2>Win rate against {_safe(board.baseline)}</h2><p>judge {_safe(board.judge)}</p>",
            drawing,
            f'<p class="dim">{LEGEND}{luck}</p>',
            table(head, rows, right=(1, 2, 3, 5, 6, 7), few=few),
            *_examples(store, found, board, run),
        ]
    )


def _examples(store: Store, found: Sequence[Standing], board: Board, run: str) -> list[str]:
    """What the first model lost, and where the order of the answers decided."""
    pairs = examples.pairs(store, board.judge, run=run)
    first = str(board.rows[0].settings["model"])
    made = []
    outcomes: Mapping[examples.Outcome, str] = {"lost": "lost by", "flipped": "decided by the order, of"}
    for outcome, said in outcomes.items():
        kept = examples.select(pairs, Filters(model=first, opponent=board.baseline, outcome=outcome))
        if len(kept):
            shown = "all" if len(kept) <= MOST_EXAMPLES else f"{MOST_EXAMPLES} shown"
            made.append(f"<h3>{len(kept):,} comparisons {said} {_safe(first)} ({shown})</h3>")
            made += [_example(store, pairs, int(row), first) for row in kept[:MOST_EXAMPLES]]
    return made


def _example(store: Store, pairs: examples.Pairs, row: int, model: str) -> str:
    one: Example = examples.example(store, *pairs.ids(row), judge=pairs.judge, model=model)
    vote = next((vote for vote in examples.votes(one) if vote.judge == pairs.judge), None)
    shares = zip(("share of the first", "shown first", "shown second"), vote.shares if vote else (), strict=False)
    said_so = ", ".join(f"{name} {value:.2f}" for name, value in shares if value is not None)
    question = one.prompt.text if one.prompt else "(the prompt is not in the store)"
    said = next((v.rationale for v in one.verdicts if v.judge == pairs.judge and v.rationale), "")
    reason = f'<p class="dim">The judge:</p><pre dir="auto">{_cut(said)}</pre>' if said else ""
    head = f'{_safe(words.short(question, 110))} <span class="dim">{said_so}</span>'
    sides = [f'<div><b>{_safe(c.model)}</b><pre dir="auto">{_cut(c.text)}</pre></div>' for c in (one.left, one.right)]
    return (
        f'<details><summary>{head}</summary><pre dir="auto">{_cut(question)}</pre>'
        f'<div class="pair">{"".join(sides)}</div>{reason}</details>'
    )


def _judge(store: Store, judge: str) -> str:
    head = f"<h3>{_safe(judge)}</h3><p>{_safe(results.badge(store, judge))}</p>"
    card = card_of(store, judge)
    if card is None:
        return head
    rows = [cards.row(finding) for finding in card.measured]
    return head + table(("measure", "value", "95 % interval", "n", "what it is"), rows, right=(1, 2, 3))


def _studies(store: Store) -> list[str]:
    """Every study's arms beside its control."""
    parts = []
    with suppress(Nothing):
        for row in studies.studies(store)[:MOST_BOARDS]:
            found = studies.found(store, row.run)
            form = "quick form, " if row.quick else ""
            parts.append(f'<h2>Study: {_safe(row.title)}</h2><p class="dim">{form}{row.seeds:,} seeds</p>')
            head = ("arm", "value", f"minus {found.control}", "seeds", "without a number")
            for measure, arms in found.measures.items():
                rows = [
                    [arm.name, words.number(arm.mean), words.difference(arm.gap) if arm.gap else "", f"{arm.mean.n:,}",
                     f"{arm.mean.failed:,}"]
                    for arm in arms
                ]  # fmt: skip
                parts += [f"<p><b>{_safe(measure)}</b></p>", table(head, rows, right=(1, 2, 3, 4))]
            parts += [_curves(name, found.points) for name in dict.fromkeys(e.name for e in found.points)]
    return parts


def _curves(name: str, points: Sequence[Estimate]) -> str:
    """One family of a study's curves, an arm each."""
    own = [e for e in points if e.name == name]
    series = [
        Curve(
            name=words.name(arm),
            x=[float(e.settings["x"]) for e in arms],
            y=[e.value for e in arms],
            low=[e.low if math.isfinite(e.low) else e.value for e in arms],
            high=[e.high if math.isfinite(e.high) else e.value for e in arms],
        )
        for arm in dict.fromkeys(str(e.settings["arm"]) for e in own)
        if (arms := [e for e in own if e.settings["arm"] == arm])
    ]
    return curves(words.name(name), series, x="square root of KL, in nats", y="")


def _newest(store: Store) -> str:
    known = store.runs()
    return f"{len(known)} runs, the newest {known[-1].id} of {known[-1].updated}" if known else "no runs"


def _unfinished(store: Store) -> list[str]:
    return [
        f"<p><b>Partial:</b> run {_safe(u.run.id)} is {_safe(u.run.status)}, {u.done:,} of {u.total:,} {u.unit}.</p>"
        for u in unfinished(store)
    ]


def _graded(store: Store, *, judge: str, run: str) -> list[GradeBoard]:
    """The boards of judges that graded several models, or that were asked for by name."""
    try:
        found = results.graded_answers(store, run=run)
        made = grade_boards(found, judge=judge)
    except UserError:
        return []
    return [board for board in made if len(board.rows) > 1 or judge]


def _compared(found: Sequence[Standing], *, judge: str, baseline: str, optional: bool) -> list[Board]:
    """The boards of win rates; none where the judge that was asked for only grades."""
    try:
        return boards(found, judge=judge, baseline=baseline)
    except UserError:
        if optional:
            return []
        raise


def _grades(board: GradeBoard) -> str:
    head = ("model", "mean grade", "95 % interval", "n", "grades", "failed", "behind first", "p (Holm)", "")
    form = f".{board.digits}f"
    rows, drawn = [], []
    for place, (row, behind) in enumerate(zip(board.rows, board.behind, strict=True)):
        gap, name = behind.gap, str(row.settings["model"])
        bounds = f"{row.low:{form}} to {row.high:{form}}" if math.isfinite(row.low) else "one question: none"
        note = words.doubt(row.n, unit="questions")
        rows.append(
            [
                name, f"{row.value:{form}}", bounds, f"{row.n:,}", f"{row.settings['grades']:,}",
                f"{row.failed + row.settings['unreadable']}",
                f"{gap.value:+{form}} [{gap.low:+{form}}, {gap.high:+{form}}]" if gap else "-",
                _p(behind.p_holm),
                note or (behind.note if place else ""),
            ]
        )  # fmt: skip
        told = f"{row.value:{form}}, n = {row.n:,}"
        drawn.append(Row(words.name(name), row.value, row.low, row.high, words=told, second=behind.separable))
    few = [n for n, row in enumerate(board.rows) if words.doubt(row.n)]
    return "".join(
        [
            f"<h2>Mean grade by {_safe(board.judge)}</h2>",
            dots("mean grade, with 95 % intervals", drawn),
            f'<p class="dim">{LEGEND}</p>',
            table(head, rows, right=(1, 2, 3, 4, 5, 6, 7), few=few),
        ]
    )


def _p(value: float | None) -> str:
    return "-" if value is None else words.p_value(value).removeprefix("p ").removeprefix("= ")


def _left_out(made: Sequence[Board]) -> list[str]:
    if len(made) <= MOST_BOARDS:
        return []
    names = "; ".join(f"{board.judge} against {board.baseline}" for board in made[MOST_BOARDS:])
    return [f"<p>Not drawn, for their number: {_safe(names)}. Name one with --judge or --baseline.</p>"]


def _problems(store: Store) -> list[str]:
    if not store.problems:
        return []
    items = "".join(f"<li>{_safe(problem)}</li>" for problem in store.problems)
    return [f"<h2>Could not be read, and is left out</h2><ul>{items}</ul>"]


def _safe(text: str) -> str:
    return html.escape(words.safe(text))


def _cut(text: str) -> str:
    return html.escape(words.safe(text, longest=LONGEST))
