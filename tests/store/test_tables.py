"""Records survive log lines and Parquet exactly, or are refused when they are written."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_eval.errors import BadRecord
from rlhf_eval.records import (
    TABLES,
    Completion,
    Demonstration,
    Estimate,
    Judgment,
    Message,
    Outcome,
    PreferencePair,
    Prompt,
    Run,
    Sampling,
    Usage,
)
from rlhf_eval.store import tables

NASTY = st.sampled_from(
    [
        "",
        '"',
        "'",
        "\0",
        "\n",
        "\r\n",
        "\x1b[0m",
        "\u2028",
        "\ufeff",
        "\U0001f9d1\u200d\U0001f680",
        "null",
        "inf",
        "\\ud800",
    ]
)
TEXT = st.one_of(NASTY, st.text(max_size=30))
INT = st.integers(-(2**63), 2**63 - 1)
REAL = st.floats(allow_nan=False)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), INT, FINITE, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
METADATA = st.dictionaries(TEXT, JSON, max_size=3)
MESSAGE = st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), TEXT)
MESSAGES = st.lists(MESSAGE, max_size=3).map(tuple)
USAGE = st.builds(Usage, prompt_tokens=INT, completion_tokens=INT, cost=REAL, seconds=REAL)
SAMPLING = st.builds(
    Sampling,
    temperature=st.floats(0, allow_nan=False, allow_infinity=False),
    top_p=st.floats(0, 1, exclude_min=True),
    max_tokens=st.integers(1, 2**40),
    stop=st.lists(TEXT, max_size=2).map(tuple),
    seed=st.none() | INT,
)


@st.composite
def judgments(draw: st.DrawFn) -> Judgment:
    n = draw(st.integers(1, 4))
    error = draw(st.none() | TEXT)
    return Judgment(
        id=draw(TEXT),
        prompt_id=draw(TEXT),
        completion_ids=tuple(draw(st.lists(TEXT, min_size=n, max_size=n))),
        judge=draw(TEXT),
        order=tuple(draw(st.permutations(range(n)))),
        scores=() if error is not None else tuple(draw(st.lists(FINITE, min_size=n, max_size=n))),
        repeat=draw(INT),
        rationale=draw(TEXT),
        error=error,
        usage=draw(USAGE),
        metadata=draw(METADATA),
    )


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    low, value, high = sorted(draw(st.tuples(REAL, REAL, REAL)))
    return Estimate(
        name=draw(TEXT),
        value=value,
        low=low,
        high=high,
        n=draw(INT),
        failed=draw(INT),
        method=draw(TEXT),
        settings=draw(METADATA),
    )


RECORDS = {
    Prompt: st.builds(
        Prompt,
        id=TEXT,
        messages=MESSAGES.map(lambda turns: (*turns, Message("user", "Why?"))),
        reference=st.none() | TEXT,
        category=TEXT,
        source=TEXT,
        key=TEXT,
        metadata=METADATA,
    ),
    Completion: st.builds(
        Completion,
        id=TEXT,
        prompt_id=TEXT,
        model=TEXT,
        text=TEXT,
        sample=INT,
        sampling=SAMPLING,
        generator=TEXT,
        finish_reason=TEXT,
        error=st.none() | TEXT,
        usage=USAGE,
        metadata=METADATA,
    ),
    Judgment: judgments(),
    PreferencePair: st.builds(
        PreferencePair,
        id=TEXT,
        prompt=MESSAGES,
        chosen=MESSAGES.map(lambda turns: (*turns, Message("assistant", "yes"))),
        rejected=MESSAGES.map(lambda turns: (*turns, Message("assistant", "no"))),
        probability=st.floats(0.5, 1),
        margin=FINITE,
        labeler=TEXT,
        rule=TEXT,
        prompt_id=TEXT,
        chosen_id=TEXT,
        rejected_id=TEXT,
        judgment_ids=st.lists(TEXT, max_size=3).map(tuple),
        metadata=METADATA,
    ),
    Demonstration: st.builds(
        Demonstration,
        id=TEXT,
        prompt=MESSAGES,
        completion=MESSAGES,
        score=REAL,
        labeler=TEXT,
        rule=TEXT,
        prompt_id=TEXT,
        completion_id=TEXT,
        metadata=METADATA,
    ),
    Estimate: estimates(),
    Outcome: st.builds(
        Outcome,
        id=TEXT,
        prompt_id=TEXT,
        verb=TEXT,
        status=st.sampled_from(["done", "failed", "skipped"]),
        reason=TEXT,
        records=INT,
    ),
}


def test_every_table_is_tried_here():
    assert set(RECORDS) == set(TABLES.values())


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_log_lines_round_trip(kind):
    @settings(max_examples=40, deadline=None)
    @given(RECORDS[kind])
    def check(record):
        line = tables.encode(record)
        assert b"\n" not in line
        assert tables.decode(kind, line) == record

    check()


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_parquet_round_trips(kind, tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "table.parquet"

    @settings(max_examples=12, deadline=None)
    @given(st.lists(RECORDS[kind], max_size=5))
    def check(records):
        tables.write_parquet(path, tables.to_table(kind, records))
        assert list(tables.read_parquet(kind, path)) == records

    check()


def test_round_trip_keeps_the_types_of_numbers(tmp_path):
    record = Completion.of(prompt_id="p", model="m", text="t", metadata={"float": 1.0, "int": 1, "deep": [{"x": None}]})
    path = tmp_path / "one.parquet"
    tables.write_parquet(path, tables.to_table(Completion, [record]))
    (back,) = tables.read_parquet(Completion, path)
    assert repr(back) == repr(record)
    assert isinstance(back.sampling.temperature, float)


def test_what_an_older_version_did_not_know_has_its_default_beside_newer_rows():
    newer = Completion.of(prompt_id="p", model="m", text="t", generator="g", metadata={"x": None})
    table = tables.to_table(Completion, [newer, newer])
    (row, old) = table.to_pylist()
    old |= {"generator": None, "usage": {**old["usage"], "cached_tokens": None}}  # as DuckDB joins their parts by name
    (first, second) = tables.from_batch(Completion, pa.Table.from_pylist([row, old], table.schema))
    assert first == newer
    assert second == replace(newer, generator="sample")


def test_columns_follow_the_annotations():
    schema = tables.arrow_schema(Completion)
    assert schema.names == [f.name for f in fields(Completion)]
    assert str(schema.field("sampling").type) == (
        "struct<temperature: double, top_p: double, max_tokens: int64, stop: list<item: string>, seed: int64>"
    )
    assert str(schema.field("metadata").type) == "string"
    assert tables.arrow_schema(Estimate).names[0] == "id"
    assert "config" in tables.arrow_schema(Run).names


def test_parquet_is_zstd_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "p.parquet"
    tables.write_parquet(path, tables.to_table(Prompt, [Prompt.of("a")]))
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    assert [p.name for p in tmp_path.iterdir()] == ["p.parquet"]


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_a_lone_surrogate_is_refused_by_name(text):
    record = Completion.of(prompt_id="p", model="m", text=text)
    with pytest.raises(BadRecord, match=rf"Completion {record.id}: a lone surrogate \(U\+D"):
        tables.encode(record)
    with pytest.raises(BadRecord, match="lone surrogate"):
        tables.encode(Completion.of(prompt_id="p", model="m", text="", metadata={"deep": [text]}))


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 2**80])
def test_an_integer_beyond_64_bits_is_refused_before_it_could_spoil_a_part(seed):
    with pytest.raises(BadRecord, match="64 bits"):
        tables.encode(Completion.of(prompt_id="p", model="m", text="", sampling=Sampling(seed=seed)))


def test_what_json_cannot_hold_is_refused_and_numpy_is_understood():
    with pytest.raises(BadRecord, match="object is no JSON value"):
        tables.encode(Completion.of(prompt_id="p", model="m", text="", metadata={"x": object()}))
    record = Judgment(
        id="j",
        prompt_id="p",
        completion_ids=("a", "b"),
        judge="j",
        order=(0, 1),
        scores=(np.float64(0.25), np.float32(0.75)),
    )
    assert tables.decode(Judgment, tables.encode(record)).scores == (0.25, 0.75)


def test_non_finite_floats_survive_a_log_line():
    record = Estimate(name="odds", value=1.0, low=-math.inf, high=math.inf, n=3)
    assert tables.decode(Estimate, tables.encode(record)) == record
    free = Completion.of(prompt_id="p", model="m", text="", usage=Usage(cost=math.nan))
    assert math.isnan(tables.decode(Completion, tables.encode(free)).usage.cost)


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"null", b'{"id": 3}', b'{"id": "x"}', b"\xff\xfe", b'{"id": "\\ud800"}']
)
def test_a_broken_line_is_a_bad_record(line):
    with pytest.raises(BadRecord):
        tables.decode(Prompt, line)


def test_estimates_are_known_by_name_method_and_settings():
    one = Estimate(name="w", value=0.5, low=0.4, high=0.6, n=10, settings={"judge": "a"})
    again = Estimate(name="w", value=0.6, low=0.4, high=0.7, n=20, settings={"judge": "a"})
    other = Estimate(name="w", value=0.5, low=0.4, high=0.6, n=10, settings={"judge": "b"})
    assert tables.id_of(one) == tables.id_of(again) != tables.id_of(other)


def test_only_records_have_tables():
    assert tables.table_of(Judgment) == "judgments"
    with pytest.raises(BadRecord, match="Run has no table"):
        tables.table_of(Run)
