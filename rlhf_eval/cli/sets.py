"""What the commands about training sets do: lint, corrupt, verify, route, and ``pairs --compare``."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_eval.cli import show_sets
from rlhf_eval.config import apply_sets
from rlhf_eval.errors import UserError
from rlhf_eval.verbs.corrupt import plant
from rlhf_eval.verbs.lint import lint as look
from rlhf_eval.verbs.pairs import compare_rules
from rlhf_eval.verbs.route import route as draw
from rlhf_eval.verbs.session import Options, Session
from rlhf_eval.verbs.verify import verify as make_again


def lint(options: argparse.Namespace) -> int:
    """The data card of a preference file."""
    table = _given(options, "file", "against", "policy", "out", "suspects", "strict")
    show_sets.lint(look(_session(options), table), options.file, as_json=options.json)
    return 0


def corrupt(options: argparse.Namespace) -> int:
    """Plant wrong labels."""
    table = {**_given(options, "data", "judge", "out", "format"), "corruption": _given(options, "kind", "rate")}
    session = _session(options)
    result = asyncio.run(plant(session, apply_sets(table, options.set)))
    show_sets.corrupt(result, session, as_json=options.json)
    return 0


def verify(options: argparse.Namespace) -> int:
    """Make the labels of a set again."""
    table = {"set": options.which, **_given(options, "strict")}
    if options.judge_model:
        table["judge"] = {"judge_model": options.judge_model}
    session = _session(options)

    async def work() -> None:
        try:
            found = await make_again(session, apply_sets(table, options.set))
            show_sets.verify(found, session, as_json=options.json)
        finally:
            await session.close()

    asyncio.run(work())
    return 0


def route(options: argparse.Namespace) -> int:
    """Draw comparisons for people."""
    table = _given(options, "judgments", "n", "uniform", "labels", "out")
    session = _session(options)
    show_sets.route(draw(session, table), session, as_json=options.json)
    return 0


def compare(session: Session, table: Mapping[str, Any], rules: list[str], *, as_json: bool) -> None:
    """Several rules on the same judgments."""
    if len(rules) < 2:
        raise UserError("pairs --compare needs two rules or more: --compare best_worst all_pairs")
    if table.get("out"):
        raise UserError("pairs --compare writes no set; leave out --out, and name the rule that you choose with --rule")
    rows = compare_rules(session, {k: v for k, v in table.items() if k != "rule"}, rules)
    show_sets.ablation(rows, str(table.get("judgments", "latest")), session, as_json=as_json)


def _session(options: argparse.Namespace) -> Session:
    limit = getattr(options, "limit", None)
    return Session(Options(store=Path(options.store), seed=getattr(options, "seed", 0), limit=limit, quiet=True))


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The settings that were typed."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}
