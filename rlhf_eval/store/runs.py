"""The store: runs on disk, written by any number of processes and read while they are written.

    <store>/runs/<utc>-<verb>-<8 hex>/   run.json  config.yaml  metrics.jsonl
                                         .writers  a lock that a process holds while it writes here
                                         log/    lines in flight, one file a writer and table
                                         parts/  sealed Parquet
    <store>/cache/responses.sqlite       replies, see store.cache
    <store>/labels/                      what people said

The 8 digits are the hash of verb, settings, inputs and seed: the same work finds its own run and resumes it.

    store = Store(Path("rlhf-eval-store"))
    with store.begin("judge", config, inputs={"completions": run_id}, seed=0, versions={}) as run:
        done = run.ids("judgments")
        run.append("judgments", judgment)
        run.finish("done", {"judgments": 1}, usage)
    judgments = store.read(Judgment, run="latest:judge")
"""

from __future__ import annotations

import difflib
import re
import shutil
import time
from calendar import timegm
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rlhf_eval.config import write_yaml
from rlhf_eval.errors import BadRecord, UserError
from rlhf_eval.records import TABLES, R, Run, fingerprint
from rlhf_eval.store.manifest import is_held, locked, now, read_run, write_run
from rlhf_eval.store.reading import Snapshot
from rlhf_eval.store.writer import ROWS_A_PART, RunWriter, seal_orphans

if TYPE_CHECKING:
    import pyarrow as pa

    from rlhf_eval.store.query import Known

_RUN_ID = re.compile(r"\d{8}T\d{6}-(?P<verb>[a-z][a-z0-9_]*)-(?P<hash>[0-9a-f]{8})")
_STAMP = "%Y%m%dT%H%M%S"
SILENT = 10.0
"""Seconds without a heartbeat, which comes every two, after which a run that nobody holds has been interrupted."""


