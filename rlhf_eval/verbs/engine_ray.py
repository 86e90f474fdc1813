"""``--engine ray``: the same flow on many workers, each on its own part of the prompts, all into the same runs.

Ray Data hands the parts out, holds the workers (each with its own replica of a local model, or its own connections to a
server) and starts another one where one dies. A worker runs the verb as it is, over every P-th prompt, and seals what it
wrote; the store takes several writers on one run, ids depend on content alone, and what a dead worker had acknowledged is
not done again. When all parts are done, the verb runs here once more, finds everything there, and closes the account:
that is why tables, counts and resuming are those of the local engine.

Source: docs.ray.io, "Ray Data: working with map_batches and stateful transforms".

    rlhf-eval run line.yaml --engine ray --workers 8                      # a cluster of this machine
    rlhf-eval run line.yaml --engine ray --address auto --workers 16 --tensor-parallel 4
"""

from __future__ import annotations

import asyncio
import logging
import platform
import re
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlhf_eval import errors
from rlhf_eval.errors import BudgetExceeded, RlhfEvalError, UserError
from rlhf_eval.models.cluster import join, library
from rlhf_eval.records import fingerprint
from rlhf_eval.verbs.session import Absent, Cluster, Options, PartDone, Session

PARTS_A_WORKER = 4
"""A part is what is done again, from the cache, when a worker dies, and what the last worker is waited for."""
_VLLM = re.compile(r"^(?:[\w.@+-]+=)?vllm:")
_COPIES = re.compile(r"^(?:[\w.@+-]+=)?ray:")
_LOCAL_MODEL = re.compile(r"^(?:[\w.@+-]+=)?(?:vllm|hf):")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What every worker does: a verb with its tables, under these options."""

    verb: str
    tables: tuple[Mapping[str, Any], ...]
    options: Options
    parts: int
    driver: str
    """Name of the machine that the command was typed on."""


async def spread(session: Session, verb: str, *tables: Mapping[str, Any]) -> None:
    """Have workers do what ``verb`` will ask for, if ``--engine ray`` was given; raises what stopped one of them.

    Afterwards the session's models are stand-ins: the verb finds everything done.
    """
    cluster = session.options.cluster
    if cluster is None or session.options.dry_run:
        return
    ray = library("--engine ray", "ray.data")
    lease = join(ray, cluster.address, cluster.workers)
    try:
        workers, resources = _shape(ray, cluster, tables)
        options = _share(session.options, workers)
        placed = tuple(_placed(table, cluster.tensor_parallel) for table in tables)
        task = Task(verb=verb, tables=placed, options=options, parts=workers * PARTS_A_WORKER, driver=platform.node())
        rows = await asyncio.to_thread(_run, task, workers, resources, session.say)
    finally:
        lease.end()
    _raise_first(rows)
    for original, spec in zip(_specs(tables), _specs(placed), strict=True):
        known = {name: tuple(value) for row in rows for name, value in row["models"].items()}
        if spec in known:
            session.absent[original] = Absent(*known[spec])


def _run(task: Task, workers: int, resources: Mapping[str, float], say: Callable[[str], None]) -> list[Row]:
    """Every part's end, as the parts end."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what stops it is raised, and Ctrl-C is no error of Ray's
    numbers = [{"id": part} for part in range(task.parts)]
    parts = ray.data.from_items(numbers, override_num_blocks=task.parts).map_batches(
        Worker,
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=workers),
        fn_constructor_args=(task,),
        **resources,
    )
    rows: list[Row] = []
    for row in parts.iter_rows():
        rows.append(row["end"])
        say(f"ray: {len(rows)} of {task.parts} parts done by {workers} workers")
    return rows


