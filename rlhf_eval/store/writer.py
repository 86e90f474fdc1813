"""Writing a run: one line a record, acknowledged when ``append`` returns, sealed to Parquet behind it.

Every writer has files of its own, named for its process, so that two processes may work on one store, or on one run. A
log is locked (``flock``) while its writer lives; the lock falls with the process, and that is how the next one knows
which logs it may seal. What ``append`` acknowledged survives the death of the process at any byte; a power cut may take
the last second.

    with store.begin("judge", config, inputs={}, seed=0, versions={}) as run:
        run.append("judgments", judgment)
        run.finish("done", {"judgments": 1}, usage)
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from rlhf_eval.errors import BadRecord, BudgetExceeded, Interrupted, RlhfEvalError, UserError
from rlhf_eval.records import TABLES, Forecast, Run, Status, Usage
from rlhf_eval.store import tables
from rlhf_eval.store.manifest import enter, locked, now, read_run, write_run
from rlhf_eval.store.reading import LOG, PART, SPOILT, Snapshot, read_log_by

ROWS_A_PART = 20_000
BYTES_A_PART = 64 * 2**20
_SYNC_EVERY = 1.0
_HEARTBEAT_EVERY = 2.0


class RunWriter:
    """One process's hand on one run; a context manager that seals and closes it however the block ends."""

    def __init__(self, folder: Path, run: Run, *, rows_a_part: int = ROWS_A_PART, alone: bool = False) -> None:
        self.folder = folder
        self.run = run
        self.problems: list[str] = []
        self._rows_a_part = rows_a_part
        self._writer = f"{time.time_ns() // 1_000_000:011x}p{os.getpid()}r{os.urandom(3).hex()}"
        self._logs: dict[str, _Log] = {}
        self._sequence = 0
        self._counts: Mapping[str, int] = dict(run.counts)
        self._usage = Usage()
        self._reported = Usage()
        self._beat = time.monotonic()
        self._lock = threading.RLock()
        self._sealer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="seal")
        self._sealing: Future[None] | None = None
        self._syncing: Future[None] | None = None
        self._closed = run.status == "done"
        self._held = -1 if self._closed else enter(folder, alone=alone)

    def ids(self, table: str, *, failures: bool = True) -> set[str]:
        """The ids already acknowledged in this run, whoever wrote them; without ``failures`` only of successes."""
        return Snapshot(TABLES[table], [self.folder], report=self.problems.append).ids(failures=failures)

    def append(self, table: str, record: Any) -> None:
        """Keep ``record``; it survives this process as soon as this returns.

        A record whose id is already there replaces it on reading, unless it is a failure and that one is not.
        Raises BadRecord if the record cannot be written as it is, UserError if the disk refuses it.
        """
        if self._closed:
            raise RuntimeError(f"run {self.run.id} is {self.run.status}: nothing can be added to it")
        if type(record) is not TABLES.get(table):
            raise TypeError(f"table '{table}' does not hold a {type(record).__name__}")
        line = tables.encode(record) + b"\n"
        with self._lock:
            log = self._logs.get(table) or self._open(table)
            log.write(line)
            if log.rows >= self._rows_a_part or log.size >= BYTES_A_PART:
                del self._logs[table]
                self._seal_behind(log)
            elif log.due():
                self._sync_behind(log)

    def metric(self, values: Mapping[str, Any]) -> None:
        """Add one line of scalars to ``metrics.jsonl``; NaN and infinities are kept, as text."""
        row = {name: _finite(value) for name, value in values.items()}
        line = msgspec.json.encode(row, enc_hook=tables.plain) + b"\n"
        with self._lock:
            log = self._logs.get("metrics") or self._open("metrics")
            log.write(line)
            if log.due():
                self._sync_behind(log)

    def heartbeat(self, counts: Mapping[str, int], usage: Usage) -> None:
        """Say how far the run is; ``run.json`` is rewritten at most every two seconds. No counts leave those written there.

        ``usage`` is what this writer has used since ``begin``; ``run.json`` adds up all writers. A run that is done
        stays so.
        """
        if self._closed:
            return
        self._counts, self._usage = dict(counts), usage
        if time.monotonic() - self._beat >= _HEARTBEAT_EVERY:
            self._report("running", "")

    def expect(self, forecast: Forecast) -> None:
        """Keep what the run is expected to use, beside what it uses."""
        self.run = replace(self.run, forecast=forecast)
        self._report("running", "")

    def finish(self, status: Status, counts: Mapping[str, int], usage: Usage, message: str = "") -> Run:
        """Seal what is in flight, then write ``run.json``, last of all; returns the finished run."""
        if not self._closed:
            self._counts, self._usage = dict(counts), usage
            self._close(status, message)
        return self.run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._closed:
            return
        if error is None:
            self._close("done", "")
            return
        status, message = outcome_of(error)
        try:
            self._close(status, message)
        except (OSError, RlhfEvalError) as second:
            error.add_note(f"and run {self.run.id} could not be closed: {second}")

    def _open(self, table: str) -> _Log:
        self._sequence += 1
        name = "metrics" if table == "metrics" else f"log/{table}-{self._writer}-{self._sequence:06d}"
        log = self._logs[table] = _Log(self.folder, self.folder / f"{name}{LOG}", lasting=table == "metrics")
        return log

    def _seal_behind(self, log: _Log) -> None:
        """Seal in a thread, one log at a time: it takes a good part of a second, too long for an event loop to stand."""
        self._wait_for_seal()
        self._sealing = self._sealer.submit(log.seal)

    def _sync_behind(self, log: _Log) -> None:
        """Sync in the same thread: a disk takes milliseconds for it, as long as ten requests."""
        self._wait_for_sync()
        self._syncing = self._sealer.submit(log.sync)

    def _wait_for_seal(self) -> None:
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.result()

    def _wait_for_sync(self) -> None:
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            syncing.result()

    def _close(self, status: Status, message: str) -> None:
        with self._lock:
            self._closed = True
            logs, self._logs = self._logs, {}
            try:
                self._wait_for_sync()
                for log in logs.values():
                    log.seal()
                self._wait_for_seal()
            finally:
                self._sealer.shutdown()
            try:
                self._report(status, message)
            finally:
                os.close(self._held)

    def _report(self, status: Status, message: str) -> None:
        with self._lock:
            self._beat = time.monotonic()
            try:
                with locked(self.folder):
                    self.run = self._merged(status, message)
                    write_run(self.folder, self.run, sync=status != "running")
            except OSError as error:
                raise UserError(f"{self.folder / 'run.json'}: cannot be written: {error.strerror}") from error
            self._reported = self._usage

    def _merged(self, status: Status, message: str) -> Run:
        """The run as it stands on disk, with what this writer has to add; another writer may have added too."""
        try:
            written = read_run(self.folder)
        except BadRecord:
            written = self.run
        spent = self._usage - self._reported
        counts, usage = self._counts or written.counts, written.usage + spent
        forecast = self.run.forecast or written.forecast
        return replace(
            written, status=status, counts=counts, usage=usage, message=message, updated=now(), forecast=forecast
        )


