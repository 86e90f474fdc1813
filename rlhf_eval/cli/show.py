"""What the user sees: plain tables on standard output, or JSON lines for programs.

Every finished command prints its result, where it lies, and the next command to type.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import to_builtins

from rlhf_eval.audit import card as judge_card
from rlhf_eval.audit.shelf import CARD_MARKDOWN
from rlhf_eval.benchmarks.duels import Duel
from rlhf_eval.cli.words import emit
from rlhf_eval.records import Estimate, Run, to_row
from rlhf_eval.stages.drive import Tally
from rlhf_eval.stages.spending import how_far, spending
from rlhf_eval.store.cache import CacheStats
from rlhf_eval.store.runs import Store
from rlhf_eval.verbs.audit import AuditResult, stamp
from rlhf_eval.verbs.doctor import Check
from rlhf_eval.verbs.evaluate import EvaluateResult
from rlhf_eval.verbs.flow import FlowResult
from rlhf_eval.verbs.forecast import forecasts
from rlhf_eval.verbs.leaderboard import Board, GradeBoard
from rlhf_eval.verbs.load import LoadResult
from rlhf_eval.verbs.pairs import PairsResult
from rlhf_eval.verbs.recipe import Step
from rlhf_eval.verbs.session import Session

RATES = ("win_rate", "flip_rate", "first_slot_share")
KINDS = {"pairs": "pairs", "demonstrations": "answers kept", "labelled": "labelled answers"}
"""What a selection makes, as its run counts it and as a reader calls it."""
FEW = 30
"""Prompts below which a number is shown with a warning."""
SMALLEST_P = 1e-12
"""P-values below are no more than a normal tail far from anything that was seen."""


def step(step: Step, session: Session, *, as_json: bool) -> None:
    """One finished verb."""
    result = step.result
    if as_json:
        dry = session.options.dry_run and isinstance(result, FlowResult | EvaluateResult)
        emit(rehearsed(step.verb, step.name, session) if dry else _step_json(step, session))
        return
    run = result.run
    if session.options.dry_run and isinstance(result, FlowResult | EvaluateResult):
        print(f"\n{step.name}, dry run: nothing was asked and nothing was stored")
        print(forecast(session))
        return
    print(f"\n{step.name}: {_headline(result, session)}")
    _details(result, session)
    problems(session.store)
    print(f"  results: {session.store.folder(run.id)}")
    print(f"  next:    {_next(step, session)}")


def _details(result: Any, session: Session) -> None:
    """What a verb's result holds beside its account: numbers, reasons, warnings, files."""
    if isinstance(result, EvaluateResult):
        print(estimates(result.estimates))
        judges = dict.fromkeys(str(e.settings["judge"]) for e in result.estimates if "judge" in e.settings)
        rated = {str(e.settings["judge"]) for e in result.estimates if e.name in RATES}
        for judge in judges:
            print(f"  {judge}: {stamp(session, judge)}" if judge in rated else f"  judge: {judge}")
        for words in dict.fromkeys(str(e.settings["caveat"]) for e in result.estimates if "caveat" in e.settings):
            print(f"  caveat: {words}")
    if isinstance(result, LoadResult):
        for warning in result.warnings:
            print(f"  warning: {warning}", file=sys.stderr)
    if isinstance(result, FlowResult | PairsResult):
        for reason, count in result.tally.reasons.most_common(5):
            print(f"  {count} {reason}")
    if isinstance(result, AuditResult | PairsResult):
        print(f"  card:    {session.store.folder(result.run.id) / CARD_MARKDOWN}")
    if isinstance(result, PairsResult):
        _set_details(result, session)


def _set_details(result: PairsResult, session: Session) -> None:
    """The warnings of a set's card, what is known of its judges, and the files."""
    for words in result.card.warnings:
        print(f"  ! {words}")
    for judge in result.card.about.get("judges", ()):
        print(f"  {judge}: {stamp(session, judge)}")
    for page in result.written:
        print(f"  written: {page}")


