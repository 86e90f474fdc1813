"""What the user sees of an audit: the judge card, or what a new judge would do to the leaderboard."""

from __future__ import annotations

import msgspec

from rlhf_eval.audit.compare import JudgeComparison
from rlhf_eval.audit.shelf import CARD_MARKDOWN
from rlhf_eval.cli import show
from rlhf_eval.cli.words import emit
from rlhf_eval.records import Estimate
from rlhf_eval.verbs.audit import AuditResult, render
from rlhf_eval.verbs.session import Session


def audit(result: AuditResult, session: Session, *, as_json: bool) -> None:
    """The judge card, and where it lies."""
    if session.options.dry_run and not as_json:
        print("\naudit, dry run: nothing was asked and nothing was stored")
        print(show.forecast(session))
        return
    if session.options.dry_run:
        emit(show.rehearsed("audit", "audit", session))
        return
    if as_json:
        emit({"event": "judge_card", "run": result.run.id, "card": msgspec.to_builtins(result.card)})
        return
    print(f"\n{render(result.card)}\n")
    print(f"  results: {session.store.folder(result.run.id) / CARD_MARKDOWN}")
    print("  next:    rlhf-eval audit --compare OLD NEW, where two judges have judged the same answers")


def comparison(found: JudgeComparison, *, as_json: bool) -> None:
    """What replacing a judge does."""
    if as_json:
        emit({"event": "judge_comparison", **msgspec.to_builtins(found), "changes": found.changes})
        return
    print(f"\nold: {found.old}\nnew: {found.new}")
    print(f"  {_share(found.flips)} of {found.flips.settings['pairs']:,} pairs of answers get another winner", end="")
    print(f" (n = {found.flips.n:,} prompts); one of the two calls {_share(found.one_tie)} a tie")
    if found.tau is not None:
        print(f"  Kendall's tau of the rankings: {found.tau.value:.3f}  [{found.tau.low:.3f}, {found.tau.high:.3f}]")
    rows = [[e[0].settings["model"], _share(e[0]), _share(e[1]), _points(e[2]), str(e[0].n)] for e in found.scores]
    print(show.table(["model", "share, old", "share, new", "change", "n"], rows))
    for turn in found.turned:
        words = "surely" if turn.surely else "perhaps, not separable by both"
        print(
            f"  {turn.ahead} falls behind {turn.behind} ({words}): {_points(turn.old)} before, {_points(turn.new)} after"
        )
    sure = sum(turn.surely for turn in found.turned)
    print(f"\n  {len(found.turned)} of {found.pairs_of_models} pairs of models change places, {sure} of them surely")


def _share(e: Estimate) -> str:
    return f"{100 * e.value:.1f} % [{100 * e.low:.1f}, {100 * e.high:.1f}]"


def _points(e: Estimate) -> str:
    return f"{100 * e.value:+.1f} points [{100 * e.low:+.1f}, {100 * e.high:+.1f}]"
