"""Records to Parquet, to log lines, and back, with nothing lost.

The Arrow schema of a table is derived from the annotations of its record type: tuples are lists, nested records are
structs, ``X | None`` is nullable, and a Mapping is a column of JSON text. Metadata is therefore JSON: numbers in it
must be finite (others become null), tuples come back as lists. Everything else round-trips exactly, infinities in
float fields included. Lone surrogates (``"\\ud800"``) are no Unicode text; a record that holds one is refused when it
is written.

    write_parquet(path, to_table(Prompt, prompts))
    for prompt in read_parquet(Prompt, path): ...
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from rlhf_eval.errors import BadRecord, nearest
from rlhf_eval.records import SCHEMA, TABLES, R, fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 50_000
_CHUNK = 1_000
_INT64 = range(-(2**63), 2**63)
F = TypeVar("F", bound=Callable[..., Any])


def _by_kind(function: F) -> F:
    return cast(F, cache(function))


def table_of(kind: type) -> str:
    """The name of the table that holds records of ``kind``; raises BadRecord for anything else."""
    for name, known in TABLES.items():
        if known is kind:
            return name
    raise BadRecord(f"{kind.__name__} has no table.{nearest(kind.__name__, (k.__name__ for k in TABLES.values()))}")


def id_of(record: Any) -> str:
    """The id under which a store knows ``record``; an Estimate has none: name, method and settings tell it."""
    known = getattr(record, "id", None)
    return known if known is not None else fingerprint("estimate", record.name, record.method, record.settings)


# Log lines ------------------------------------------------------------------------------------------------------------


def encode(record: Any) -> bytes:
    """``record`` as one line of JSON without its newline.

    Raises BadRecord if it holds a lone surrogate, a value that JSON cannot hold or an integer beyond 64 bits.
    """
    paths = _paths(type(record))
    try:
        for number in paths.integers(record):
            if number is not None and number not in _INT64:
                raise BadRecord(f"{_named(record)}: {number} does not fit in 64 bits")
        if math.isfinite(sum(paths.floats(record))):
            return msgspec.json.encode(record, enc_hook=plain)
        row = msgspec.to_builtins(record, enc_hook=plain)
        for path in paths.float_names:
            _replace(row, path.split("."), str)
        return msgspec.json.encode(row)
    except UnicodeEncodeError as error:
        text = f"U+{ord(error.object[error.start]):04X}"
        raise BadRecord(f"{_named(record)}: a lone surrogate ({text}) is not Unicode text; replace it first") from error
    except (TypeError, OverflowError) as error:
        raise BadRecord(f"{_named(record)}: {error}") from error


def decode(kind: type[R], line: bytes) -> R:
    """The record that ``encode`` wrote; raises BadRecord where the line is broken."""
    try:
        record: R = _decoder(kind).decode(line)
    except msgspec.ValidationError:
        return _decode_non_finite(kind, line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRecord(f"not valid JSON: {error}") from error
    return record


def _decode_non_finite(kind: type[R], line: bytes) -> R:
    row = msgspec.json.decode(line)
    try:
        for path in _paths(kind).float_names:
            _replace(row, path.split("."), float)
        return msgspec.convert(row, kind)
    except (msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"{kind.__name__}: {error}") from error


def _replace(row: dict[str, Any], path: Sequence[str], by: type) -> None:
    """JSON has no infinity: a non-finite float stands in a line as the text ``inf``, ``-inf`` or ``nan``."""
    *parents, leaf = path
    for parent in parents:
        row = row.get(parent, {})
    value = row.get(leaf)
    if isinstance(value, str) if by is float else not math.isfinite(value or 0.0):
        row[leaf] = by(value)


def plain(value: Any) -> Any:
    """NumPy scalars and arrays are numbers and lists; what else JSON lacks is refused."""
    convert = getattr(value, "tolist", None)
    if convert is None:
        raise TypeError(f"a {type(value).__name__} is no JSON value")
    return convert()


def _named(record: Any) -> str:
    return f"{type(record).__name__} {getattr(record, 'id', None) or getattr(record, 'name', '')}"


class _Paths:
    """The scalar number fields of a record type, as dotted names and as getters that fetch them all in one call."""

    def __init__(self, kind: type) -> None:
        self.float_names = tuple(_leaves(kind, float))
        self.floats = _getter(self.float_names)
        self.integers = _getter(tuple(_leaves(kind, int)))


def _getter(names: Sequence[str]) -> Any:
    if not names:
        return lambda _: ()
    getter = attrgetter(*names)
    return getter if len(names) > 1 else lambda record: (getter(record),)


def _leaves(kind: type, wanted: type, prefix: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        inner = _without_none(hint)
        if inner is wanted:
            yield prefix + name
        elif is_dataclass(inner):
            yield from _leaves(inner, wanted, f"{prefix}{name}.")  # type: ignore[arg-type]


_paths = _by_kind(_Paths)


@_by_kind
def _decoder(kind: type) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


# Arrow and Parquet ----------------------------------------------------------------------------------------------------


@_by_kind
def arrow_schema(kind: type) -> pa.Schema:
    """The columns of a table of ``kind``; Estimates get an ``id`` column of their own."""
    import pyarrow as pa

    hints = get_type_hints(kind)
    columns = [pa.field(f.name, _arrow_type(hints[f.name])) for f in fields(kind)]
    if "id" not in hints:
        columns.insert(0, pa.field("id", pa.string()))
    return pa.schema(columns, metadata={"rlhf_eval.schema": str(SCHEMA)})


def to_table(kind: type[R], records: Sequence[R]) -> pa.Table:
    """``records`` as an Arrow table, made a little at a time so that other threads are not held up for long."""
    import pyarrow as pa

    starts = range(0, len(records), _CHUNK) or (0,)
    return pa.concat_tables([_to_table(kind, records[start : start + _CHUNK]) for start in starts])


def joined(pieces: Sequence[pa.Table]) -> pa.Table:
    """Tables of one kind, one after another."""
    import pyarrow as pa

    return pa.concat_tables(pieces)


def _to_table(kind: type[R], records: Sequence[R]) -> pa.Table:
    import pyarrow as pa

    schema, mappings = arrow_schema(kind), _mappings(kind)
    columns = []
    for column in schema:
        if column.name == "id":
            values: list[Any] = [id_of(r) for r in records]
        else:
            values = list(map(attrgetter(column.name), records))
        if column.name in mappings:
            values = [msgspec.json.encode(v, enc_hook=plain).decode() for v in values]
        elif pa.types.is_struct(column.type) and all(values):  # a None among them goes the longer way
            columns.append(_struct(values, column.type))
            continue
        elif pa.types.is_nested(column.type):
            values = msgspec.to_builtins(values, enc_hook=plain)
        columns.append(pa.array(values, column.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _struct(values: Sequence[Any], kind: pa.DataType) -> pa.StructArray:
    """Nested records, field by field: several times faster than from a dict each."""
    import pyarrow as pa

    parts = [pa.array(list(map(attrgetter(part.name), values)), part.type) for part in kind]
    return pa.StructArray.from_arrays(parts, fields=list(kind))


def from_batch(kind: type[R], batch: pa.RecordBatch) -> list[R]:
    """The records of one Arrow batch (or table), in its order."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    mappings = _mappings(kind)
    rows = batch.select([name for name in batch.schema.names if name in known]).to_pylist()
    for row in rows:
        for name in mappings:
            if row.get(name) is not None:
                row[name] = msgspec.json.decode(row[name])
    try:
        return msgspec.convert(rows, list[kind])  # type: ignore[valid-type]
    except msgspec.ValidationError:  # beside newer rows those of an older version have null for what it did not know
        return msgspec.convert([_told(row, mappings) for row in rows], list[kind])  # type: ignore[valid-type]