def after_boards(found: Sequence[Board | GradeBoard], session: Session) -> None:
    """Below the boards: what is known of their judges, and the next command."""
    for judge in dict.fromkeys(board.judge for board in found):
        print(f"  {judge}: {stamp(session, judge)}")
    best = found[0].rows
    if len(best) > 1 and isinstance(found[0], Board):
        names = [str(row.settings["model"]) for row in best[:2]]
        print(f"\n  next:    rlhf-eval compare {shlex.join(names)}{session.options.store_flag}")


def comparisons(found: Sequence[Duel], session: Session, *, as_json: bool) -> None:
    """Paired comparisons, one a judge."""
    for c in found:
        e = c.estimate
        if as_json:
            names = ("better", "worse", "equal", "p_value", "needed", "quadrants", "flipped", "category", "tokens")
            extra = {name: getattr(c, name) for name in names}
            emit({"event": "comparison", **to_row(e), **extra})
            continue
        a, b = e.settings["model"], e.settings["baseline"]
        verdict = f"{a} is better" if e.low > 0 else f"{b} is better" if e.high < 0 else "not separable"
        print(f"\n{a} minus {b}, {c.via}{', ' + c.category if c.category else ''}, judge {c.judge}")
        p = f"p = {c.p_value:.3g}" if c.p_value >= SMALLEST_P else f"p < {SMALLEST_P:g}"
        print(f"  {100 * e.value:+.1f} points  95 % {100 * e.low:+.1f} to {100 * e.high:+.1f}  {p}  n = {e.n}")
        print(f"  better on {c.better} prompts, worse on {c.worse}, equal on {c.equal}: {verdict}")
        both, only_a, only_b, neither = c.quadrants
        print(f"  both won {both}, only {a} {only_a}, only {b} {only_b}, neither {neither}")
        mine, theirs = c.tokens
        if mine is not None and theirs is not None:
            print(f"  tokens an answer: {mine:.0f} of {a}, {theirs:.0f} of {b} ({mine / theirs:.2f} times as many)")
        if c.flipped:
            print(f"  lost by {a} and won by {b}: {', '.join(c.flipped[:3])}{', ...' if len(c.flipped) > 3 else ''}")
        if verdict == "not separable" and c.needed:
            print(f"  a difference of this size needs about {c.needed:,} prompts to show (80 % power)")
    if not as_json:
        print(f"\n  next:    rlhf-eval leaderboard{session.options.store_flag}")


def runs(found: Sequence[Run], store: Store, *, as_json: bool) -> None:
    """The runs of the store."""
    if as_json:
        for run_ in found:
            emit({"event": "run", **to_row(run_)})
        return
    rows = [[r.id, r.status, _counts(r), f"${r.usage.cost:.4f}" if r.usage.cost else "", r.message[:60]] for r in found]
    print(table(["run", "status", "counts", "cost", "message"], rows) if rows else f"{store.path} holds no runs yet")
    problems(store)


def run(found: Run, store: Store, *, as_json: bool) -> None:
    """One run, whole."""
    if as_json:
        emit({"event": "run", **to_row(found)})
        return
    from rlhf_eval.config import write_yaml

    print(write_yaml(to_row(found)).rstrip())
    _against_forecast(found)
    shown = store.read(Estimate, run=found.id)
    if shown:
        print(estimates(shown))
    print(f"  results: {store.folder(found.id)}")


def status(found: Run, *, as_json: bool) -> None:
    """How far a run is: its last heartbeat."""
    if as_json:
        emit({"event": "status", **to_row(found)})
        return
    done, total, unit = how_far(found)
    share = f"{done:,} of {total:,} {unit}" if total else _counts(found) or "nothing counted yet"
    tokens = found.usage.prompt_tokens + found.usage.completion_tokens
    print(f"{found.id}  {found.status}: {share}, {found.counts.get('failed', 0)} failed")
    print(f"  {tokens:,} tokens, ${found.usage.cost:.4f}; last heard of {found.updated}")
    _against_forecast(found)
    if found.message:
        print(f"  {found.message}")
    command = found.versions.get("command", "").replace(" --fresh", "")
    if command and found.status in ("failed", "interrupted", "stopped"):
        print(f"  resume: {command}")


