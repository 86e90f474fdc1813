"""``evaluate`` with a suite file, or with several judges: what was typed becomes a suite, its table is printed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_eval.cli import show
from rlhf_eval.cli.words import emit
from rlhf_eval.errors import UserError
from rlhf_eval.records import to_row
from rlhf_eval.verbs.session import Session
from rlhf_eval.verbs.suite import SUFFIXES, Line, Suite, SuiteResult, each_judge, read_suite, run_suite, with_flags

OF_ONE = (
    "prompts", "baseline", "check", "judgments", "labels", "human", "stop_when", "temperature", "judge_model", "orders",
    "config",
)  # fmt: skip
"""Flags that say something about one benchmark, which a suite file says for each."""


def wanted(options: argparse.Namespace, table: Mapping[str, Any]) -> Suite | None:
    """The suite that was asked for; None where one benchmark and one judge were.

    Raises UserError on flags that do not fit.
    """
    judges: Sequence[str] = options.judge or ()
    file = Path(str(options.benchmark or ""))
    if file.suffix in SUFFIXES:
        stray = [f"--{name.replace('_', '-')}" for name in OF_ONE if getattr(options, name)]
        if stray or options.set:
            raise UserError(f"{file}: {', '.join(stray or ['--set'])} belongs into the file, beside its benchmark")
        return with_flags(read_suite(file), models=options.model or (), judges=judges)
    if len(judges) < 2 and "=" not in "".join(judges):
        return None
    if options.judge_model:
        raise UserError("with several judges each names its own model: --judge PLUGIN=SPEC --judge PLUGIN=SPEC")
    return each_judge(table, judges)


async def run(session: Session, suite: Suite, *, as_json: bool) -> None:
    """Run a suite and print its table."""
    result = await run_suite(session, suite)
    if session.options.dry_run and as_json:
        emit(show.rehearsed("suite", "suite", session))
    elif session.options.dry_run:
        print(f"\nsuite of {result.planned} runs, dry run: nothing was asked and nothing was stored")
        print(show.forecast(session))
    elif result.run is not None:
        _show(session, result, result.run.id, as_json=as_json)
        show.problems(session.store)
    if result.trouble is not None:
        raise result.trouble


def _show(session: Session, result: SuiteResult, run: str, *, as_json: bool) -> None:
    if as_json:
        for line in result.lines:
            about = {"benchmark": line.benchmark, "seeds": line.seeds, "headline": line.headline, "p_holm": line.p_holm}
            gap = to_row(line.gap) if line.gap else None
            emit({"event": "estimate", **to_row(line.estimate), **about, "gap": gap})
        ended = {"verb": "suite", "run": run, "runs": len(result.cells), "planned": result.planned}
        emit({"event": "done" if result.trouble is None else "partial", **ended})
        return
    print(_table(result))
    print(f"  results: {session.store.folder(run)}")
    print(f"  next:    rlhf-eval runs show {run[-8:]}, for every number and its manifest")


def _table(result: SuiteResult) -> str:
    rows = [_row(line) for line in result.lines if line.headline]
    done = sum(cell.result.flow.tally.status["done"] for cell in result.cells)
    total = sum(cell.result.flow.tally.total for cell in result.cells)
    head = ["  benchmark", "of", "number", "value", "95 % interval", "n", "failed", "seeds", "behind the best"]
    ties = sum(line.headline and line.p_holm is not None and line.p_holm > 0.05 for line in result.lines)
    note = f"\n  = {ties} cannot be told from the best (paired by item, Holm)" if ties else ""
    part = "" if result.trouble is None else f"a part: {len(result.cells)} of "
    title = f"\nsuite: {part}{result.planned} runs, {done:,} of {total:,} prompts done"
    return f"{title}\n{show.table(head, rows)}{note}"


def _row(line: Line) -> list[str]:
    made, gap = line.estimate, line.gap
    tied = "= " if line.p_holm is not None and line.p_holm > 0.05 else "  "
    return [
        f"  {line.benchmark}",
        tied + str(made.settings.get("model") or made.settings.get("judge") or ""),
        made.name,
        f"{made.value:.3f}",
        f"[{made.low:.3f}, {made.high:.3f}]",
        f"{made.n:,}",
        f"{made.failed + int(made.settings.get('unreadable', 0))}",
        str(line.seeds),
        f"{100 * gap.value:.1f} points [{100 * gap.low:.1f}, {100 * gap.high:.1f}], p {line.p_holm:.2g}" if gap else "",
    ]
