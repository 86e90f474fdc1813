"""JSON Schema: the same verdicts as the reference implementation, and no keyword silently skipped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judges.schema import violation
from rlhf_eval.errors import UserError

jsonschema = pytest.importorskip("jsonschema")

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, 2.0, "", "a", "ab", "b1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def schemas() -> st.SearchStrategy[Any]:
    names = ["object", "array", "string", "boolean", "null", "number", "integer"]
    leaf = st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(names) | st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True),
            "enum": st.lists(values, min_size=1, max_size=3),
            "const": values,
            "minimum": st.integers(-2, 2),
            "maximum": st.integers(-2, 2),
            "exclusiveMinimum": st.integers(-2, 2),
            "exclusiveMaximum": st.integers(-2, 2),
            "multipleOf": st.sampled_from([0.5, 1, 2]),
            "minLength": st.integers(0, 2),
            "maxLength": st.integers(0, 2),
            "pattern": st.sampled_from(["^a", "1$", "b"]),
            "minItems": st.integers(0, 2),
            "maxItems": st.integers(0, 2),
            "uniqueItems": st.booleans(),
            "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
            "minProperties": st.integers(0, 2),
            "maxProperties": st.integers(0, 2),
            "title": st.just("a label"),
        },
    )

    def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.fixed_dictionaries(
            {},
            optional={
                "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
                "additionalProperties": inner,
                "items": inner,
                "allOf": st.lists(inner, min_size=1, max_size=2),
                "anyOf": st.lists(inner, min_size=1, max_size=2),
                "oneOf": st.lists(inner, min_size=1, max_size=2),
                "not": inner,
            },
        )

    return st.recursive(st.booleans() | leaf, nested, max_leaves=4)


@settings(max_examples=60, deadline=None)
@given(values, schemas())
def test_verdicts_are_those_of_the_reference_implementation(value: Any, schema: Any) -> None:
    theirs = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (violation(value, schema) is None) == theirs


def test_what_is_wrong_is_said_with_its_place() -> None:
    schema = {"type": "object", "properties": {"a": {"items": {"type": "integer"}}}, "required": ["a"]}
    assert violation({"a": [1, "x"]}, schema) == "$.a[1]: not of type integer"
    assert violation({}, schema) == "$: 'a' is missing"
    assert violation({"a": [1]}, schema) is None


def test_references_within_the_schema_are_followed() -> None:
    schema = {
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
        "$ref": "#/$defs/node",
    }
    assert violation({"next": {"next": {}}}, schema) is None
    assert violation({"next": {"next": 1}}, schema) == "$.next.next: not of type object"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"minContains": 1}, "'minContains', which is not checked here"),
        ({"requred": ["a"]}, "Did you mean 'required'"),
        ({"type": "int"}, "type 'int'"),
        ({"$ref": "#/nowhere"}, "is not in it"),
        (7, "an object or a boolean"),
    ],
)
def test_a_schema_that_would_be_half_checked_is_refused(schema: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        violation({}, schema)
