"""Foreign files as checked rows: JSON, JSON lines, CSV and Parquet, each also gzipped.

Every complaint names the file, the line, and what to do; nothing that cannot be read is guessed at.

    rows = read_rows(Path("questions.jsonl"), problems)
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rlhf_eval.errors import BadRecord, UserError
from rlhf_eval.records import fingerprint

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a file and where it stands there."""

    where: str
    values: Mapping[str, Any]

    def wrong(self, message: str) -> BadRecord:
        """The error to raise about this row."""
        return BadRecord(f"{self.where}: {message}")

    def get(self, name: str) -> Any:
        """The value of a required field; raises BadRecord naming the fields found."""
        if name not in self.values:
            raise self.wrong(f"no field '{name}'; found: {', '.join(self.values) or 'nothing'}")
        return self.values[name]

    def text(self, name: str) -> str:
        """A required text."""
        value = self.get(name)
        if not isinstance(value, str):
            raise self.wrong(f"'{name}' must be text, not {kind_of(value)}")
        return value

    def label(self, name: str, default: str = "") -> str:
        """An optional text or whole number, as text; absent, null and empty become ``default``."""
        value = self.values.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self.wrong(f"'{name}' must be text or a whole number, not {kind_of(value)}")
        return str(value)

    def number(self, name: str) -> float:
        """A required number, neither infinite nor NaN; digits in quotes count as one."""
        value = self.get(name)
        try:
            if isinstance(value, bool) or not math.isfinite(number := float(value)):
                raise TypeError
            return number
        except (TypeError, ValueError, OverflowError):
            raise self.wrong(f"'{name}' must be a number, not {json.dumps(value, default=str)[:40]}") from None

    def items(self, name: str) -> list[Any]:
        """A required list."""
        value = self.get(name)
        if not isinstance(value, list):
            raise self.wrong(f"'{name}' must be a list, not {kind_of(value)}")
        return value

    def inner(self, name: str) -> Row:
        """A required object, as a row of its own."""
        value = self.get(name)
        if not isinstance(value, Mapping):
            raise self.wrong(f"'{name}' must be an object, not {kind_of(value)}")
        return Row(f"{self.where}, '{name}'", value)

    def rows(self, name: str) -> list[Row]:
        """A required list of objects."""
        found = self.items(name)
        for number, value in enumerate(found):
            if not isinstance(value, Mapping):
                raise self.wrong(f"'{name}[{number}]' must be an object, not {kind_of(value)}")
        return [Row(f"{self.where}, '{name}[{number}]'", value) for number, value in enumerate(found)]


def kind_of(value: Any) -> str:
    """The JSON name of a value's type, for messages."""
    names = {bool: "true or false", dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")


def read_bytes(path: Path) -> bytes:
    """The content of a file, unzipped if it ends in .gz, without a byte order mark.

    Raises UserError where there is no such file, it is a folder, cannot be read, is empty, or is a broken gzip file.
    """
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if suffix_of(p) in SUFFIXES)[:3]
        hint = f", for instance {path / inside[0]}" if inside else ""
        raise UserError(f"{path}: a folder where a file is wanted; name a file{hint}")
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a whole gzip file ({error}); copy it again") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    data = data.removeprefix(_BOM)
    if not data or data.isspace():
        raise UserError(f"{path}: the file is empty")
    return data


def hash_of(path: Path) -> str:
    """SHA-256 of the bytes on disk, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_of(path: Path) -> str:
    """What tells the content of a file, or of all files of a folder; hidden ones are not read by anybody."""
    if path.is_file():
        return hash_of(path)
    inside = (file for file in path.rglob("*") if file.is_file())
    known = {file.relative_to(path).as_posix(): file for file in inside}
    return fingerprint({name: hash_of(file) for name, file in sorted(known.items()) if not _hidden(name)})


def _hidden(name: str) -> bool:
    return name.startswith(".") or "/." in name


def suffix_of(path: Path) -> str:
    """The suffix that tells the format: ``.jsonl`` of ``x.jsonl.gz``."""
    return Path(path.stem).suffix.lower() if path.suffix == ".gz" else path.suffix.lower()


def rows_of_folder(path: Path) -> list[Path]:
    """The files of rows in a folder: on the hub's layout those of ``data/`` that train, else all that lie in it."""
    laid = sorted(file for file in (path / "data").glob("*") if suffix_of(file) in SUFFIXES)
    train = [file for file in laid if file.name.startswith("train")]
    return train or laid or sorted(file for file in path.glob("*") if suffix_of(file) in SUFFIXES)


def read_document(path: Path) -> Any:
    """The value of a JSON file; NaN, which some tools write, is read as null."""
    try:
        return parse(read_bytes(path), lenient=True)
    except ValueError as error:
        raise BadRecord(f"{path}: {error}") from error