class _Log:
    """One file, one writer, one ``os.write`` a line."""

    def __init__(self, folder: Path, path: Path, *, lasting: bool) -> None:
        self.path = path
        self.rows = self.size = 0
        self._folder, self._lasting = folder, lasting
        self._synced = time.monotonic()
        try:
            self._file = self._open()
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error

    def _open(self) -> int:
        if self._lasting:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            end = os.fstat(file).st_size
            if end and os.pread(file, 1, end - 1) != b"\n":  # a killed process left half a line
                os.write(file, b"\n")
            return file
        while True:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_nlink:  # else a process that tidies up took the new file for a dead one
                return file
            os.close(file)

    def write(self, line: bytes) -> None:
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(28, "no space left on the device")
        except OSError as error:
            if not self._lasting:
                os.ftruncate(self._file, self.size)
            raise UserError(f"{self.path}: cannot be written: {error.strerror}; what came before is kept") from error
        self.rows += 1
        self.size += len(line)

    def due(self) -> bool:
        """Whether it is time to sync; the next time is then a second away."""
        now = time.monotonic()
        if now - self._synced <= _SYNC_EVERY:
            return False
        self._synced = now
        return True

    def sync(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror}") from error

    def seal(self) -> None:
        try:
            if self._lasting:
                self.sync()
            else:  # the part is synced before its log is removed
                seal(self._folder, self.path)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be sealed: {error.strerror or error}; it stays readable") from error
        finally:
            os.close(self._file)


def seal(folder: Path, log: Path) -> None:
    """Turn one finished log of a run into a part; a log with broken lines is kept beside it under another name."""
    part = folder / "parts" / f"{log.stem}{PART}"
    faults: list[str] = []
    if not part.exists():
        pieces = []
        for records, wrong in read_log_by(log):
            faults += wrong
            if records:
                pieces.append(tables.to_table(type(records[0]), records))
        if pieces:
            tables.write_parquet(part, tables.joined(pieces))
    for torn in part.parent.glob(f"{part.name}.*.tmp"):  # of a process that was killed while it sealed this log
        torn.unlink(missing_ok=True)
    if faults:
        log.replace(log.with_suffix(SPOILT))
    else:
        log.unlink()


def seal_orphans(folder: Path) -> None:
    """Seal the logs that killed processes left behind, and leave those of living ones."""
    for log in sorted((folder / "log").glob(f"*{LOG}")):
        try:
            file = os.open(log, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink:
                seal(folder, log)
        except BlockingIOError:
            continue
        finally:
            os.close(file)


def outcome_of(error: BaseException) -> tuple[Status, str]:
    """The status and the one line with which an error ends a run."""
    if isinstance(error, BaseExceptionGroup):
        outcomes = [outcome_of(inner) for inner in error.exceptions]
        rank: list[Status] = ["failed", "stopped", "interrupted"]
        return min(outcomes, key=lambda outcome: rank.index(outcome[0]))
    message = " ".join(str(error).split())
    if isinstance(error, BudgetExceeded):
        return "stopped", message
    if isinstance(error, Interrupted | KeyboardInterrupt | asyncio.CancelledError | SystemExit | GeneratorExit):
        return "interrupted", message
    return "failed", message if isinstance(error, RlhfEvalError) else f"{type(error).__name__}: {message}".rstrip(": ")


def _finite(value: Any) -> Any:
    value = tables.plain(value) if hasattr(value, "tolist") else value
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