class Worker:
    """One worker: its own models and connections, the shared store; called with the number of a part."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._session = Session(replace(task.options, cache=_cache_of(task)))
        self._runner = asyncio.Runner()
        self._stopped: Row | None = None

    def __call__(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do the parts in ``batch``; an error of ours is a result, which the command raises."""
        return {"end": [self._part(int(part)) for part in batch["id"]]}

    def _part(self, part: int) -> Row:
        if self._stopped is not None:
            return self._stopped
        session = self._session
        session.options = replace(session.options, part=(part, self._task.parts))
        row: Row = {"part": part, "error": "", "words": "", "models": {}}
        try:
            self._runner.run(_verbs()[self._task.verb](session, *self._task.tables))
        except PartDone:
            pass
        except RlhfEvalError as error:
            self._stopped = row = {**row, "error": type(error).__name__, "words": str(error)}
        row["models"] = {spec: [door.name, door.id] for spec, door in session.doors.items()}
        return row


def _verbs() -> Mapping[str, Callable[..., Coroutine[Any, Any, Any]]]:
    from rlhf_eval.verbs.evaluate import evaluate
    from rlhf_eval.verbs.flow import generate, generate_and_judge, judge

    return {"generate": generate, "judge": judge, "generate+judge": generate_and_judge, "evaluate": evaluate}


def _cache_of(task: Task) -> Path | None:
    """The store's cache where the command was typed, elsewhere one of that machine: SQLite's locks hold on no network."""
    if platform.node() == task.driver:
        return None
    place = Path(tempfile.gettempdir()) / f"rlhf-eval-{fingerprint(str(task.options.store))}"
    return place / "responses.sqlite"


def _shape(ray: Any, cluster: Cluster, tables: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, float]]:
    """How many workers, and what each of them holds."""
    if any(map(_COPIES.match, _specs(tables))):
        raise UserError("--engine ray gives every worker models of its own: name them without ray:")
    has = ray.cluster_resources()
    if has.get("GPU", 0) and any(map(_LOCAL_MODEL.match, _specs(tables))):
        room = int(has["GPU"] // cluster.tensor_parallel)
        resources = {"num_gpus": float(cluster.tensor_parallel), "num_cpus": 1.0}
    else:
        room, resources = int(has.get("CPU", 1)), {"num_cpus": 1.0}
    workers = cluster.workers or room
    if not 0 < workers <= room:
        raise UserError(f"--workers {workers}: the cluster has room for {room}, each with {resources}")
    return workers, resources


def _share(options: Options, workers: int) -> Options:
    """One worker's share of what the command may spend and ask."""
    return replace(
        options,
        cluster=None,
        quiet=True,
        store=options.store.absolute(),
        prices=options.prices.absolute() if options.prices else None,
        max_cost=None if options.max_cost is None else options.max_cost / workers,
        max_tokens=None if options.max_tokens is None else options.max_tokens // workers,
        rpm=options.rpm / workers,
        tpm=options.tpm / workers,
    )


def _placed(value: Any, tensor_parallel: int) -> Any:
    """A table as a worker understands it: files by their absolute path, vLLM with its share of GPUs."""
    if isinstance(value, Mapping):
        return {key: _placed(inner, tensor_parallel) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_placed(inner, tensor_parallel) for inner in value)
    if not isinstance(value, str):
        return value
    if _VLLM.match(value) and tensor_parallel > 1:
        return f"{value}{'&' if '?' in value else '?'}tensor_parallel_size={tensor_parallel}"
    alias, scheme, path = value.rpartition("hf:")
    if scheme and Path(path.partition("?")[0]).exists():
        return f"{alias}{scheme}{Path(path).absolute()}"
    return str(Path(value).absolute()) if "/" in value and Path(value).exists() else value


def _specs(value: Any) -> list[str]:
    """Every text in a table, in order."""
    if isinstance(value, Mapping):
        return [spec for inner in value.values() for spec in _specs(inner)]
    if isinstance(value, list | tuple):
        return [spec for inner in value for spec in _specs(inner)]
    return [value] if isinstance(value, str) else []


def _raise_first(rows: Sequence[Row]) -> None:
    for row in rows:
        if row["error"]:
            kind = getattr(errors, row["error"], UserError)
            share = " (a worker's share of the limit)" if kind is BudgetExceeded else ""
            raise kind(row["words"] + share)
