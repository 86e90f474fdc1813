"""Reading a run's tables: sealed parts and live logs as one stream of records, each id once.

A folder may hold the same id twice: two processes worked on one run, or a process died between two steps of sealing. Of
several records with one id a success beats a failure, and then the later beats the earlier. Records come in the order
in which they were written, as long as the run is not compacted.

    for judgment in Snapshot(Judgment, [folder], report=print).records(): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from rlhf_eval.errors import BadRecord, UserError
from rlhf_eval.records import TABLES, R
from rlhf_eval.store import tables

if TYPE_CHECKING:
    import pyarrow as pa

LOG, PART, SPOILT = ".jsonl", ".parquet", ".bad"
_ATTEMPTS = 5
_LINES_AT_ONCE = 1000
_TAIL = 16
"""Letters of an id that are compared: two 64-bit words."""


def files_of(folder: Path, table: str) -> list[Path]:
    """The files of one table of a run, oldest first; a log that is already sealed is not among them.

    Logs are listed before parts: one that is sealed meanwhile is then seen twice, never missed.
    """
    logs = list((folder / "log").glob(f"{table}-*{LOG}"))
    parts = list((folder / "parts").glob(f"{table}-*{PART}"))
    sealed = {part.stem for part in parts}
    return sorted([*parts, *(log for log in logs if log.stem not in sealed)], key=lambda path: path.stem)


def read_log(path: Path) -> tuple[list[Any], list[str]]:
    """The records of one log and the faults of its lines; a torn last line was never acknowledged and is no fault."""
    records: list[Any] = []
    faults: list[str] = []
    for some, wrong in read_log_by(path, _LINES_AT_ONCE):
        records += some
        faults += wrong
    return records, faults


def read_log_by(path: Path, size: int = _LINES_AT_ONCE) -> Iterator[tuple[list[Any], list[str]]]:
    """The same, ``size`` lines in memory at a time."""
    kind = TABLES[path.name.partition("-")[0]]
    records: list[Any] = []
    faults: list[str] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                records.append(tables.decode(kind, line[:-1]))
            except BadRecord as error:
                faults.append(f"{path}:{number}: skipped a broken line: {error}")
            if number % size == 0:
                yield records, faults
                records, faults = [], []
    yield records, faults


@dataclass(slots=True)
class Shard(Generic[R]):
    """One file of a table: a sealed part, read when it is wanted, or a live log, held in memory."""

    kind: type[R]
    path: Path
    held: list[R] | None = None
    dropped: set[int] = field(default_factory=set)
    """Rows that another row with the same id replaces."""

    def keys(self) -> pa.Table:
        """Two columns, a row for each record: ``id`` and ``failed``."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.held is not None:
            ids = pa.array([tables.id_of(r) for r in self.held], pa.string())
            failed = pa.array([getattr(r, "error", None) is not None for r in self.held], pa.bool_())
            return pa.table({"id": ids, "failed": failed})
        columns = tables.read_columns(self.path, ["id", "error"])
        if "error" in columns.column_names:
            failed = pc.is_valid(columns["error"])
        else:
            failed = pa.repeat(pa.scalar(False), columns.num_rows)
        return pa.table({"id": columns["id"], "failed": failed})

    def records(self) -> Iterator[R]:
        """Its records, without the dropped ones."""
        source = self.held if self.held is not None else tables.read_parquet(self.kind, self.path)
        if not self.dropped:
            yield from source
            return
        yield from (record for row, record in enumerate(source) if row not in self.dropped)


