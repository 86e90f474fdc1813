"""Prompt files: the shapes that are read, and the mistakes that are named."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_eval.errors import UserError
from rlhf_eval.interop import jsonl
from rlhf_eval.records import Message

FOUR: list[dict[str, Any]] = [
    {"prompt": "Name three primes.", "id": "p1", "reference": "2, 3, 5", "category": "maths"},
    {"prompt": "Name a river, ünïcödé 🏞", "id": "p2", "category": "geo"},
    {"prompt": "Two\nlines, and a comma", "id": "p3"},
    {"prompt": 'She said "hi"', "id": "p4", "metadata": {"level": 2}},
]


def write(path: Path, rows: list[Any], *, lines: bool = True) -> Path:
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) if lines else json.dumps(rows, indent=2)
    path.write_text(text, encoding="utf-8")
    return path


def write_csv(path: Path) -> Path:
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prompt", "reference", "category", "metadata"])
        for row in FOUR:
            cell = json.dumps(row["metadata"]) if "metadata" in row else ""
            writer.writerow([row["id"], row["prompt"], row.get("reference", ""), row.get("category", ""), cell])
    return path


def write_parquet(path: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(
        pa.Table.from_pylist([{"reference": None, "category": None, "metadata": None, **r} for r in FOUR]), path
    )
    return path


def test_every_format_gives_the_same_prompts(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.jsonl", FOUR)
    zipped = tmp_path / "b.jsonl.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    marked = tmp_path / "bom.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n"))
    others = [
        zipped,
        marked,
        write(tmp_path / "c.json", FOUR, lines=False),
        write(tmp_path / "d.json", FOUR),
        write_csv(tmp_path / "e.csv"),
        write_parquet(tmp_path / "f.parquet"),
    ]
    expected = jsonl.read(plain)
    assert [p.text for p in expected.prompts] == [row["prompt"] for row in FOUR]
    assert expected.prompts[0].reference == "2, 3, 5"
    assert expected.prompts[0].source == "a.jsonl"
    assert expected.prompts[3].metadata == {"level": 2}
    assert list(expected.sources) == ["a.jsonl"]
    for other in others:
        assert jsonl.detect(other)
        assert [p.id for p in jsonl.read(other).prompts] == [p.id for p in expected.prompts], other


SHAPES: list[tuple[dict[str, Any], list[tuple[str, str]], str | None]] = [
    ({"prompt": [{"role": "user", "content": "Hi"}]}, [("user", "Hi")], None),
    ({"instruction": "Sum up", "input": "A text"}, [("user", "Sum up\n\nA text")], None),
    ({"instruction": "Sum up", "input": ""}, [("user", "Sum up")], None),
    ({"question": "1+1?", "answer": 2}, [("user", "1+1?")], "2"),
    ({"prompt": "Hi", "system": "Be brief."}, [("system", "Be brief."), ("user", "Hi")], None),
    (
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        [("user", "Hi")],
        "Hello",
    ),
    (
        {
            "messages": [
                {"role": "user", "content": "1"},
                {"role": "assistant", "content": "2"},
                {"role": "user", "content": "3"},
                {"role": "assistant", "content": "4"},
            ],
            "reference": "four",
        },
        [("user", "1"), ("assistant", "2"), ("user", "3")],
        "four",
    ),
]


@pytest.mark.parametrize(("row", "turns", "reference"), SHAPES)
def test_usual_shapes(tmp_path: Path, row: dict[str, Any], turns: list[tuple[str, str]], reference: str | None) -> None:
    (prompt,) = jsonl.read(write(tmp_path / "q.jsonl", [row])).prompts
    assert [(m.role, m.content) for m in prompt.messages] == turns
    assert prompt.reference == reference


def test_messages_in_a_csv_cell_are_json(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text('messages\n"[{""role"": ""user"", ""content"": ""Hi""}]"\n')
    assert jsonl.read(path).prompts[0].messages == (Message("user", "Hi"),)


GOOD = b'{"prompt": "ok"}\n'
MISTAKES: list[tuple[str, bytes, list[str]]] = [
    ("q.jsonl", GOOD + b'{"prompt": "x"\n', ["q.jsonl:2: not valid JSON", "column"]),
    (
        "q.jsonl",
        GOOD + b'{"text": "x", "n": 1}\n',
        ["q.jsonl:2: no question", "prompt, messages, instruction", "found: text, n"],
    ),
    ("q.jsonl", GOOD + b'{"prompt": 3}\n', ["q.jsonl:2: 'prompt' must be text, not a number"]),
    ("q.jsonl", GOOD + b'{"prompt": " "}\n', ["q.jsonl:2: the prompt is empty"]),
    ("q.jsonl", GOOD + b'"just text"\n', ["q.jsonl:2: a row is an object", "not text"]),
    ("q.jsonl", GOOD + b'\n{"prompt": "caf\xe9"}\n', ["q.jsonl:3: not UTF-8 at byte 33", "save it as UTF-8"]),
    ("q.jsonl", GOOD + b'{"prompt": "\\ud800 half"}\n', ["q.jsonl:2: holds half a surrogate pair"]),
    ("q.jsonl", GOOD + b'{"prompt": "x", "metadata": {"a": NaN}}\n', ["q.jsonl:2: not valid JSON", "write null"]),
    ("q.jsonl", GOOD + b'{"prompt": "x", "metadata": [1]}\n', ["q.jsonl:2: 'metadata' must be an object, not a list"]),
    ("q.jsonl", GOOD + b'{"prompt": "x", "id": true}\n', ["q.jsonl:2: 'id' must be text or a whole number"]),
    (
        "q.jsonl",
        GOOD + b'{"messages": [{"role": "bot", "content": "x"}]}\n',
        ["q.jsonl:2", "'messages[0]'", "'bot'", "user"],
    ),
    ("q.jsonl", GOOD + b'{"messages": [{"role": "user"}]}\n', ["q.jsonl:2", "no field 'content'; found: role"]),
    (
        "q.jsonl",
        GOOD + b'{"messages": [{"role": "assistant", "content": "x"}]}\n',
        ["q.jsonl:2: a prompt needs at least one"],
    ),
    ("q.jsonl", b'{"prompt": "a", "id": 1}\n{"prompt": "b", "id": 1}\n', ["q.jsonl:2: the id '1'", "at q.jsonl:1"]),
    ("q.jsonl", b'{"text": 1}\n' * 3 + GOOD, ["q.jsonl:1", "2 more bad rows: 2, 3"]),
    ("q.jsonl", b"", ["the file is empty"]),
    ("q.jsonl", b" \n\n", ["the file is empty"]),
    ("q.json", b'[{"prompt": "a"},\n {"prompt": 2}]', ["q.json:2 (item 2): 'prompt' must be text"]),
    ("q.json", b'[{"prompt": "a"},\n {"prompt": "b"', ["q.json: not valid JSON", "line 2"]),
    ("q.json", b'{\n"prompt": "a",\n', ["q.json: not valid JSON"]),
    ("q.json", b"[]", ["no rows"]),
    ("q.csv", b"prompt,id\na,1\nb\n", ["q.csv:3: 1 cells under a header of 2"]),
    ("q.csv", b"prompt,prompt\na,1\n", ["q.csv:1: the column 'prompt' is there twice"]),
    ("q.csv", b'prompt\n"two\nlines"\n""\n', ["q.csv:4: no question"]),
    ("q.csv", b"prompt\ncaf\xe9\n", ["q.csv:2: not UTF-8 at byte 10"]),
    ("q.csv", b'prompt\n"a"b\n', ["q.csv:2: not valid CSV"]),
    ("q.parquet", b"PAR1 not really", ["q.parquet: not a Parquet file"]),
    ("q.jsonl.gz", b"not zipped", ["not a whole gzip file"]),
    ("q.txt", GOOD, [".jsonl, .ndjson, .json, .csv, .parquet", "'.txt'"]),
]


@pytest.mark.parametrize(("name", "content", "parts"), MISTAKES)
def test_a_mistake_is_one_line_that_names_the_place(
    tmp_path: Path, name: str, content: bytes, parts: list[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        jsonl.read(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    write(tmp_path / "inside.jsonl", FOUR)
    with pytest.raises(UserError, match=r"a folder where a file is wanted.*inside\.jsonl"):
        jsonl.read(tmp_path)
    folder = tmp_path / "x.jsonl"
    folder.mkdir()
    with pytest.raises(UserError, match="a folder where a file is wanted"):
        jsonl.read(folder)
    with pytest.raises(UserError, match="no such file"):
        jsonl.read(tmp_path / "gone.jsonl")


def test_exact_repeats_are_merged_and_counted(tmp_path: Path) -> None:
    loaded = jsonl.read(write(tmp_path / "q.jsonl", [*FOUR, FOUR[0], FOUR[2]]))
    assert len(loaded.prompts) == 4
    assert loaded.warnings == ("q.jsonl: 2 rows repeat an earlier one word for word; each prompt is kept once",)


def test_the_same_words_under_two_ids_stay_two(tmp_path: Path) -> None:
    rows = [{"prompt": "Again?", "id": "a"}, {"prompt": "Again?", "id": "b"}]
    assert [p.key for p in jsonl.read(write(tmp_path / "q.jsonl", rows)).prompts] == ["a", "b"]


def test_the_same_prompt_in_two_categories_is_refused(tmp_path: Path) -> None:
    rows = [{"prompt": "Again?", "category": "a"}, {"prompt": "Again?", "category": "b"}]
    with pytest.raises(UserError, match=r"q\.jsonl:2: the same prompt stands earlier in category 'a'"):
        jsonl.read(write(tmp_path / "q.jsonl", rows))


def test_fields_that_are_not_read_are_named(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "output": "x", "reference": "a", "answer": "b"}]
    loaded = jsonl.read(write(tmp_path / "q.jsonl", rows))
    assert loaded.prompts[0].reference == "a"
    assert [w.partition("'")[2].partition("'")[0] for w in loaded.warnings] == ["output", "answer"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])).filter(str.strip), min_size=1, unique=True))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("any")
    rows = [{"prompt": text} for text in texts]
    for path in (write(folder / "q.jsonl", rows), write(folder / "q.json", rows, lines=False)):
        assert [p.text for p in jsonl.read(path).prompts] == texts


def test_reading_is_fast_enough_for_large_files(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    filler = "word " * 200
    path.write_text("".join(json.dumps({"prompt": f"{n} {filler}"}) + "\n" for n in range(10_000)))
    start = time.process_time()
    assert len(jsonl.read(path).prompts) == 10_000
    assert time.process_time() - start < 3, "10 MB took over 3 s: 100 MB would take half a minute"
