"""Settings: a frozen dataclass per plugin, filled from YAML and ``--set``, with no silent guesses.

A ``Config`` has a default and a doc line for every field. An unknown key names its nearest neighbour, a wrong type names
the field, and no setting changes another.

    config = build(Config, {"n": 8}, where="generate")
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from rlhf_eval.errors import UserError, nearest

C = TypeVar("C")
_BARE = re.compile(r"^([-+]?)(\.\d+(?:[eE][-+]?\d+)?)$")

SEEDS = range(2**32)
"""Seeds that every library takes: none takes a negative one, and NumPy's global generator no larger one."""


def build(kind: type[C], settings: Mapping[str, Any], *, where: str) -> C:
    """A ``kind`` from plain values.

    Raises UserError on an unknown key or word (naming the nearest one) or a value of the wrong type; ``where`` names the
    table.
    """
    _refuse_unknown(kind, settings, where)
    try:
        made = msgspec.convert({name: _whole(value) for name, value in settings.items()}, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {_plain(str(error))}") from error
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    for f in fields(kind):  # type: ignore[arg-type]
        if isinstance(value := getattr(made, f.name), float) and math.isnan(value):
            raise UserError(f"{where}: {f.name} is nan; give a number")
    return made


def _whole(value: Any) -> Any:
    """A number written without its 0 as a model's option, such as ``.9``, as msgspec reads it."""
    return _BARE.sub(r"\g<1>0\2", value) if isinstance(value, str) else value


def _refuse_unknown(kind: type, settings: Mapping[str, Any], where: str) -> None:
    """Raise UserError on the first key or word that ``kind``, or a table of settings inside it, does not know."""
    known = [f.name for f in fields(kind)]
    for name in settings:
        if name not in known:
            raise UserError(f"{where} has no setting '{name}'.{nearest(name, known)}")
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint) and isinstance(settings.get(name), Mapping):
            _refuse_unknown(hint, settings[name], f"{where}: {name}")  # type: ignore[arg-type]
        words, given = _words(hint), settings.get(name)
        if words and given is not None and given not in words:
            raise UserError(f"{where}: {name} is '{given}'.{nearest(str(given), words)}")


def _words(hint: Any) -> tuple[str, ...]:
    """The words that a field allows: those of a Literal, or of the one beside None; empty for any other field."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        inner = [_words(part) for part in get_args(hint) if part is not NoneType]
        return tuple(word for words in inner for word in words) if all(inner) else ()
    return ()


def _table(hint: Any) -> type | None:
    """The dataclass that a field holds, or may hold beside None."""
    if get_origin(hint) in (Union, UnionType):
        inner = [part for part in get_args(hint) if part is not NoneType]
        return _table(inner[0]) if len(inner) == 1 else None
    return hint if isinstance(hint, type) and is_dataclass(hint) else None


def as_settings(config: Any) -> dict[str, Any]:
    """The config as plain values, every default included: what a run folder keeps."""
    settings: dict[str, Any] = msgspec.to_builtins(config)
    return settings


def read_yaml(path: Path) -> dict[str, Any]:
    """The table in a YAML file; raises UserError naming the file and the line."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice, of which YAML itself would drop the first."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                    continue
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"'{key.value}' stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    try:
        table = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}") from error
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise UserError(f"{path}: a table of settings is wanted, not a {type(table).__name__}")
    _refuse_bare_keys(table, str(path))
    return table


def write_yaml(table: Mapping[str, Any]) -> str:
    """``table`` as YAML text, in its own order."""
    import yaml

    return str(yaml.safe_dump(dict(table), sort_keys=False, allow_unicode=True, width=100))


def apply_sets(table: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of ``table`` with every ``a.b=value`` of the command line laid over it; values are read as YAML."""
    import yaml

    result = _copy(table)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise UserError(f"--set {assignment}: write it as key=value, for instance --set judge.temperature=0")
        *parents, leaf = path.split(".")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise UserError(f"--set {assignment}: '{parent}' is a value, not a table")
        try:
            inner[leaf] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {assignment}: the value is not valid YAML") from error
        _refuse_bare_keys(inner[leaf], f"--set {assignment}")
    return result


def _refuse_bare_keys(value: Any, where: str) -> None:
    """Raise UserError on a key that YAML does not read as text, as it does not read ``3:`` and ``on:``."""
    if isinstance(value, list):
        for inner in value:
            _refuse_bare_keys(inner, where)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UserError(f"{where}: YAML reads a key as {key!r}, which is no name; write it in quotes")
            _refuse_bare_keys(inner, where)


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a Config, as ``--help`` shows it."""

    name: str
    default: Any
    doc: str
    words: tuple[str, ...] = ()
    """The words that it allows, where only some are."""
    table: type | None = None
    """The kind of its own settings, where it is a table of such."""


def describe(kind: type) -> list[Setting]:
    """The fields of a Config with their defaults and the doc line that stands under each."""
    hints = get_type_hints(kind)
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        docs |= _field_docs(base) if is_dataclass(base) else {}
    return [
        Setting(f.name, _default(f), docs.get(f.name, ""), _words(hints[f.name]), _table(hints[f.name]))
        for f in fields(kind)
    ]


def _default(f: Any) -> Any:
    if f.default is not MISSING:
        return f.default
    return f.default_factory() if f.default_factory is not MISSING else None


def _field_docs(kind: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            docs[statement.target.id] = " ".join(str(following.value.value).split())
    return docs


def _copy(table: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in table.items()}


def _plain(message: str) -> str:
    return message.replace(" - at `$.", " - at `")
