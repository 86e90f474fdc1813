"""TRL's files: every format read, and what is written read back, by us and by the datasets library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_eval.errors import UserError
from rlhf_eval.interop import trl
from rlhf_eval.records import Completion, Demonstration, Message, PreferencePair, Prompt

Put = Callable[[str, Any], Path]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def contents(messages: tuple[Message, ...]) -> list[str]:
    return [m.content for m in messages]


PREFERENCES: list[tuple[dict[str, Any], tuple[list[str], list[str], list[str]]]] = [
    ({"prompt": "Q", "chosen": "good", "rejected": "bad"}, (["Q"], ["good"], ["bad"])),
    (
        {"prompt": [user("Q")], "chosen": [assistant("good")], "rejected": [assistant("bad")]},
        (["Q"], ["good"], ["bad"]),
    ),
    (
        {"chosen": [user("Q"), assistant("good")], "rejected": [user("Q"), assistant("bad")]},
        (["Q"], ["good"], ["bad"]),
    ),
    (
        {"prompt": "Q", "chosen": [user("Q"), assistant("good")], "rejected": [user("Q"), assistant("bad")]},
        (["Q"], ["good"], ["bad"]),
    ),
    ({"chosen": "The sky is blue.", "rejected": "The sky is green."}, (["The sky is"], [" blue."], [" green."])),
    (
        {"chosen": [user("1"), assistant("2"), user("3"), assistant("4")], "rejected": [user("1"), assistant("no")]},
        (["1"], ["2", "3", "4"], ["no"]),
    ),
]


@pytest.mark.parametrize(("row", "sides"), PREFERENCES)
def test_preferences(put: Put, row: dict[str, Any], sides: tuple[list[str], ...]) -> None:
    path = put("p.jsonl", [row])
    assert trl.detect(path)
    loaded = trl.read(path)
    (pair,) = loaded.pairs
    assert (contents(pair.prompt), contents(pair.chosen), contents(pair.rejected)) == sides
    assert (pair.probability, pair.margin, pair.labeler) == (1.0, 0.0, "trl")
    assert {pair.chosen_id, pair.rejected_id} == {c.id for c in loaded.completions}
    assert pair.prompt_id == loaded.prompts[0].id


def test_strength_and_authors_of_a_preference(put: Put) -> None:
    row = {
        "prompt": "Q",
        "chosen": "a",
        "rejected": "b",
        "score_chosen": 9,
        "score_rejected": 6.5,
        "probability": 0.8,
        "chosen_model": "m",
    }
    loaded = trl.read(put("p.jsonl", [row]))
    assert (loaded.pairs[0].margin, loaded.pairs[0].probability) == (2.5, 0.8)
    assert [c.model for c in loaded.completions] == ["m", "unknown"]


def test_the_other_formats(put: Put) -> None:
    rows = [
        {"prompt": "Q1", "completion": "good", "label": True},
        {"prompt": [user("Q2")], "completion": [assistant("bad")], "label": False},
        {"prompt": "Q3", "completion": "answer"},
        {"messages": [user("Q4"), assistant("answer 4")]},
        {"prompt": "Q5"},
    ]
    loaded = trl.read(put("p.jsonl", rows))
    assert [p.text for p in loaded.prompts] == ["Q1", "Q2", "Q3", "Q4", "Q5"]
    assert [c.text for c in loaded.completions] == ["good", "bad", "answer", "answer 4"]
    assert [(j.judge, j.scores) for j in loaded.judgments] == [("trl/label", (1.0,)), ("trl/label", (0.0,))]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"text": "x"}, "none of TRL's formats"),
    ({"prompt": "Q", "chosen": "same", "rejected": "same"}, "p.jsonl:2: one side is"),
    ({"chosen": [user("Q")], "rejected": [user("Q"), assistant("a")]}, "a tie makes no pair"),
    ({"prompt": "Q", "completion": "a", "label": "yes"}, "'label' must be true or false"),
    ({"messages": [user("Q")]}, "must end with an assistant turn"),
    ({"prompt": "Q", "chosen": [], "rejected": "b"}, "'chosen' is empty"),
    ({"prompt": " ", "chosen": "a", "rejected": "b"}, "the prompt is empty"),
    ({"prompt": "Q", "chosen": "a", "rejected": "b", "probability": 0.2}, "probability is 0.2"),
]


@pytest.mark.parametrize(("row", "message"), MISTAKES)
def test_a_broken_row_is_named_and_the_rest_kept(put: Put, row: dict[str, Any], message: str) -> None:
    path = put("p.jsonl", [{"prompt": "fine"}, row])
    loaded = trl.read(path)
    assert loaded.pairs == ()
    assert message in loaded.warnings[0]
    with pytest.raises(UserError):
        trl.read(path, strict=True)


def pair_of(question: str, good: str, bad: str, probability: float = 0.75) -> PreferencePair:
    prompt = Prompt.of(question)
    sides = [Completion.of(prompt_id=prompt.id, model="m", text=text, origin=text) for text in (good, bad)]
    return PreferencePair.of(
        prompt=prompt,
        chosen=sides[0],
        rejected=sides[1],
        probability=probability,
        margin=1.5,
        labeler="judge",
        rule="best",
    )


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(TEXT, TEXT, TEXT).filter(lambda t: t[1] != t[2]), min_size=1, max_size=5),
    st.sampled_from(["jsonl", "parquet"]),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str, str]], suffix: str
) -> None:
    pairs = list({pair.id: pair for pair in (pair_of(*t) for t in texts)}.values())
    path = tmp_path_factory.mktemp("trl") / f"pairs.{suffix}"
    assert trl.write(pairs, path, margin=True) == len(pairs)
    back = trl.read(path).pairs
    assert [(p.prompt, p.chosen, p.rejected, p.probability, p.margin, p.labeler) for p in back] == [
        (p.prompt, p.chosen, p.rejected, p.probability, p.margin, p.labeler) for p in pairs
    ]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_rows_that_are_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    pair = pair_of("Q", "good", "bad")
    trl.write([pair], path)
    assert rows_of(path) == [
        {
            "prompt": [user("Q")],
            "chosen": [assistant("good")],
            "rejected": [assistant("bad")],
            "probability": 0.75,
            "labeler": "judge",
            "pair_id": pair.id,
        }
    ]
    trl.write([pair], path, standard=True, unpaired=True)
    assert rows_of(path) == [
        {"prompt": "Q", "completion": "good", "label": True},
        {"prompt": "Q", "completion": "bad", "label": False},
    ]
    prompt = Prompt.of("Q")
    answer = Completion.of(prompt_id=prompt.id, model="m", text="A")
    trl.write([Demonstration.of(prompt=prompt, completion=answer, score=1, labeler="j", rule="r")], path)
    assert rows_of(path) == [{"prompt": [user("Q")], "completion": [assistant("A")]}]
    trl.write([prompt], path, standard=True)
    assert rows_of(path) == [{"prompt": "Q"}]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    long = Prompt.of([Message("user", "1"), Message("assistant", "2"), Message("user", "3")])
    with pytest.raises(UserError, match="one user turn, not user assistant user"):
        trl.write([long], tmp_path / "p.jsonl", standard=True)
    with pytest.raises(UserError, match="cannot share a file"):
        trl.write([long, pair_of("Q", "a", "b")], tmp_path / "p.jsonl")
    with pytest.raises(UserError, match="only preference pairs become labelled rows"):
        trl.write([long], tmp_path / "p.jsonl", unpaired=True)
    with pytest.raises(UserError, match=r"written as \.jsonl or \.parquet"):
        trl.write([long], tmp_path / "p.csv")
    with pytest.raises(UserError, match="No such file"):
        trl.write([long], tmp_path / "gone" / "p.jsonl")
    assert list(tmp_path.iterdir()) == [], "a failed write leaves nothing behind"


def test_the_datasets_library_loads_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "pairs.jsonl"
    trl.write([pair_of("Q", "good", "bad"), pair_of("Q2", "x", "y")], path)
    loaded = datasets.load_dataset("json", data_files=str(path), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded[0]["chosen"] == [assistant("good")]
    assert set(loaded.column_names) >= {"prompt", "chosen", "rejected"}


def test_a_probability_that_is_no_number_is_not_taken_for_certainty(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "q", "chosen": "a", "rejected": "b", "probability": NaN}\n')
    loaded = trl.read(path)
    assert not loaded.pairs
    assert "'probability' must be a number" in loaded.warnings[0]


@pytest.mark.parametrize("margin", ["NaN", "null", '"nan"', "-Infinity", '"much"'])
def test_a_margin_that_is_no_number_is_not_taken_for_none(tmp_path: Path, margin: str) -> None:
    path = tmp_path / "pairs.jsonl"
    good = '{"prompt": "q", "chosen": "a", "rejected": "b", "margin": 2}\n'
    path.write_text(good + good.replace("2", margin).replace('"a"', '"c"'))
    loaded = trl.read(path)
    assert [pair.margin for pair in loaded.pairs] == [2.0]
    assert "pairs.jsonl:2: 'margin' must be a number" in loaded.warnings[0]
    with pytest.raises(UserError, match="2: 'margin' must be a number"):
        trl.read(path, strict=True)
