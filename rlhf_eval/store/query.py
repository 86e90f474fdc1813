"""SQL over a store: DuckDB in memory, with a view a table over sealed parts and live logs.

No ``.duckdb`` file is ever shared (a second process could not open it), and no extension is ever fetched.

    select("SELECT judge, count(*) FROM judgments GROUP BY 1", [], runs, folders, report=print)
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_eval.errors import UserError
from rlhf_eval.records import TABLES, R, Run
from rlhf_eval.store import tables
from rlhf_eval.store.reading import PART, Snapshot, files_of

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _View:
    """What one view is made of: parts by path, rows of them that are replaced, and the rows still in logs."""

    parts: list[str]
    dropped: list[tuple[str, int]]
    live: Any


_Sealed = tuple[list[str], list[tuple[str, int]]]
Known = dict[tuple[Path, str], tuple[Any, _Sealed]]
"""What was found in folders without live logs, by folder and table, with the state of the files at that time."""


def select(
    query: str,
    params: Sequence[Any],
    runs: Sequence[Run],
    folders: Sequence[Path],
    *,
    report: Callable[[str], None],
    known: Known,
) -> pa.Table:
    """Answer one SELECT; raises UserError for any other statement and for what DuckDB refuses.

    ``known`` is filled, so that the next query looks only into the files that changed.
    """
    import duckdb

    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise UserError(f"query: {_first_line(error)}") from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise UserError("query: one SELECT is wanted; a store is only read by SQL, never changed")
    for attempt in range(_ATTEMPTS):
        with _connect(folders) as connection:
            connection.register("runs", tables.to_table(Run, list(runs)))
            try:
                for table, kind in TABLES.items():
                    if table in query.lower():  # a view whose name is not in the text cannot be meant
                        _register(connection, table, kind, _view_of(kind, folders, report, known))
                return connection.sql(query, params=list(params)).to_arrow_table()
            except duckdb.IOException as error:  # a run was compacted or removed since it was listed
                if attempt == _ATTEMPTS - 1:
                    raise UserError(f"query: {_first_line(error)}") from error
            except duckdb.Error as error:
                raise UserError(f"query: {_first_line(error)}. Views: runs, {', '.join(TABLES)}") from error
    raise AssertionError("unreachable")


def compact(folder: Path, table: str, kind: type[R], *, report: Callable[[str], None]) -> int:
    """Merge the parts of one table of a run, sorted by prompt where it has one; returns how many there were.

    The merged part is in place before the old ones go, so a reader at any moment finds every record at least once.
    """
    folder = folder.resolve()
    shards = [s for s in Snapshot(kind, [folder], report=report).shards if s.path.suffix == PART]
    if len(shards) < 2:
        return len(shards)
    view = _View([str(s.path) for s in shards], [(str(s.path), row) for s in shards for row in s.dropped], None)
    merged = shards[-1].path.with_stem(shards[-1].path.stem + "c")
    temporary = merged.with_name(f"{merged.name}.{os.getpid()}.tmp")
    columns = tables.arrow_schema(kind).names
    order = "ORDER BY prompt_id" if "prompt_id" in columns else ""
    names = ", ".join(f'"{name}"' for name in columns)
    try:
        with _connect([folder]) as connection:
            _register(connection, table, kind, view)
            connection.execute(
                f"COPY (SELECT {names} FROM {table} {order}) TO {_quoted(str(temporary))} "
                f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {tables.ROW_GROUP})"
            )
        temporary.replace(merged)
    finally:
        temporary.unlink(missing_ok=True)
    for shard in shards:
        shard.path.unlink()
    return len(shards)


def _connect(folders: Sequence[Path]) -> duckdb.DuckDBPyConnection:
    import duckdb

    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": str(Path(tempfile.gettempdir()) / f"rlhf-eval-duckdb-{os.getpid()}"),
        },
    )
    if folders:
        places = ", ".join(_quoted(f"{place}/") for place in sorted({str(f.parent.resolve()) for f in folders}))
        connection.execute(f"SET allowed_directories = [{places}]")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET enable_external_access = false")
    return connection


def _view_of(kind: type[R], folders: Sequence[Path], report: Callable[[str], None], known: Known) -> _View:
    import pyarrow as pa

    parts: list[str] = []
    dropped: list[tuple[str, int]] = []
    live = [_with_run(tables.to_table(kind, []), "")]
    table = tables.table_of(kind)
    for folder in folders:
        state = _state_of(folder, table)
        before, sealed = known.get((folder, table), (None, ([], [])))
        if before is None or before != state:
            sealed = ([], [])
            for shard in Snapshot(kind, [folder], report=report).shards:
                path = str(shard.path.resolve())
                if shard.held is None:
                    sealed[0].append(path)
                    sealed[1].extend((path, row) for row in shard.dropped)
                else:
                    live.append(_with_run(tables.to_table(kind, list(shard.records())), folder.name))
            known[folder, table] = (state, sealed)
        parts += sealed[0]
        dropped += sealed[1]
    return _View(parts, dropped, pa.concat_tables(live))


def _state_of(folder: Path, table: str) -> Any:
    """Names, times and sizes of a table's files; None while one of them is a log, which may grow at any moment."""
    files = files_of(folder, table)
    if any(path.suffix != PART for path in files):
        return None
    try:
        return [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files]
    except FileNotFoundError:
        return None


def _with_run(table: pa.Table, run_id: str) -> pa.Table:
    import pyarrow as pa

    return table.add_column(0, "run_id", pa.array([run_id] * table.num_rows, pa.string()))


def _register(connection: duckdb.DuckDBPyConnection, name: str, kind: type, view: _View) -> None:
    import pyarrow as pa

    sources = []
    if view.live is not None:
        connection.register(f"_{name}_live", view.live)
        sources.append(f"SELECT * FROM _{name}_live")
    if view.parts:
        without = ""
        if view.dropped:
            paths, rows = zip(*view.dropped, strict=True)
            connection.register(f"_{name}_dropped", pa.table({"path": paths, "row": pa.array(rows, pa.int64())}))
            without = f"ANTI JOIN _{name}_dropped d ON p.filename = d.path AND p.file_row_number = d.row"
        files = ", ".join(_quoted(path) for path in view.parts)
        sources.append(
            f"SELECT string_split(filename, '/')[-3] AS run_id, p.* EXCLUDE (filename, file_row_number) "
            f"FROM read_parquet([{files}], union_by_name = true, filename = true, file_row_number = true) p {without}"
        )
    columns = ", ".join(f'"{column}"' for column in ["run_id", *tables.arrow_schema(kind).names])
    connection.execute(f"CREATE VIEW {name} AS SELECT {columns} FROM ({' UNION ALL BY NAME '.join(sources)})")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
