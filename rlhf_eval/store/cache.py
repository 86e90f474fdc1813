"""The response cache: paid-for replies by key, in one SQLite file that any number of local processes share.

SQLite in WAL mode with ``synchronous=NORMAL``: a killed process loses nothing that ``put`` acknowledged, a power cut
may lose the last few. Calls take tens of microseconds, so that they are made directly in the event loop. Not for
network file systems, where SQLite's locks do not hold.

    cache = ResponseCache(store.cache_path)
    cache.put({key: reply_bytes}); cache.get([key])
"""

from __future__ import annotations

import math
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from rlhf_eval.errors import UserError

T = TypeVar("T")

_TABLE = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, created REAL NOT NULL, used REAL NOT NULL
)
"""
_PUT = "INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?)"
_COLUMNS = ["key", "value", "created", "used"]
_KEYS_A_QUERY = 500
_USED_PRECISION = 3600.0
"""Seconds by which ``used`` may lag: a hit within the hour costs no write."""
_WAIT_FOR_LOCK = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """What a cache holds: entries, bytes of replies, and when the first and last were made (Unix seconds)."""

    entries: int
    bytes: int
    oldest: float | None
    newest: float | None


class ResponseCache:
    """Replies by key; safe for several processes at once.

    A damaged file stops no run: it is set aside as ``<name>.corrupt-<utc>`` with a warning, and a fresh cache begins. A
    full disk stops it, as UserError.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path.parent}: cannot hold the response cache: {error.strerror}") from error
        self._connection = self._begin()

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The known ones of ``keys`` with their replies."""
        return self._guarded(lambda: self._get(list(keys)))

    def put(self, items: Mapping[str, bytes]) -> None:
        """Keep replies under their keys; they are committed when this returns."""
        self._guarded(lambda: self._put(items))

    def stats(self) -> CacheStats:
        """How much the cache holds."""
        query = "SELECT count(*), coalesce(sum(length(value)), 0), min(created), max(created) FROM responses"
        row = self._guarded(lambda: self._connection.execute(query).fetchone())
        return CacheStats(entries=row[0], bytes=row[1], oldest=row[2], newest=row[3])

    def prune(self, *, older_than_days: float | None = None, max_bytes: float | None = None) -> int:
        """Forget replies unused for so many days, then the least recently used beyond so many bytes; returns how many.

        ``used`` is kept to the hour. Raises UserError if neither limit is given.
        """
        if older_than_days is None and max_bytes is None:
            raise UserError("prune needs a limit: older_than_days, max_bytes, or both")
        for limit in (older_than_days, max_bytes):
            if limit is not None and not 0 <= limit < math.inf:
                raise UserError(f"prune: the limit is {limit}; it must be a number of at least 0")
        return self._guarded(lambda: self._prune(older_than_days, max_bytes))

    def close(self) -> None:
        """Close the file; a closed cache is not used again."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, keys: list[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        stale: list[tuple[float, str]] = []
        now = time.time()
        for start in range(0, len(keys), _KEYS_A_QUERY):
            chunk = keys[start : start + _KEYS_A_QUERY]
            marks = ",".join("?" * len(chunk))
            query = f"SELECT key, value, used FROM responses WHERE key IN ({marks})"
            for key, value, used in self._connection.execute(query, chunk):
                found[key] = value
                if now - used > _USED_PRECISION:
                    stale.append((now, key))
        if stale:
            with self._transaction():
                self._connection.executemany("UPDATE responses SET used = ? WHERE key = ?", stale)
        return found

    def _put(self, items: Mapping[str, bytes]) -> None:
        now = time.time()
        rows = [(key, value, now, now) for key, value in items.items()]
        if len(rows) == 1:  # the usual case: a statement of its own costs half of a transaction
            self._connection.execute(_PUT, rows[0])
            return
        with self._transaction():
            self._connection.executemany(_PUT, rows)

    def _prune(self, older_than_days: float | None, max_bytes: float | None) -> int:
        removed = 0
        with self._transaction():
            if older_than_days is not None:
                limit = time.time() - older_than_days * 86_400
                removed += self._connection.execute("DELETE FROM responses WHERE used < ?", (limit,)).rowcount
            if max_bytes is not None:
                kept = "sum(length(value)) OVER (ORDER BY used DESC, created DESC, key ROWS UNBOUNDED PRECEDING)"
                query = f"SELECT key FROM (SELECT key, {kept} AS held FROM responses) WHERE held > ?"
                removed += self._connection.execute(
                    f"DELETE FROM responses WHERE key IN ({query})", (max_bytes,)
                ).rowcount
        if removed:
            with suppress(sqlite3.OperationalError):  # another process is writing: the space is reused later
                self._connection.execute("VACUUM")
        return removed

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _guarded(self, work: Callable[[], T]) -> T:
        """Run ``work``; if the file proves damaged, begin a fresh one and run it there."""
        try:
            return work()
        except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:  # locked, full; or closed: not damaged
            raise UserError(f"{self.path}: the response cache cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            self._connection.close()
            self._set_aside(error)
            self._connection = self._begin()
        return work()

    def _begin(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.OperationalError as error:
            raise UserError(f"{self.path}: the response cache cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
        return self._open()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_WAIT_FOR_LOCK, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_TABLE)
            columns = [row[1] for row in connection.execute("PRAGMA table_info(responses)")]
            if columns != _COLUMNS:
                raise sqlite3.DatabaseError(f"its columns are {columns}, not {_COLUMNS}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _set_aside(self, error: Exception) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        aside = self.path.with_name(f"{self.path.name}.corrupt-{stamp}")
        try:
            self.path.replace(aside)
        except FileNotFoundError:
            return  # another process has just done the same
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        message = f"{self.path}: damaged response cache ({error}); set aside as {aside.name}, a fresh one begins"
        warnings.warn(message, stacklevel=4)