def _against_forecast(found: Run) -> None:
    lines = spending(found)
    if lines:
        print(f"  forecast: {'; '.join(lines)}")


def cache(stats: CacheStats, session: Session, *, as_json: bool) -> None:
    """What the response cache holds."""
    if as_json:
        emit({"event": "cache", **to_row(stats)})
        return
    print(f"  {stats.entries:,} replies, {stats.bytes:,} bytes")
    if stats.oldest is not None and stats.newest is not None:
        oldest, newest = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}" for at in (stats.oldest, stats.newest))
        print(f"  made from {oldest} to {newest} UTC")
    print(f"  file: {session.store.cache_path}")


def checks(found: Sequence[Check], *, as_json: bool) -> None:
    """What the doctor saw."""
    marks = {True: "ok", False: "BAD", None: "-"}
    for check in found:
        if as_json:
            emit({"event": "check", "name": check.name, "good": check.good, "words": check.words})
        else:
            print(f"{marks[check.good]:>4}  {check.name}: {check.words}")


def problems(store: Store) -> None:
    """What of the store could not be read, and is therefore missing from what was shown."""
    for problem in store.problems:
        print(f"  warning: {problem}", file=sys.stderr)


def estimates(found: Sequence[Estimate]) -> str:
    """Estimates as a table: value, interval, n, failures; whose they are where several models or judges have one."""
    plain = [e for e in found if not e.name.startswith(f"{e.settings.get('judge')}:")]  # the others name theirs
    whose = [name for name in ("model", "judge") if len({e.settings[name] for e in plain if name in e.settings}) > 1]
    rows = [
        [
            f"  {_label(e)}{_owner(e, whose)}",
            _percent(e) if e.name in RATES else f"{e.value:+.3f}  [{e.low:+.3f}, {e.high:+.3f}]",
            f"n={e.n}",
            _lost(e),
            "few prompts" if e.n < FEW else str(e.settings.get("note", "")),
        ]
        for e in found
    ]
    return table([], rows)


