"""What each command does: flags become a verb's table, the verb runs, its result is shown."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_eval import registry
from rlhf_eval.cli import show
from rlhf_eval.config import apply_sets, read_yaml
from rlhf_eval.errors import GateFailed, UserError
from rlhf_eval.store.cache import ResponseCache
from rlhf_eval.verbs.compare import compare
from rlhf_eval.verbs.evaluate import evaluate
from rlhf_eval.verbs.flow import generate, judge
from rlhf_eval.verbs.leaderboard import leaderboard
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.pairs import pairs
from rlhf_eval.verbs.recipe import Step, find_recipe, read_recipe, run_recipe
from rlhf_eval.verbs.session import Options, Session

FLAGS: Mapping[str, tuple[str, ...]] = {
    "load": ("source", "path", "split"),
    "generate": ("prompts", "generator", "model", "n", "temperature"),
    "judge": ("completions", "judge", "judge_model", "orders", "matches", "repeats"),
    "pairs": ("judgments", "rule", "by", "out"),
    "evaluate": ("benchmark", "prompts", "model", "baseline", "check"),
}
"""Verb to the flags that are settings of its table; a flag that was not given stays out of it."""

DEMO_PROMPTS = 60


def run(options: argparse.Namespace) -> int:
    """Do what was typed; returns the exit code."""
    registry.check_packages()
    commands: Mapping[str, Callable[[argparse.Namespace], int]] = {
        "leaderboard": _leaderboard,
        "compare": _compare,
        "run": _recipe,
        "demo": _demo,
        "runs": _runs,
        "doctor": _doctor,
        "status": _status,
        "cache": _cache,
    }
    return commands.get(options.command, _verb)(options)


def _verb(options: argparse.Namespace) -> int:
    async def work(session: Session) -> None:
        show.step(await _one(session, options.command, _table(options)), session, as_json=options.json)

    return _with_session(options, work)


async def _one(session: Session, verb: str, table: Mapping[str, Any]) -> Step:
    if verb == "load":
        return Step(verb, load(session, table))
    if verb == "pairs":
        return Step(verb, pairs(session, table))
    if verb == "generate":
        return Step(verb, await generate(session, table))
    if verb == "judge":
        return Step(verb, await judge(session, table))
    return Step(verb, await evaluate(session, table))


def _recipe(options: argparse.Namespace) -> int:
    path = find_recipe(options.recipe)
    return _run_tables(options, read_recipe(path))


def _demo(options: argparse.Namespace) -> int:
    tables = read_recipe(find_recipe("demo"))
    if options.limit is None:
        options.limit = DEMO_PROMPTS
    return _run_tables(options, tables)


def _run_tables(options: argparse.Namespace, tables: dict[str, dict[str, Any]]) -> int:
    overlaid = apply_sets(tables, options.set)

    async def work(session: Session) -> None:
        async for step in run_recipe(session, overlaid):
            show.step(step, session, as_json=options.json)

    return _with_session(options, work)


def _leaderboard(options: argparse.Namespace) -> int:
    session = Session(Options(store=Path(options.store)))
    boards = leaderboard(session, judge=options.judge, baseline=options.baseline, run=options.run)
    show.boards(boards, session, as_json=options.json)
    return 0


def _compare(options: argparse.Namespace) -> int:
    session = Session(Options(store=Path(options.store)))
    found = compare(session, options.a, options.b, judge=options.judge)
    show.comparisons(found, session, as_json=options.json)
    if options.fail_on_regression:
        worse = [c for c in found if c.estimate.high < 0]
        if worse:
            raise GateFailed(f"{options.a} is worse than {options.b} by {len(worse)} of {len(found)} judges")
    return 0


def _runs(options: argparse.Namespace) -> int:
    store = Session(Options(store=Path(options.store))).store
    if options.action == "ls":
        show.runs(store.runs(), store, as_json=options.json)
        return 0
    if not options.run:
        raise UserError(f"runs {options.action} needs a run: an id, the start of its hash, or latest")
    for ref in options.run:
        if options.action == "show":
            show.run(store.find(ref), store, as_json=options.json)
        else:
            print(f"removed {store.remove(ref).id}")
    return 0


def _status(options: argparse.Namespace) -> int:
    store = Session(Options(store=Path(options.store))).store
    show.status(store.find(options.run), as_json=options.json)
    return 0


def _cache(options: argparse.Namespace) -> int:
    session = Session(Options(store=Path(options.store)))
    if not session.store.cache_path.exists():
        raise UserError(f"{session.store.cache_path} does not exist: nothing has been cached in this store yet")
    with ResponseCache(session.store.cache_path) as cache:
        if options.action == "prune":
            if options.older_than is None and options.max_mb is None:
                raise UserError("cache prune needs a rule: --older-than DAYS, --max-mb MB, or both")
            size = int(options.max_mb * 1e6) if options.max_mb is not None else None
            removed = cache.prune(older_than_days=options.older_than, max_bytes=size)
            print(f"removed {removed:,} replies")
        show.cache(cache.stats(), session, as_json=options.json)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from rlhf_eval.verbs.doctor import doctor

    checks = asyncio.run(doctor(Path(options.store), options.model))
    show.checks(checks, as_json=options.json)
    return 0 if all(check.good is not False for check in checks) else UserError.exit_code


def _with_session(options: argparse.Namespace, work: Callable[[Session], Awaitable[None]]) -> int:
    """Run ``work`` in a session and close its doors however it ends; before a dry run, its pilot if one is wanted."""
    wanted = _session_options(options)
    if options.pilot is not None:
        if not wanted.dry_run:
            raise UserError("--pilot belongs to --dry-run; to do only the first N prompts, use --limit N")
        _in_session(replace(wanted, dry_run=False, limit=options.pilot), work)
    _in_session(wanted, work)
    return 0


def _in_session(wanted: Options, work: Callable[[Session], Awaitable[None]]) -> None:
    session = Session(wanted)

    async def guarded() -> None:
        try:
            await work(session)
        finally:
            await session.close()

    asyncio.run(guarded())


def _session_options(options: argparse.Namespace) -> Options:
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit is {options.limit}; at least 1 prompt is needed")
    if options.concurrency < 1:
        raise UserError(f"--concurrency is {options.concurrency}; at least 1 request must be in flight")
    return Options(
        store=Path(options.store),
        seed=options.seed,
        limit=options.limit,
        fresh=options.fresh,
        retry_failed=options.retry_failed,
        dry_run=options.dry_run,
        quiet=options.quiet or options.json,
        use_cache=not options.no_cache,
        concurrency=options.concurrency,
        rpm=options.rpm,
        tpm=options.tpm,
        max_cost=options.max_cost,
        max_tokens=options.max_tokens,
        max_errors=options.max_errors,
        prices=Path(options.prices) if options.prices else None,
    )


def _table(options: argparse.Namespace) -> dict[str, Any]:
    """The verb's settings: the file's, under the flags', under ``--set``."""
    verb = options.command
    table = read_yaml(Path(options.config)) if options.config else {}
    if isinstance(table.get(verb), dict):
        table = table[verb]
    given = {name: getattr(options, name) for name in FLAGS[verb] if getattr(options, name, None) is not None}
    table = {**table, **given}
    if verb == "evaluate":
        for name in ("judge", "generate"):
            if not isinstance(table.get(name, {}), dict):
                raise UserError(f"{options.config}: '{name}' must be a table of settings, not {table[name]!r}")
        table["judge"] = {**table.get("judge", {}), **_given(options, ("judge", "judge_model", "orders"))}
        table["generate"] = {**table.get("generate", {}), **_given(options, ("temperature",))}
    return apply_sets(table, options.set)


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}
