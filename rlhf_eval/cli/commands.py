"""What each command does: flags become a verb's table, the verb runs, its result is shown."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_eval import registry
from rlhf_eval.benchmarks.boards import Uncompared
from rlhf_eval.cli import pages, sets, show, show_audit, show_plans, show_ratings, show_step, show_train, suites
from rlhf_eval.cli.show_boards import boards as show_boards
from rlhf_eval.config import apply_sets, read_yaml
from rlhf_eval.errors import BudgetExceeded, GateFailed, UserError
from rlhf_eval.store.cache import ResponseCache
from rlhf_eval.verbs.audit import audit, compare_judges
from rlhf_eval.verbs.compare import compare
from rlhf_eval.verbs.leaderboard import Board, GradeBoard, leaderboard, mean_grades, ranking
from rlhf_eval.verbs.recipe import Step, find_recipe, read_recipe, run_recipe, run_verb, with_sets
from rlhf_eval.verbs.session import Cluster, Options, Session

FLAGS: Mapping[str, tuple[str, ...]] = {
    "load": ("source", "path", "split"),
    "generate": ("prompts", "generator", "model", "n", "temperature"),
    "judge": ("completions", "judge", "judge_model", "orders", "matches", "repeats"),
    "pairs": ("judgments", "rule", "by", "labels", "aggregate", "calibrate", "against", "out", "format"),
    "train": ("trainer", "model", "data", "heldout", "out"),
    "online": ("method", "model", "prompts", "rounds"),
    "evaluate": ("benchmark", "prompts", "model", "baseline", "check", "judgments", "labels", "human", "stop_when"),
    "audit": (
        "judge", "judge_model", "completions", "reference", "own", "buy", "sample", "repeats", "attacks", "heavy",
    ),
}  # fmt: skip
"""Verb to the flags that are settings of its table; a flag that was not given stays out of it."""


def run(options: argparse.Namespace) -> int:
    """Do what was typed; returns the exit code."""
    registry.check_packages()
    commands: Mapping[str, Callable[[argparse.Namespace], int]] = {
        "audit": _audit,
        "lint": sets.lint,
        "corrupt": sets.corrupt,
        "verify": sets.verify,
        "route": sets.route,
        "train": _train,
        "online": _online,
        "evaluate": _evaluate,
        "leaderboard": _leaderboard,
        "dashboard": pages.dashboard,
        "label": pages.label,
        "report": pages.report,
        "compare": _compare,
        "parity": _parity,
        "plan": _plan,
        "correlate": _correlate,
        "run": _recipe,
        "demo": _demo,
        "lab": _lab,
        "runs": _runs,
        "doctor": _doctor,
        "status": _status,
        "cache": _cache,
    }
    return commands.get(options.command, _verb)(options)


def _verb(options: argparse.Namespace) -> int:
    async def work(session: Session) -> None:
        table = _table(options)
        if options.command == "pairs" and options.compare:
            sets.compare(session, table, options.compare, as_json=options.json)
            return
        result = await run_verb(session, options.command, table)
        show_step.step(Step(options.command, result, options.command), session, as_json=options.json)

    return _with_session(options, work)


def _evaluate(options: argparse.Namespace) -> int:
    suite = suites.wanted(options, _table(options))
    if suite is None:
        return _verb(options)

    async def work(session: Session) -> None:
        await suites.run(session, suite, as_json=options.json)

    return _with_session(options, work)


def _recipe(options: argparse.Namespace) -> int:
    if options.config:
        raise UserError(
            "a recipe holds its own settings; leave out --config, or lay one over it with --set STEP.KEY=VALUE"
        )
    tables = with_sets(read_recipe(find_recipe(options.recipe)), options.set)

    async def work(session: Session) -> None:
        async for step in run_recipe(session, tables):
            show_step.step(step, session, as_json=options.json)

    return _with_session(options, work)


def _demo(options: argparse.Namespace) -> int:
    from rlhf_eval.cli.demo import demo

    return _with_session(options, lambda session: demo(session, options))


def _lab(options: argparse.Namespace) -> int:
    from rlhf_eval.cli.lab import lab

    return lab(options)


def _audit(options: argparse.Namespace) -> int:
    if options.compare:
        found = compare_judges(Session(Options(store=Path(options.store))), *options.compare)
        show_audit.comparison(found, as_json=options.json)
        return 0

    async def work(session: Session) -> None:
        result = await audit(session, _table(options))
        show_audit.audit(result, session, as_json=options.json)
        show.problems(session.store)
        if result.card.stopped:
            raise BudgetExceeded(result.card.stopped)

    return _with_session(options, work)


def _train(options: argparse.Namespace) -> int:
    from rlhf_eval.verbs.train import train

    async def work(session: Session) -> None:
        show_train.trained(await train(session, _table(options)), session, as_json=options.json)

    return _with_session(options, work)


def _online(options: argparse.Namespace) -> int:
    from rlhf_eval.verbs.online import online

    async def work(session: Session) -> None:
        async for step in online(session, _table(options)):
            show_step.step(step, session, as_json=options.json)

    return _with_session(options, work)


def _leaderboard(options: argparse.Namespace) -> int:
    session = Session(Options(store=Path(options.store)))
    if options.rank:
        if options.baseline or options.by or options.grades or options.format not in ("table", "json"):
            raise UserError("--rank compares all models with each other, as a table or --json; leave the rest out")
        ranked = ranking(session, judge=options.judge, run=options.run)
        show_ratings.ratings(ranked, as_json=options.json or options.format == "json")
        show.problems(session.store)
        return 0
    form = "json" if options.json else options.format
    found = _boards(options, session)
    show_boards(found, form)
    if form == "table":
        show.after_boards(found, session)
    show.problems(session.store)
    return 0


def _boards(options: argparse.Namespace, session: Session) -> Sequence[Board | GradeBoard]:
    """Boards of win rates; of mean grades where they were asked for, or are all that there is."""
    chosen = {"judge": options.judge, "run": options.run}
    if options.grades or options.by == "turn":
        if options.baseline:
            raise UserError("grades of single answers have no baseline; leave --baseline out")
        return mean_grades(session, **chosen, by=options.by)
    try:
        return leaderboard(session, **chosen, baseline=options.baseline, by_category=bool(options.by))
    except Uncompared as error:
        try:
            return mean_grades(session, **chosen, by=options.by)
        except UserError:
            raise error from None


def _compare(options: argparse.Namespace) -> int:
    session = Session(Options(store=Path(options.store)))
    found = compare(
        session, options.a, options.b, judge=options.judge, run=options.run, by_category=options.by == "category"
    )
    show.comparisons(found, session, as_json=options.json)
    show.problems(session.store)
    if options.fail_on_regression:
        worse = [c for c in found if c.estimate.high < 0 and not c.category]
        if worse:
            judges = sum(not c.category for c in found)
            raise GateFailed(f"{options.a} is worse than {options.b} by {len(worse)} of {judges} judges")
    return 0


def _plan(options: argparse.Namespace) -> int:
    from rlhf_eval.verbs.plan import plan

    session = Session(Options(store=Path(options.store)))
    designs = plan(
        session, effect=options.effect, prompts=options.prompts, power_wanted=options.power, price=options.price,
        like=options.like,
    )  # fmt: skip
    show_plans.designs(designs, as_json=options.json)
    return 0


def _correlate(options: argparse.Namespace) -> int:
    from rlhf_eval.verbs.correlate import correlate

    session = Session(Options(store=Path(options.store)))
    found = correlate(
        session, Path(options.reference), column=options.column, name=options.name, judge=options.judge,
        baseline=options.baseline,
    )  # fmt: skip
    show_plans.correlations(found, as_json=options.json)
    show.problems(session.store)
    return 0


def _parity(options: argparse.Namespace) -> int:
    from rlhf_eval.cli.show_parity import parity as show_parity
    from rlhf_eval.verbs.parity import parity

    claims = parity(Path(options.path), only=options.only, allow_code=options.allow_code)
    verdicts = show_parity(claims, as_json=options.json)
    if verdicts["MISS"]:
        raise GateFailed(f"{verdicts['MISS']} published numbers were missed")
    if not verdicts["same"] and not verdicts["known fault"]:
        raise UserError(f"{options.path}: nothing here can be checked; give a folder of upstream checkouts")
    return 0


def _runs(options: argparse.Namespace) -> int:
    store = Session(Options(store=Path(options.store))).store
    if options.action == "ls":
        show.runs(store.runs(), store, as_json=options.json)
        return 0
    if not options.run:
        raise UserError(f"runs {options.action} needs a run: an id, the start of its hash, or latest")
    for found in {run.id: run for run in map(store.find, options.run)}.values():  # all found before one is removed
        if options.action == "show":
            show.run(found, store, as_json=options.json)
        else:
            print(f"removed {store.remove(found.id).id}")
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
            size = options.max_mb * 1e6 if options.max_mb is not None else None
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
        if options.pilot < 1:
            raise UserError(f"--pilot is {options.pilot}; it must be a number of at least 1")
        _in_session(replace(wanted, dry_run=False, limit=options.pilot), work)
    _in_session(wanted, work)
    return 0


def _in_session(wanted: Options, work: Callable[[Session], Awaitable[None]]) -> None:
    session = Session(wanted)

    async def guarded() -> None:
        with suppress(ValueError):  # only the main thread may; asyncio would keep Ctrl-C waiting while a model loads
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            await work(session)
        finally:
            await session.close()

    asyncio.run(guarded())


def _session_options(options: argparse.Namespace) -> Options:
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
        batch=options.batch,
        cluster=_cluster(options),
        typed=getattr(options, "typed", ""),
    )


def _cluster(options: argparse.Namespace) -> Cluster | None:
    if options.engine == "ray":
        return Cluster(address=options.address, workers=options.workers, tensor_parallel=options.tensor_parallel)
    if options.address or options.workers is not None or options.tensor_parallel != 1:
        raise UserError("--address, --workers and --tensor-parallel belong to --engine ray")
    return None


def _table(options: argparse.Namespace) -> dict[str, Any]:
    """The verb's settings: the file's, under the flags', under ``--set``."""
    verb = options.command
    table = read_yaml(Path(options.config)) if options.config else {}
    if isinstance(table.get(verb), dict):
        table = table[verb]
    given = {name: getattr(options, name) for name in FLAGS[verb] if getattr(options, name, None) is not None}
    table = {**table, **given}
    if verb == "judge":
        table = _preset(options, table)
    if verb == "train" and options.reward_judge:
        judge = {"judge": options.reward_judge, "judge_model": options.reward_model or ""}
        told = table.get("reward")
        table["reward"] = {**told, **judge} if isinstance(told, dict) else judge
    if verb in ("online", "evaluate"):
        for name in ("judge", "generate"):
            if not isinstance(table.get(name, {}), dict):
                raise UserError(f"{options.config}: '{name}' must be a table of settings, not {table[name]!r}")
    if verb == "online":
        table["judge"] = {**table.get("judge", {}), **_given(options, ("judge", "judge_model", "orders"))}
        table["generate"] = {"n": 4, **table.get("generate", {}), **_given(options, ("n",))}
    if verb == "evaluate":
        plugin = {"judge": options.judge[0]} if options.judge and len(options.judge) == 1 else {}
        table["judge"] = {**table.get("judge", {}), **plugin, **_given(options, ("judge_model", "orders"))}
        table["generate"] = {**table.get("generate", {}), **_given(options, ("temperature",))}
    return apply_sets(table, options.set)


def _preset(options: argparse.Namespace, table: dict[str, Any]) -> dict[str, Any]:
    """The judge's table over the preset that was named; a template without a preset is a plain setting."""
    template = options.template or ""
    if options.preset:
        preset: dict[str, Any] = registry.load("preset", "published").table(options.preset, template=template)
        return {**preset, **table}
    return {**table, "template": template} if template else table


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}