class Store:
    """A folder of runs. Nothing is touched before it is asked for; ``begin`` makes the folder.

    ``problems`` collects, once each, the files and lines that could not be read and were skipped.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.problems: list[str] = []
        self._known: Known = {}

    @property
    def cache_path(self) -> Path:
        """Where the response cache lies."""
        return self.path / "cache" / "responses.sqlite"

    @property
    def labels_folder(self) -> Path:
        """Where people's labels lie, a file a person."""
        return self.path / "labels"

    # Writing ----------------------------------------------------------------------------------------------------------

    def begin(
        self,
        verb: str,
        config: Mapping[str, Any],
        *,
        inputs: Mapping[str, str],
        seed: int,
        versions: Mapping[str, str],
        fresh: bool = False,
        reopen: bool = False,
        alone: bool = False,
        rows_a_part: int = ROWS_A_PART,
    ) -> RunWriter:
        """The run that does this work: the newest one with the same verb, settings, inputs and seed, or a new one.

        A run that is ``done`` comes back as it is, for its result to be shown, unless it counts failures and ``reopen``
        asks for another try at them; ``fresh`` always makes a new one. Several processes may write one run, unless one of
        them must be ``alone`` with it. Raises UserError where the folder cannot be written, or somebody is in the way.
        """
        settings = msgspec.json.decode(msgspec.json.encode(config))  # as run.json will give it back
        identity = fingerprint(verb, settings, inputs, seed)
        if not _RUN_ID.fullmatch(f"{time.strftime(_STAMP)}-{verb}-{identity[:8]}"):
            raise UserError(f"'{verb}' cannot name a run: small letters, digits and underscores only")
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            with locked(self._runs):
                known = self._same_work(verb, identity)
                if known is not None and not fresh:
                    again = reopen and known.counts.get("failed", 0) > 0
                    return self._resume(known, rows_a_part, reopen=again, alone=alone)
                run = Run(id="", verb=verb, config=settings, inputs=dict(inputs), seed=seed, versions=dict(versions))
                return self._create(run, config, identity[:8], rows_a_part, alone=alone)
        except OSError as error:
            raise UserError(f"{error.filename or self.path}: no run can be kept here: {error.strerror}") from error

    def same_work(self, verb: str, config: Mapping[str, Any], *, inputs: Mapping[str, str], seed: int) -> Run | None:
        """The run that ``begin`` would resume or show again; None where it would make a new one."""
        if not self._runs.is_dir():
            return None
        return self._same_work(verb, fingerprint(verb, msgspec.to_builtins(dict(config)), inputs, seed))

    def remove(self, ref: str) -> Run:
        """Delete a run with all that it holds; raises UserError while a process is writing it."""
        run = self.find(ref)
        folder = self.folder(run.id)
        doomed = folder.with_name(f".removed-{run.id}")
        try:
            with locked(self._runs):  # nobody begins on it now
                if is_held(folder):
                    raise UserError(f"run {run.id} is being written; stop that process first")
                folder.rename(doomed)
                shutil.rmtree(doomed)
        except OSError as error:
            raise UserError(f"run {run.id} cannot be removed: {error.strerror}") from error
        return run

    def compact(self, ref: str) -> dict[str, int]:
        """Merge a run's parts into one file a table, sorted by prompt; returns how many files each table had."""
        from rlhf_eval.store.query import compact

        folder = self.folder(self.find(ref).id)
        seal_orphans(folder)
        with locked(folder / "parts"):
            return {table: compact(folder, table, kind, report=self.note) for table, kind in TABLES.items()}

    # Reading ----------------------------------------------------------------------------------------------------------

    def runs(self, verb: str | None = None) -> list[Run]:
        """All runs, or those of one verb, oldest first; a broken one is named in ``problems``.

        Raises UserError if there is no store, or if a newer rlhf-eval wrote in it.
        """
        found = []
        for name in self._names():
            if verb is None or _verb(name) == verb:
                try:
                    found.append(self._read(name))
                except BadRecord as error:
                    self.note(str(error))
        return found

    def find(self, ref: str) -> Run:
        """The run that ``ref`` names: an id, four or more digits of its hash, ``latest``, or ``latest:<verb>``.

        A leading ``run:``, by which models are told from runs, may stay. Of several runs with the same hash it is the
        newest. Raises UserError naming the nearest ones.
        """
        names, ref = self._names(), ref.removeprefix("run:")
        if ref == "latest" or ref.startswith("latest:"):
            wanted = ref.partition(":")[2]
            matching = [name for name in names if not wanted or _verb(name) == wanted]
        elif re.fullmatch(r"[0-9a-f]{4,8}", ref):
            matching = [name for name in names if _hash(name).startswith(ref)]
        else:
            matching = [name for name in names if name == ref]
        if len({_hash(name) for name in matching}) > 1 and not ref.startswith("latest"):
            raise UserError(f"'{ref}' is the start of several runs: {', '.join(matching)}")
        if not matching:
            raise UserError(f"no run '{ref}' in {self.path}. {_nearest(ref, names)}")
        return self._read(matching[-1])

    def folder(self, run_id: str) -> Path:
        """Where a run lies."""
        return self._runs / run_id

    def records(self, kind: type[R], run: str | Sequence[str] | None = None) -> Iterator[R]:
        """The records of one kind, each id once, a batch in memory at a time; of all runs, or of those named.

        Where runs hold the same id, a success beats a failure and the newer run the older one.
        """
        return Snapshot(kind, self._folders(run), report=self.note).records()

    def read(self, kind: type[R], run: str | Sequence[str] | None = None) -> list[R]:
        """The records of one kind as a list; like ``records``."""
        return list(self.records(kind, run))

    def metrics(self, run: str) -> list[dict[str, Any]]:
        """The scalars that a run logged, in order; what was NaN or infinite is so again.

        A resumed training does the steps after its last saved state again: of two rows of a step the later counts.
        """
        path = self.folder(self.find(run).id) / "metrics.jsonl"
        rows = []
        with suppress(FileNotFoundError):
            for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
                try:
                    row = msgspec.json.decode(line, type=dict[str, Any])
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    self.note(f"{path}:{number}: skipped a broken line: {error}")
                    continue
                rows.append({k: float(v) if v in ("nan", "inf", "-inf") else v for k, v in row.items()})
        newest = {(r["step"], r.get("split")) if "step" in r else place: place for place, r in enumerate(rows)}
        return [rows[place] for place in sorted(newest.values())]

    def sql(self, query: str, params: Sequence[Any] = (), *, runs: Sequence[Run] | None = None) -> pa.Table:
        """The answer to one SELECT over the views ``runs`` and those of the tables, which have a ``run_id`` too.

        ``runs`` are those that the views are about, by default all. The views hold each (run_id, id) once, sealed or in
        flight. Raises UserError with DuckDB's words on a bad query.
        """
        from rlhf_eval.store.query import select

        runs = self.runs() if runs is None else runs
        folders = [self.folder(run.id) for run in runs]
        return select(query, params, runs, folders, report=self.note, known=self._known)

    def note(self, problem: str) -> None:
        """Name something that cannot be read among ``problems``, once."""
        if problem not in self.problems:
            self.problems.append(problem)

    # Inside -----------------------------------------------------------------------------------------------------------

    @property
    def _runs(self) -> Path:
        return self.path / "runs"

    def _names(self) -> list[str]:
        try:
            return sorted(entry.name for entry in self._runs.iterdir() if _RUN_ID.fullmatch(entry.name))
        except FileNotFoundError:
            raise UserError(f"{self.path}: no store here; name one with --store, or let a run make it") from None
        except OSError as error:
            raise UserError(f"{self.path}: the store cannot be read: {error.strerror}") from error

    def _read(self, name: str) -> Run:
        """The run, told from what it says of itself where its process can no longer say anything."""
        run = read_run(self._runs / name)
        if run.status == "running" and _silent(run) > SILENT and not is_held(self._runs / name):
            return replace(
                run, status="interrupted", message=run.message or "its process is gone; the same command resumes it"
            )
        return run

    def _folders(self, run: str | Sequence[str] | None) -> list[Path]:
        if run is None:
            return [self.folder(known.id) for known in self.runs()]
        refs = [run] if isinstance(run, str) else run
        ids = sorted({self.find(ref).id for ref in refs})
        return [self.folder(name) for name in ids]

    def _same_work(self, verb: str, identity: str) -> Run | None:
        for name in reversed(self._names()):
            if _verb(name) == verb and _hash(name) == identity[:8]:
                try:
                    run = read_run(self._runs / name)
                except BadRecord as error:
                    self.note(str(error))
                    continue
                if fingerprint(run.verb, run.config, run.inputs, run.seed) == identity:
                    return run
        return None

    def _resume(self, run: Run, rows_a_part: int, *, reopen: bool, alone: bool) -> RunWriter:
        folder = self.folder(run.id)
        seal_orphans(folder)
        if run.status != "done" or reopen:
            with locked(folder):
                for torn in folder.glob("run.json.*.tmp"):  # whoever wrote it held this lock, and was killed
                    torn.unlink(missing_ok=True)
                run = replace(read_run(folder), status="running", message="", updated=now())
                write_run(folder, run, sync=True)
        return RunWriter(folder, run, rows_a_part=rows_a_part, alone=alone)

    def _create(self, run: Run, config: Mapping[str, Any], digits: str, rows_a_part: int, *, alone: bool) -> RunWriter:
        """Make the folder complete under another name, then move it: a run is there with its run.json or not at all."""
        for leftover in self._runs.glob(".[nr]e*-*"):  # .new-, .removed-: we hold the lock, so whose they were is dead
            shutil.rmtree(leftover)
        folder = self.folder(f"{_stamp_after(self._names())}-{run.verb}-{digits}")
        run = replace(run, id=folder.name, started=now(), updated=now())
        draft = self._runs / f".new-{folder.name}"
        for part in (draft, draft / "log", draft / "parts"):
            part.mkdir()
        (draft / "config.yaml").write_text(write_yaml(msgspec.to_builtins(config)), encoding="utf-8")
        write_run(draft, run, sync=True)
        draft.rename(folder)
        return RunWriter(folder, run, rows_a_part=rows_a_part, alone=alone)


def _silent(run: Run) -> float:
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(run.updated)).total_seconds()
    except ValueError:
        return 0.0


def _stamp_after(names: Sequence[str]) -> str:
    """This second, or the first one that no run has: the names of runs sort in the order in which they were made."""
    stamp = time.strftime(_STAMP, time.gmtime())
    last = names[-1].partition("-")[0] if names else ""
    if stamp > last:
        return stamp
    return time.strftime(_STAMP, time.gmtime(timegm(time.strptime(last, _STAMP)) + 1))


def _verb(name: str) -> str:
    return name.split("-")[1]


def _hash(name: str) -> str:
    return name.split("-")[2]


def _nearest(ref: str, names: Sequence[str]) -> str:
    if not names:
        return "It holds no runs yet."
    by_part = {part: name for name in names for part in (name, _verb(name), _hash(name))}
    close = [by_part[part] for part in difflib.get_close_matches(ref.removeprefix("latest:"), by_part, n=3, cutoff=0.5)]
    return f"Nearest: {', '.join(dict.fromkeys(close))}." if close else f"Newest: {', '.join(names[-3:])}."