class Snapshot(Generic[R]):
    """What a table of some runs holds at this moment, each id once.

    ``report`` is told of every file or line that cannot be read; reading goes on without it.
    """

    def __init__(self, kind: type[R], folders: Sequence[Path], *, report: Callable[[str], None]) -> None:
        self._kind, self._report = kind, report
        self._table = tables.table_of(kind)
        for attempt in range(_ATTEMPTS):
            try:
                self.shards, self._keys = self._take(folders)
                break
            except FileNotFoundError:  # sealed, compacted or removed between listing and opening: look again
                if attempt == _ATTEMPTS - 1:
                    raise UserError(f"{folders[0].parent}: the files keep changing; read again") from None
        _drop_repeated(self.shards, self._keys)

    def records(self) -> Iterator[R]:
        """Every record, a batch in memory at a time.

        Raises UserError where a part is damaged, or the run is compacted or removed meanwhile.
        """
        for shard in self.shards:
            try:
                yield from shard.records()
            except FileNotFoundError:
                raise UserError(f"{shard.path}: compacted or removed while it was being read; read again") from None
            except (OSError, ValueError) as error:
                raise UserError(f"{shard.path}: damaged ({error}); put back a copy of it, or remove the run") from error

    def ids(self, *, failures: bool) -> set[str]:
        """The ids of all records; without ``failures`` only of those that succeeded."""
        known: set[str] = set()
        for keys in self._keys:
            known.update(keys["id"].to_pylist() if failures else keys.filter(_not(keys["failed"]))["id"].to_pylist())
        return known

    def _take(self, folders: Sequence[Path]) -> tuple[list[Shard[R]], list[pa.Table]]:
        shards, keys = [], []
        for folder in folders:
            for path in files_of(folder, self._table):
                shard = self._open(path)
                known = self._keys_of(shard)
                if known is not None:
                    shards.append(shard)
                    keys.append(known)
            for path in (folder / "log").glob(f"{self._table}-*{SPOILT}"):
                self._report(f"{path}: held broken lines, which were skipped; the rest of it is in the run's parts")
        return shards, keys

    def _open(self, path: Path) -> Shard[R]:
        if path.suffix == PART:
            return Shard(self._kind, path)
        held, faults = read_log(path)
        for fault in faults:
            self._report(fault)
        return Shard(self._kind, path, held)

    def _keys_of(self, shard: Shard[R]) -> pa.Table | None:
        try:
            return shard.keys()
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError) as error:
            self._report(f"{shard.path}: skipped, not a readable part: {error}")
            return None


def _not(column: Any) -> Any:
    import pyarrow.compute as pc

    return pc.invert(column)


def _drop_repeated(shards: Sequence[Shard[Any]], keys: Sequence[pa.Table]) -> None:
    """Mark every row whose id has a better one: compared in columns, so that a million unique ids cost 0.1 s."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not keys:
        return
    every = pa.concat_tables(keys)
    if _surely_unique(every["id"]):
        return
    counts = pc.value_counts(every["id"])
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(repeated) == 0:
        return
    at = pc.indices_nonzero(pc.is_in(every["id"], repeated))
    rows = every.take(at).to_pylist()
    best: dict[str, int] = {}
    for number, row in enumerate(rows):
        held = best.setdefault(row["id"], number)
        if rows[held]["failed"] or not row["failed"]:
            best[row["id"]] = number
    losers = set(range(len(rows))) - set(best.values())
    starts = _starts(keys)
    for number in losers:
        position = at[number].as_py()
        shard = _last_at_most(starts, position)
        shards[shard].dropped.add(position - starts[shard])


def _surely_unique(ids: pa.ChunkedArray) -> bool:
    """Whether no id occurs twice, told by 64 bits of each: of a million ids in a sixth of the time of counting them.

    Equal ids have equal bits, so a True is certain; a False says nothing.
    """
    import numpy as np
    import pyarrow as pa

    seen = []
    for chunk in ids.chunks if ids.type == pa.string() else ():
        _, offsets, data = chunk.buffers()
        if not len(chunk) or data is None:
            continue
        at = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        width = int(at[1] - at[0])
        if width < _TAIL or chunk.null_count or (np.diff(at) != width).any():
            return False
        letters = np.frombuffer(data, np.uint8)[at[0] : at[-1]].reshape(len(chunk), width)
        halves = np.ascontiguousarray(letters[:, -_TAIL:]).view(np.uint64)
        seen.append(halves[:, 0] * np.uint64(0x9E3779B97F4A7C15) + halves[:, 1])
    if sum(map(len, seen)) < len(ids):
        return False
    bits = np.sort(np.concatenate(seen)) if seen else np.empty(0, np.uint64)
    return not bool((bits[1:] == bits[:-1]).any())


def _starts(keys: Sequence[pa.Table]) -> list[int]:
    starts = [0]
    for known in keys[:-1]:
        starts.append(starts[-1] + known.num_rows)
    return starts


def _last_at_most(starts: Sequence[int], position: int) -> int:
    from bisect import bisect_right

    return bisect_right(starts, position) - 1