def forecast(session: Session) -> str:
    """What a dry run has counted, a line a model."""
    rows = []
    for f in forecasts(session):
        low, expected, high = f.completion_tokens
        rows.append(
            [
                f"  {f.name}",
                f"{f.requests:,}",
                f"{f.samples:,}",
                f"{f.cached:,}",
                f"{'' if f.exact else '~'}{f.prompt_tokens:,}",
                f"{expected:,} ({low:,} to {high:,})",
                f"${f.cost[1]:.4f} ({f.cost[0]:.4f} to {f.cost[2]:.4f})" if f.cost else "no price known",
                f"{f.seconds:,.0f} s" if f.seconds is not None else "unknown",
                f"{f.pilot:,} replies" if f.pilot else "none: --pilot 20",
            ]
        )
    head = ["  model", "requests", "samples", "cached", "tokens in", "tokens out", "dollars", "time", "learned from"]
    return table(head, rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell."""
    everything = [*([header] if header else []), *rows]
    widths = [max(len(row[i]) for row in everything) for i in range(len(everything[0]))] if everything else []
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in everything
    ]
    if header:
        lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _headline(result: Any, session: Session) -> str:
    if isinstance(result, LoadResult):
        again = " (already loaded)" if result.resumed else ""
        return ", ".join(f"{n:,} {name}" for name, n in result.run.counts.items()) + again
    if isinstance(result, PairsResult):
        again = " (already made)" if result.resumed else ""
        made = {kind: n for kind in KINDS if (n := result.run.counts.get(kind))} or {"pairs": 0}
        words = ", ".join(f"{count:,} {KINDS[kind]}" for kind, count in made.items())
        return f"{words} from {result.tally.total:,} prompts{again}"
    if isinstance(result, AuditResult):
        return judge_card.headline(result.card)
    flow = result.flow if isinstance(result, EvaluateResult) else result
    return _account(flow.tally) + _resumed(flow) + _spent(flow.run, session)


def _account(tally: Tally) -> str:
    parts = [f"{tally.status[name]:,} {name}" for name in ("done", "failed", "skipped") if tally.status[name]]
    return f"{tally.total:,} prompts: {', '.join(parts) or 'nothing to do'}"


def _resumed(flow: FlowResult) -> str:
    if flow.resumed == flow.tally.total:
        return " (finished earlier; --fresh does it again)"
    return f" (resumed: {flow.resumed:,} were finished earlier)" if flow.resumed else ""


def _spent(run_: Run, session: Session) -> str:
    cached = sum(door.traffic.cached for door in session.doors.values())
    tokens = run_.usage.prompt_tokens + run_.usage.completion_tokens
    return f"; {tokens:,} tokens, ${run_.usage.cost:.4f}" + (f", {cached:,} replies from the cache" if cached else "")


def _next(step: Step, session: Session) -> str:
    store, run_id = session.options.store_flag, step.result.run.id[-8:]
    commands = {
        "load": f"rlhf-eval generate --prompts {run_id} --model SPEC{store}",
        "generate": f"rlhf-eval judge --completions {run_id} --judge-model SPEC{store}",
        "judge": f"rlhf-eval pairs --judgments {run_id}{store}",
        "audit": f"rlhf-eval pairs{store}",
        "pairs": f"rlhf-eval evaluate winrate --model best=run:{run_id} --baseline SPEC --judge-model SPEC{store}",
        "evaluate": f"rlhf-eval leaderboard{store}",
    }
    if step.verb == "load" and "judgments" in step.result.run.counts:
        return f"rlhf-eval leaderboard{store}"
    return commands[step.verb]


def _step_json(step: Step, session: Session) -> dict[str, Any]:
    result = step.result
    fields: dict[str, Any] = {
        "event": "done",
        "verb": step.verb,
        "step": step.name,
        "run": result.run.id,
        "folder": str(session.store.folder(result.run.id)),
        "counts": dict(result.run.counts),
        "usage": to_row(result.run.usage),
    }
    if isinstance(result, EvaluateResult):
        fields["estimates"] = [to_row(e) for e in result.estimates]
    if isinstance(result, LoadResult):
        fields["warnings"] = list(result.warnings)
    if isinstance(result, AuditResult):
        fields["card"] = to_builtins(result.card)
    if isinstance(result, PairsResult):
        fields["warnings"] = list(result.card.warnings)
        fields["written"] = [str(page) for page in result.written]
    return fields


def rehearsed(verb: str, name: str, session: Session) -> dict[str, Any]:
    """A dry run as an event: what each model would be asked."""
    return {"event": "dry_run", "verb": verb, "step": name, "models": [to_row(f) for f in forecasts(session)]}


def _label(e: Estimate) -> str:
    names = {
        "win_rate": f"win rate of {e.settings.get('model')} against {e.settings.get('baseline')}",
        "flip_rate": "verdicts that flip when the order is swapped",
        "first_slot_share": "share of the answer shown first",
    }
    return names.get(e.name, e.name)


def _owner(e: Estimate, whose: Sequence[str]) -> str:
    """The model and judge that an estimate is of, unless its name says so."""
    names = [str(e.settings[name]) for name in whose if name in e.settings]
    return "".join(f", {name}" for name in names if name not in _label(e))


def _lost(e: Estimate) -> str:
    unreadable = e.settings.get("unreadable", 0)
    return f"{e.failed} failed, {unreadable} unreadable" if e.name in RATES or e.failed or unreadable else ""


def _percent(e: Estimate) -> str:
    return f"{100 * e.value:5.1f} %  [{100 * e.low:.1f}, {100 * e.high:.1f}]"


def _counts(run_: Run) -> str:
    return " ".join(f"{name}={count:,}" for name, count in run_.counts.items())