def read_rows(path: Path, problems: list[str], *, name: str = "", lenient: bool = False) -> Iterator[Row]:
    """The objects in a JSON, JSONL, CSV or Parquet file; rows that are none are told to ``problems`` and left out.

    ``name`` is what messages call the file. Raises UserError where the file as a whole cannot be read.
    """
    suffix, called = suffix_of(path), name or str(path)
    if path.is_file() and suffix not in SUFFIXES:
        raise UserError(f"{path}: files end in {', '.join(SUFFIXES)} (each also with .gz), not '{suffix or path.name}'")
    data = read_bytes(path)
    if suffix == ".parquet":
        return _parquet(data, called)
    if suffix == ".csv":
        return _csv(data, called, problems)
    if data.lstrip()[:1] == b"[":
        return _array(data, called, problems, lenient)
    if suffix == ".json" and not _is_object(data.partition(b"\n")[0]):
        return iter([_single(data, called, lenient)])
    return _lines(data, called, problems, lenient)


def peek(path: Path) -> Mapping[str, Any]:
    """The first row of a file, to tell its format by; empty where it has none or cannot be read."""
    try:
        if path.suffix in {".jsonl", ".ndjson"} and path.is_file():
            with path.open("rb") as lines:
                value = parse(lines.readline(), lenient=True)
            return value if isinstance(value, dict) else {}
        row = next(read_rows(path, [], lenient=True), None)
    except (OSError, ValueError, UserError):
        return {}
    return row.values if row else {}


def parse(data: bytes, *, at: int = 0, lenient: bool = False) -> Any:
    """The JSON value in ``data``, which starts ``at`` bytes into its file; ValueError says why there is none."""
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        return _second_look(data, at, lenient, error)


def _second_look(data: bytes, at: int, lenient: bool, first: Exception) -> Any:
    """What the strict decoder refused: a value after all (NaN, when ``lenient``), or the reason in plain words."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=lambda _: None)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {at + error.start} of the file; save it as UTF-8") from error
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"not valid JSON: {error.msg} at {line}column {error.colno}") from error
    except UnicodeEncodeError as error:
        raise ValueError(
            "holds half a surrogate pair (\\ud800 to \\udfff), which is no character; remove it"
        ) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if lenient:
        return value
    raise ValueError(f"not valid JSON: {first}; NaN and Infinity are none, write null") from first


def _object(value: Any, where: str, problems: list[str]) -> Row | None:
    if isinstance(value, dict):
        return Row(where, value)
    problems.append(f'{where}: a row is an object such as {{"prompt": "..."}}, not {kind_of(value)}')
    return None


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(parse(data), dict)
    except ValueError:
        return False


def _single(data: bytes, name: str, lenient: bool) -> Row:
    """The one object that fills a .json file."""
    try:
        value = parse(data, lenient=lenient)
    except ValueError as error:
        raise BadRecord(f"{name}: {error}") from error
    if not isinstance(value, dict):
        raise BadRecord(f"{name}: the file must hold a list of objects, not {kind_of(value)}")
    return Row(f"{name}:1", value)


def _lines(data: bytes, name: str, problems: list[str], lenient: bool) -> Iterator[Row]:
    at = 0
    for number, line in enumerate(data.split(b"\n"), 1):
        start, at = at, at + len(line) + 1
        if not line or line.isspace():
            continue
        where = f"{name}:{number}"
        try:
            value = parse(line, at=start, lenient=lenient)
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        if row := _object(value, where, problems):
            yield row


def _array(data: bytes, name: str, problems: list[str], lenient: bool) -> Iterator[Row]:
    try:
        values = msgspec.json.decode(data, type=list[msgspec.Raw])
    except ValueError:
        values = []
    if not values:
        try:
            loose = parse(data, lenient=lenient)
        except ValueError as error:
            raise BadRecord(f"{name}: {error}") from error
        for number, value in enumerate(loose, 1):
            if row := _object(value, f"{name}, item {number}", problems):
                yield row
        return
    end, start, line = 0, 0, 1
    for number, raw in enumerate(values, 1):
        text, before = bytes(raw), start
        start = data.index(text, end)
        end, line = start + len(text), line + data.count(b"\n", before, start)
        where = f"{name}:{line} (item {number})"
        try:
            value = parse(text, at=start, lenient=lenient)
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        if row := _object(value, where, problems):
            yield row


def _csv(data: bytes, name: str, problems: list[str]) -> Iterator[Row]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadRecord(f"{name}:{line}: not UTF-8 at byte {error.start} of the file; save it as UTF-8") from error
    before = csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is shorter than real answers
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        found, start = [], 1
        for cells in reader:
            if cells:
                found.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise BadRecord(f"{name}:{start}: not valid CSV: {error}") from error
    finally:
        csv.field_size_limit(before)
    (_, header), *body = found
    twice = {column for column in header if header.count(column) > 1}
    if twice:
        raise BadRecord(f"{name}:1: the column '{sorted(twice)[0]}' is there twice")
    for start, cells in body:
        if len(cells) == len(header):
            yield Row(f"{name}:{start}", {key: cell for key, cell in zip(header, cells, strict=True) if cell != ""})
        else:
            problems.append(
                f"{name}:{start}: {len(cells)} cells under a header of {len(header)}; quote cells with commas"
            )


def _parquet(data: bytes, name: str) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(io.BytesIO(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise BadRecord(f"{name}: not a Parquet file ({str(error).splitlines()[0]})") from error
    number = 0
    for batch in table.iter_batches(batch_size=1024):
        for values in batch.to_pylist():
            number += 1
            yield Row(f"{name}, row {number}", {key: value for key, value in values.items() if value is not None})
