"""A mistake is answered with exit 2 and one line that names place and remedy; good data stays as it was."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.records import SCHEMA, Judgment

GOOD = b'{"prompt": "Name three primes.", "id": "1"}\n'


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of the runs, byte for byte."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def refused(cli: Any, *words: str | Path) -> str:
    """The one line that a refused command says; its runs are as they were before."""
    runs = cli.path / "runs"
    before = snapshot(runs)
    result = cli(*words)
    assert result.code == 2, (result.out, result.err)
    assert result.out == ""
    lines = result.err.strip().splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith("rlhf-eval: ")
    assert {name: content for name, content in snapshot(runs).items() if name in before} == before
    return lines[0]


@pytest.fixture
def loaded(cli: Any) -> Any:
    """A store that holds three prompts."""
    cli.done("load", "jsonl", cli.prompts(3))
    return cli


@pytest.fixture
def answered(loaded: Any) -> Any:
    """A store whose prompts have two answers each."""
    loaded.done("generate", "--model", "mock:writer", "-n", "2")
    return loaded


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b'{"prompt": "Say', "bad.jsonl:2: not valid JSON"),
        (b"{'prompt': 'Say'}", "bad.jsonl:2: not valid JSON"),
        (b'{"text": "Say"}', "bad.jsonl:2: no question: it stands in one of the fields prompt, messages"),
        (b'{"prompt": 7}', "bad.jsonl:2: 'prompt' must be text, not a number"),
        (b'["Say"]', "bad.jsonl:2: a row is an object"),
        (b'{"prompt": ""}', "bad.jsonl:2: the prompt is empty"),
        (b'{"prompt": "  \\n "}', "bad.jsonl:2: the prompt is empty"),
        (b'{"messages": []}', "bad.jsonl:2"),
        (b'{"messages": [{"role": "robot", "content": "x"}]}', "the role is 'robot'; it must be one of"),
        (b'{"prompt": "Another", "id": "1"}', "bad.jsonl:2: the id '1' is already that of another prompt, at "),
        (b'{"prompt": "caf\xe9"}', "bad.jsonl:2: not UTF-8 at byte"),
        (b'{"prompt": "half \\ud800"}', "bad.jsonl:2"),
        (b'{"prompt": "x", "metadata": {"a": NaN}}', "bad.jsonl:2: not valid JSON"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_nothing_is_loaded(loaded: Any, row: bytes, words: str) -> None:
    (loaded.home / "bad.jsonl").write_bytes(GOOD + row + b"\n" + GOOD.replace(b'"1"', b'"2"'))
    runs = len(loaded.store.runs())
    assert words in refused(loaded, "load", "jsonl", "bad.jsonl")
    assert len(loaded.store.runs()) == runs


def test_several_bad_rows_are_one_line(loaded: Any) -> None:
    (loaded.home / "bad.jsonl").write_bytes(b'{"prompt": 1}\n' * 9)
    assert "8 more bad rows" in refused(loaded, "load", "jsonl", "bad.jsonl")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("load", "jsonl", "none.jsonl"), "none.jsonl: no such file"),
        (("load", "jsonl"), "load jsonl needs a path"),
        (("load", "jsonl", "."), "a folder where a file is wanted"),
        (("load", "alpaca_eval", "nowhere"), "nowhere: no such file or folder"),
        (("load", "sandbox", "x.jsonl"), "load sandbox takes no path"),
        (("load", "sandbox", "--split", "test"), "no split 'test'"),
        (("load", "josnl", "x"), "there is no format 'josnl'. Did you mean 'jsonl'?"),
        (("generate",), "generate needs a model"),
        (("generate", "--model", "gpt-4o"), "'gpt-4o' is no model"),
        (("generate", "--model", "opanai:gpt-4o"), "no model scheme 'opanai'. Did you mean 'openai'?"),
        (("generate", "--model", "mock:writer?sed=1"), "no setting 'sed'. Did you mean 'seed'?"),
        (
            ("generate", "--model", "mock:echo", "--generator", "sampel"),
            "no generator 'sampel'. Did you mean 'sample'?",
        ),
        (
            ("generate", "--model", "mock:echo", "--set", "temprature=1"),
            "no setting 'temprature'. Did you mean 'temperature'?",
        ),
        (("generate", "--model", "mock:echo", "-n", "0"), "n is 0; a prompt takes 1 to 100,000"),
        (("generate", "--model", "mock:echo", "--set", "n=many"), "`n`"),
        (("generate", "--model", "mock:echo", "--set", "n"), "write it as key=value"),
        (("generate", "--model", "mock:echo", "--temperature", "-1"), "temperature is -1.0"),
        (("generate", "--model", "mock:echo", "--prompts", "abcd1234"), "no run 'abcd1234'"),
        (("generate", "--model", "mock:echo", "--config", "none.yaml"), "none.yaml: no such file"),
        (("generate", "--model", "mock:echo", "--limit", "0"), "--limit is 0"),
        (("generate", "--model", "mock:echo", "--concurrency", "0"), "--concurrency is 0"),
        (("generate", "--model", "mock:echo", "--prices", "none.yaml"), "none.yaml: no such file"),
        (("generate", "--model", "mock:echo", "--seed", "-1"), "--seed is -1; it must be a whole number from 0 to"),
        (("generate", "--model", "mock:echo", "--seed", str(2**32)), "--seed is 4294967296; it must"),
        (
            ("generate", "--model", "mock:echo", "--max-cost", "nan"),
            "--max-cost is nan; it must be a number of at least 0",
        ),
        (("generate", "--model", "mock:echo", "--max-errors", "-1"), "--max-errors is -1; it must"),
        (("generate", "--model", "mock:echo", "--rpm", "inf"), "--rpm is inf; it must"),
        (("generate", "--model", "mock:echo", "--dry-run", "--pilot", "0"), "--pilot is 0; it must"),
        (("generate", "--model", "mock:echo", "--workers", "0"), "belong to --engine ray"),
        (
            ("generate", "--model", "mock:echo", "--workers", "0", "--engine", "ray"),
            "--workers is 0; it must be at least 1",
        ),
        (("generate", "--model", "mock:echo", "--temperature", "nan"), "temperature is nan"),
        (("generate", "--model", "mock:echo", "--temperature", "inf"), "temperature is inf; it must be a number"),
        (("generate", "--model", "mock:echo", "--set", "stop={3: x}"), "YAML reads a key as 3, which is no name"),
        (("lint", "prompts.jsonl", "--limit", "0"), "--limit is 0; it must"),
        (
            ("evaluate", "winrate", "--model", "prompts=mock:echo", "--baseline", "mock:writer"),
            "cannot be called 'prompts'",
        ),
        (
            ("evaluate", "gsm8k", "--model", "mock:echo", "--labels", "x"),
            "--labels belongs to benchmarks that measure a judge",
        ),
        (("correlate", "words.csv"), "words.csv: no column holds numbers; found: model, home"),
        (("plan", "--effect", ".05", "--price", "nan"), "--price is nan; it is dollars a judge call"),
        (("run", "blank.yaml"), "blank.yaml: the recipe has no step"),
        (("evaluate", "suite.yaml"), "winrate: 'generate' must be a table of settings, not 3"),
        (("run", "demo", "--config", "more.yaml"), "a recipe holds its own settings; leave out --config"),
        (("judge", "--judge-model", "mock:judge"), "holds no completions; run 'rlhf-eval generate"),
        (("judge", "--judge", "pairwize"), "no judge 'pairwize'. Did you mean 'pairwise'?"),
        (("judge",), "the judge 'pairwise' needs a model"),
        (("judge", "--judge-model", "mock:judge", "--matches", "ring"), "allowed: all, first, ring:K"),
        (("judge", "--judge-model", "mock:judge", "--repeats", "0"), "repeats is 0"),
        (("pairs",), "holds no judgments; run 'rlhf-eval judge"),
        (("pairs", "--rule", "best-worst"), "no selection 'best-worst'. Did you mean 'best_worst'?"),
        (("evaluate", "winrate"), "needs two sides"),
        (("evaluate", "winrat", "--model", "mock:echo", "--baseline", "mock:writer"), "Did you mean 'winrate'?"),
        (("leaderboard",), "no comparison of two models yet"),
        (("compare", "a", "b"), "no judgment is about 'a'"),
        (("run", "demmo"), "there is no recipe 'demmo'"),
        (("runs", "show", "beef"), "no run 'beef'"),
        (("runs", "rm"), "needs a run"),
        (("status", "beef"), "no run 'beef'"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(loaded: Any, words: tuple[str, ...], said: str) -> None:
    (loaded.home / "words.csv").write_text("model,home\na,b\n")
    (loaded.home / "blank.yaml").write_text("")
    (loaded.home / "suite.yaml").write_text("benchmarks: [{benchmark: winrate, generate: 3}]")
    assert said in refused(loaded, *words)


def test_what_resumes_a_fresh_run_is_not_fresh_again(loaded: Any) -> None:
    stopped = loaded("generate", "--model", "mock:writer", "--max-tokens", "0", "--fresh")
    assert (stopped.code, stopped.err.splitlines()[-1]) == (
        5, "resume: rlhf-eval generate --model mock:writer --max-tokens 0",
    )  # fmt: skip


def test_a_store_without_a_name_is_not_the_folder_where_one_stands(cli: Any) -> None:
    result = cli("load", "sandbox", "--store", "")
    assert (result.code, "--store: its name is empty" in result.err) == (2, True)
    assert not (cli.home / "runs").exists()


def test_a_prune_without_a_rule_is_named(answered: Any) -> None:
    assert "cache prune needs a rule" in refused(answered, "cache", "prune")
    assert "the limit is -1.0; it must be" in refused(answered, "cache", "prune", "--older-than", "-1")
    assert "the limit is nan; it must be" in refused(answered, "cache", "prune", "--max-mb", "nan")


def test_a_mistake_leaves_no_run_that_latest_would_find(answered: Any) -> None:
    answered.done("judge", "--judge-model", "mock:judge")
    answered.done("pairs")
    before = [run.id for run in answered.store.runs()]
    for words in (
        ("--calibrate", "temperature"),
        ("--by", "nobody"),
        ("--rule", "on_off_policy"),
        ("--fresh", "--by", "x"),
    ):
        refused(answered, "pairs", *words)
    assert [run.id for run in answered.store.runs()] == before
    answered.store.remove("latest:generate")
    line = refused(
        answered,
        "evaluate",
        "--model",
        "best=run:latest:pairs",
        "--baseline",
        "mock:echo",
        "--judge-model",
        "mock:judge",
    )
    assert "3 of 3 answers of run" in line


def test_a_command_that_failed_is_not_the_latest_for_those_that_follow(answered: Any) -> None:
    refused(answered, "generate", "--model", "mock:writer", "--set", "max_tokens=0")
    assert answered.store.find("latest:generate").status == "failed"
    answered.done("judge", "--judge-model", "mock:judge", "--completions", "latest:generate")
    refused(answered, "evaluate", "reward", "--judgments", "latest:judge")
    said = answered.done("status").out
    assert said.split()[1] == "failed:"
    assert said.splitlines()[-1] == "  resume: rlhf-eval evaluate reward --judgments latest:judge"


def test_one_run_that_is_not_there_keeps_the_others_from_being_removed(answered: Any) -> None:
    before = answered.store.runs()
    assert "no run 'beef'" in refused(answered, "runs", "rm", "latest", "beef")
    assert answered.store.runs() == before


def test_labels_that_nobody_has_filled_in_are_none(answered: Any) -> None:
    answered.done("judge", "--judge-model", "mock:judge")
    said = answered.done("route", "--judgments", "latest", "--out", "to do.jsonl").out
    assert "--labels 'to do.jsonl' --aggregate majority" in said
    line = refused(answered, "pairs", "--judgments", "latest:judge", "--labels", "to do.jsonl", "--aggregate", "mean")
    assert "to do.jsonl: no row has a label; fill in 'choice'" in line


def test_what_no_judge_could_grade_and_labels_that_are_no_text_are_named(answered: Any) -> None:
    graded = ("evaluate", "best_of_n", "--model", "mock:writer", "--judge-model", "mock:judge")
    assert "there is no best-of-n curve" in refused(answered, *graded)
    (answered.home / "labels.jsonl").write_bytes(b"caf\xe9\n")
    sides = ("--model", "mock:writer", "--baseline", "mock:echo", "--judge-model", "mock:judge")
    line = refused(answered, "evaluate", "winrate", *sides, "--human", "labels.jsonl")
    assert "labels.jsonl: not UTF-8 at byte 3" in line


def test_a_template_that_is_not_there_is_named(answered: Any) -> None:
    assert "none.txt" in refused(answered, "judge", "--judge-model", "mock:judge", "--set", "template=none.txt")


@pytest.mark.parametrize("words", [("pairs",), ("leaderboard",), ("runs", "ls"), ("status",), ("cache", "stats")])
def test_a_mistyped_store_is_named_and_not_made(cli: Any, words: tuple[str, ...]) -> None:
    line = refused(cli, *words, "--store", "tyop")
    assert "tyop" in line
    assert not (cli.home / "tyop").exists()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("generat: {model: mock:echo}\n", "'generat' is no verb of a recipe. Did you mean 'generate'?"),
        ("generate: [1]\n", "'generate' must be a table"),
        ("generate: {model: mock:echo, nn: 2}\n", "no setting 'nn'"),
        ("generate: {model: [\n", "recipe.yaml:2: not valid YAML"),
        ("evaluate: {model: a=mock:echo, baseline: mock:writer, judge: pairwise}\n", "judge"),
        ("judge: {judge: pairwise}\n", "needs a model"),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line(loaded: Any, table: str, said: str) -> None:
    (loaded.home / "recipe.yaml").write_text(table)
    assert said in refused(loaded, "run", "recipe.yaml")


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "--config", "bad.yaml", "--baseline", "mock:echo", "--model", "mock:writer"),
        ("online", "dpo", "--config", "bad.yaml", "--model", "sandbox:policy"),
    ],
)
def test_a_table_where_a_value_stands_is_named(loaded: Any, words: tuple[str, ...]) -> None:
    (loaded.home / "bad.yaml").write_text("judge: pairwise\n")
    assert "judge" in refused(loaded, *words)


# Servers --------------------------------------------------------------------------------------------------------------


def test_an_unreachable_server_is_named_within_ten_seconds(loaded: Any) -> None:
    started = time.process_time(), time.monotonic()
    line = refused(loaded, "generate", "--model", "openai:x@http://127.0.0.1:9/v1")
    assert "cannot reach http://127.0.0.1:9/v1" in line
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # others at work on this machine
    assert time.monotonic() - started[1] < 10 * crowd
    assert time.process_time() - started[0] < 5


def test_a_server_without_a_key_names_the_variable(loaded: Any, endpoint: str) -> None:
    assert "export OPENAI_API_KEY=" in refused(loaded, "generate", "--model", f"openai:alpha@{endpoint}")


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--batch",)])
def test_a_cost_limit_on_a_model_of_unknown_price_says_where_to_write_it(
    loaded: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    words = ("generate", "--model", f"openai:alpha@{endpoint}", "--max-cost", "1", *more)
    line = refused(loaded, *words)
    assert f"cannot hold for openai:alpha@{endpoint}: prices.yaml has no price" in line
    assert 'models: {"alpha": {input: 0.5' in line
    mine = loaded.home / "mine.yaml"
    mine.write_text("models: {beta: {input: 1, output: 2}}\n")
    assert "mine.yaml has no price" in refused(loaded, *words, "--prices", mine)
    mine.write_text('models: {"alpha": {input: 0.5, output: 1.5}}\n')
    if more != ("--batch",):
        loaded.done(*words, "--prices", mine)


def test_a_cost_limit_holds_by_itself_where_nothing_is_charged(loaded: Any) -> None:
    loaded.done("generate", "--model", "sandbox:policy", "--max-cost", "0", "--limit", "1")


def test_a_wrong_key_is_refused_and_not_shown(answered: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-key")
    line = refused(answered, "judge", "--judge-model", f"openai:judge@{endpoint}")
    assert "401" in line
    assert "wrong-key" not in line


def test_a_model_that_the_server_lacks_is_answered_with_those_it_has(
    loaded: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    line = refused(loaded, "generate", "--model", f"openai:alhpa@{endpoint}")
    assert "no model 'alhpa'. It has: alpha" in line


def test_one_bad_side_of_an_evaluation_is_named(loaded: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    line = refused(
        loaded, "evaluate", "--model", "mock:writer", "--baseline", "mock:echo",
        "--judge-model", f"openai:jugde@{endpoint}",
    )  # fmt: skip
    assert "no model 'jugde'" in line
    assert loaded.store.read(Judgment) == []


# The store ------------------------------------------------------------------------------------------------------------


def test_a_run_of_a_newer_schema_is_refused_and_left_alone(loaded: Any) -> None:
    (run,) = loaded.store.runs()
    path = loaded.store.folder(run.id) / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": SCHEMA + 1, "new_field": 1}))
    for words in (
        ("runs", "ls"),
        ("generate", "--model", "mock:echo"),
        ("load", "jsonl", "prompts.jsonl"),
        ("status",),
    ):
        assert f"written with schema {SCHEMA + 1}, this rlhf-eval knows {SCHEMA}; upgrade" in refused(loaded, *words)


def test_a_broken_run_is_named_and_the_others_are_shown(loaded: Any) -> None:
    (run,) = loaded.store.runs()
    broken = loaded.path / "runs" / "20200101T000000-judge-00000000"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    shown = loaded.done("runs", "ls")
    assert run.id in shown.out
    assert "00000000/run.json: not valid JSON" in shown.err


def test_a_store_that_cannot_be_written_is_named(loaded: Any) -> None:
    (loaded.home / "file").write_text("")
    for words in (("load", "jsonl", "prompts.jsonl"), ("load", "sandbox", "--limit", "1")):
        line = refused(loaded, *words, "--store", "file/store")
        assert "file/store" in line


def test_a_file_of_pairs_that_cannot_be_written_is_named(answered: Any) -> None:
    answered.done("judge", "--judge-model", "mock:judge")
    (answered.home / "file").write_text("")
    assert "file: " in refused(answered, "pairs", "--out", "file/pairs.jsonl")