def _told(row: Mapping[str, Any], mappings: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The row without nulls, also in the records inside it: their fields have defaults."""
    told = {name: value for name, value in row.items() if value is not None}
    return {name: _told(v) if isinstance(v, dict) and name not in mappings else v for name, v in told.items()}


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write ``table`` beside ``path`` and move it there in one step, so that no reader ever sees half of it."""
    import pyarrow.parquet as pq

    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP, write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        _give_back()


def _give_back() -> None:
    """Return what Arrow keeps for the next table, tens of megabytes that a long run would hold between its parts."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def read_parquet(kind: type[R], path: Path, *, batch_size: int = 1024) -> Iterator[R]:
    """The records of one Parquet file, a batch in memory at a time.

    Without Arrow's threads, which each keep megabytes: to make the records costs more than to read the file.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(batch_size=batch_size, use_threads=False):
            yield from from_batch(kind, batch)
    _give_back()


def read_columns(path: Path, names: Iterable[str]) -> pa.Table:
    """Those of ``names`` that the Parquet file has, without touching its other columns."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        present = set(file.schema_arrow.names)
        return file.read(columns=[name for name in names if name in present])


@_by_kind
def _mappings(kind: type) -> frozenset[str]:
    return frozenset(name for name, hint in get_type_hints(kind).items() if get_origin(hint) is Mapping)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (a for a in get_args(hint) if a is not type(None))
    return hint


def _arrow_type(hint: Any) -> pa.DataType:
    import pyarrow as pa

    hint = _without_none(hint)
    simple = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if hint in simple:
        return simple[hint]
    origin = get_origin(hint)
    if origin is Literal or origin is Mapping:
        return pa.string()
    if origin is tuple:
        return pa.list_(_arrow_type(get_args(hint)[0]))
    if is_dataclass(hint):
        inner = get_type_hints(hint)
        return pa.struct([pa.field(f.name, _arrow_type(inner[f.name])) for f in fields(hint)])
    raise TypeError(f"no Arrow type for {hint}")
