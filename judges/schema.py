"""JSON Schema, the part that structured output uses, checked without a package.

Known keywords are checked as draft 2020-12 says; one that is not known is an error of the schema, because a constraint that
is silently skipped would pass wrong answers.

    from judges.schema import violation
    violation({"a": 1}, {"type": "object", "required": ["b"]}) == "$: 'b' is missing"
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rlhf_eval.errors import UserError, nearest

TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or (isinstance(v, float) and v.is_integer())),
}
LABELS = frozenset(
    {"$schema", "$id", "$defs", "definitions", "title", "description", "default", "examples", "$comment", "format"}
)
"""Keywords that describe and do not constrain."""

Found = Iterator[str]


def violation(value: Any, schema: Any) -> str | None:
    """The first thing wrong with ``value``, as ``path: what``; None where it obeys ``schema``.

    Raises UserError on a schema that uses an unknown keyword or type.
    """
    return next(_check(value, schema, schema, "$"), None)


def _check(value: Any, schema: Any, root: Any, path: str) -> Found:
    if isinstance(schema, bool):
        if not schema:
            yield f"{path}: nothing is allowed here"
        return
    if not isinstance(schema, Mapping):
        raise UserError(f"a JSON schema is an object or a boolean, not {type(schema).__name__} (at {path})")
    for keyword, wanted in schema.items():
        if keyword in LABELS:
            continue
        if keyword not in KEYWORDS:
            raise UserError(f"the JSON schema uses '{keyword}', which is not checked here.{nearest(keyword, KEYWORDS)}")
        yield from KEYWORDS[keyword](value, wanted, schema, root, path)


def _type(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    names = wanted if isinstance(wanted, list) else [wanted]
    for name in names:
        if name not in TYPES:
            raise UserError(f"the JSON schema asks for the type '{name}'.{nearest(str(name), TYPES)}")
    if not any(TYPES[name](value) for name in names):
        yield f"{path}: not of type {' or '.join(names)}"


def _equal(a: Any, b: Any) -> bool:
    """Equality of JSON values: ``true`` is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    return bool(a == b)


def _enum(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    if not any(_equal(value, one) for one in wanted):
        yield f"{path}: not one of the allowed values"


def _const(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    if not _equal(value, wanted):
        yield f"{path}: not the required value"


def _required(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    if isinstance(value, dict):
        yield from (f"{path}: '{name}' is missing" for name in wanted if name not in value)


def _properties(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    if isinstance(value, dict):
        for name, inner in wanted.items():
            if name in value:
                yield from _check(value[name], inner, root, f"{path}.{name}")


def _additional(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    if isinstance(value, dict):
        for name in value.keys() - schema.get("properties", {}).keys():
            yield from _check(value[name], wanted, root, f"{path}.{name}")


def _items(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _check(item, wanted, root, f"{path}[{i}]")


def _unique(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    if wanted and isinstance(value, list) and any(_equal(a, b) for i, a in enumerate(value) for b in value[:i]):
        yield f"{path}: items repeat"


def _pattern(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    if isinstance(value, str) and not re.search(wanted, value):
        yield f"{path}: does not match {wanted}"


def _multiple(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    if TYPES["number"](value) and not math.isclose(value / wanted, round(value / wanted), rel_tol=0, abs_tol=1e-9):
        yield f"{path}: not a multiple of {wanted}"


def _bound(
    of: str, measure: Callable[[Any], Any], holds: Callable[[Any, Any], bool], words: str
) -> Callable[..., Found]:
    def check(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
        if TYPES[of](value) and not holds(measure(value), wanted):
            yield f"{path}: {words} {wanted}"

    return check


def _all_of(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    for inner in wanted:
        yield from _check(value, inner, root, path)


def _matching(value: Any, wanted: Any, root: Any, path: str) -> int:
    return sum(next(_check(value, inner, root, path), None) is None for inner in wanted)


def _any_of(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    if not _matching(value, wanted, root, path):
        yield f"{path}: matches none of the alternatives"


def _one_of(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    count = _matching(value, wanted, root, path)
    if count != 1:
        yield f"{path}: matches {count} of the alternatives, not exactly one"


def _not(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    if _matching(value, [wanted], root, path):
        yield f"{path}: matches what is forbidden"


def _ref(value: Any, wanted: Any, schema: Any, root: Any, path: str) -> Found:
    target = root
    for step in str(wanted).removeprefix("#").strip("/").split("/"):
        if step:
            target = target.get(step) if isinstance(target, Mapping) else None
    if target is None or not str(wanted).startswith("#"):
        raise UserError(f"the JSON schema refers to '{wanted}', which is not in it")
    yield from _check(value, target, root, path)


KEYWORDS: Mapping[str, Callable[..., Found]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "uniqueItems": _unique,
    "pattern": _pattern,
    "multipleOf": _multiple,
    "minimum": _bound("number", lambda v: v, lambda v, w: v >= w, "less than"),
    "maximum": _bound("number", lambda v: v, lambda v, w: v <= w, "more than"),
    "exclusiveMinimum": _bound("number", lambda v: v, lambda v, w: v > w, "not more than"),
    "exclusiveMaximum": _bound("number", lambda v: v, lambda v, w: v < w, "not less than"),
    "minLength": _bound("string", len, lambda v, w: v >= w, "shorter than"),
    "maxLength": _bound("string", len, lambda v, w: v <= w, "longer than"),
    "minItems": _bound("array", len, lambda v, w: v >= w, "fewer items than"),
    "maxItems": _bound("array", len, lambda v, w: v <= w, "more items than"),
    "minProperties": _bound("object", len, lambda v, w: v >= w, "fewer properties than"),
    "maxProperties": _bound("object", len, lambda v, w: v <= w, "more properties than"),
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "$ref": _ref,
}
"""Keyword to its check."""
