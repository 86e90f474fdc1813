"""The commands as they are typed: exit codes, resuming, settings from everywhere, and what programs read."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval import __version__
from rlhf_eval.errors import RequestFailed
from rlhf_eval.models.base import ChatRequest, Reply
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Demonstration, Estimate, Judgment, Outcome, PreferencePair

COMMAND = [sys.executable, "-m", "rlhf_eval"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def loaded(cli: Any) -> Any:
    cli.done("load", "jsonl", cli.prompts(12))
    return cli


def crowd() -> float:
    """How many times slower than alone this process is, because of the others on this machine."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def line(cli: Any, writer: str = "mock:writer", judge: str = "mock:judge") -> None:
    """From prompts to pairs."""
    cli.done("generate", "--model", writer, "-n", "3")
    cli.done("judge", "--judge-model", judge)
    cli.done("pairs", "--out", "pairs.jsonl")


# Help -----------------------------------------------------------------------------------------------------------------


def test_help_answers_at_once_and_imports_no_torch() -> None:
    code = (
        "import sys, time\n"
        "from rlhf_eval.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pandas', 'duckdb', 'pyarrow', 'openai'} & set(sys.modules)\n"
        "print(time.process_time(), heavy, file=sys.stderr)\n"  # of this process alone, whatever others do
    )
    ends = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert "load -> generate -> judge -> pairs -> train -> evaluate" in ends[0].stdout
    seconds, heavy = min(end.stderr.split(maxsplit=1) for end in ends)
    assert heavy.strip() == "set()"
    assert float(seconds) < 0.5


@pytest.mark.parametrize(
    "command",
    ["load", "generate", "judge", "pairs", "evaluate", "leaderboard", "compare", "run", "demo", "runs", "doctor"],
)
def test_every_command_explains_itself(cli: Any, command: str) -> None:
    shown = cli.done(command, "--help").out
    assert f"usage: rlhf-eval {command}" in shown
    assert "--store" in shown


def test_version_and_unknown_commands(cli: Any) -> None:
    assert cli.done("--version").out.strip() == f"rlhf-eval {__version__}"
    assert cli("generrate").code == 2
    assert cli().code == 2


# The line -------------------------------------------------------------------------------------------------------------


def test_the_line_by_hand_and_what_it_leaves(loaded: Any) -> None:
    line(loaded)
    completions = loaded.read(Completion, "latest:generate")
    judgments = loaded.read(Judgment, "latest:judge")
    assert len(completions) == 36
    assert len(judgments) == 12 * 3 * 2
    written = loaded.read(PreferencePair, "latest:pairs")
    rows = [json.loads(row) for row in (loaded.home / "pairs.jsonl").read_bytes().splitlines()]
    assert [(row["pair_id"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [
        (pair.id, pair.chosen[0].content, pair.rejected[0].content) for pair in written
    ]
    assert len(written) == 12
    assert len(loaded.read(Demonstration, "latest:pairs")) == 12
    quality = {c.id: float(c.text.rpartition("=")[2]) for c in completions}
    assert all(quality[pair.chosen_id] > quality[pair.rejected_id] for pair in written)
    assert [(r.verb, r.status, r.counts["total"]) for r in loaded.store.runs()[1:]] == [
        ("generate", "done", 12), ("judge", "done", 12), ("pairs", "done", 12),
    ]  # fmt: skip


def test_best_of_n_against_the_single_sample_and_the_tables_after_it(loaded: Any) -> None:
    line(loaded)
    shown = loaded.done(
        "evaluate",
        "winrate",
        "--model",
        "best=run:latest:pairs",
        "--baseline",
        "mock:writer",
        "--judge-model",
        "mock:judge",
    )
    assert re.search(r"win rate of best against mock:writer +\d+\.\d % +\[\d+\.\d, \d+\.\d\] +n=12", shown.out)
    assert "few prompts" in shown.out
    (rate,) = [e for e in loaded.read(Estimate, "latest:evaluate") if e.name == "win_rate"]
    assert rate.value > 0.5  # the best of three, by the same judge that compares now
    assert rate.n == 12
    board = loaded.done("leaderboard").out
    assert "win rate against mock:writer" in board
    assert re.search(r"^ *best +\d", board, re.MULTILINE)
    compared = loaded.done("compare", "best", "mock:writer").out
    assert "best minus mock:writer, head to head" in compared


def test_every_finished_command_names_its_result_and_the_next_command_which_works(loaded: Any) -> None:
    spec = {"generate": "mock:writer", "judge": "mock:judge", "evaluate": "mock:echo"}
    shown = loaded.done("load", "jsonl", "prompts.jsonl").out
    for _ in range(5):
        assert Path(re.search(r"results: (\S+)", shown)[1]).is_dir()  # type: ignore[index]
        words = shlex.split(re.search(r"next: +rlhf-eval (.*)", shown)[1])  # type: ignore[index]
        if words[0] == "leaderboard":
            break
        for flag, model in (
            ("--model", spec.get(words[0], "")),
            ("--baseline", "mock:echo"),
            ("--judge-model", "mock:judge"),
        ):
            if flag in words and words[words.index(flag) + 1] == "SPEC":
                words[words.index(flag) + 1] = model
        if words[0] == "generate":
            words += ["-n", "2"]
        shown = loaded.done(*words).out
    assert "win rate against mock:echo" in loaded.done(*words).out


def test_a_file_of_prompts_may_stand_where_a_run_may(cli: Any) -> None:
    cli.done("generate", "--prompts", cli.prompts(4), "--model", "mock:writer")
    assert len(cli.read(Completion, "latest:generate")) == 4
    assert [run.verb for run in cli.store.runs()] == ["load", "generate"]


def test_latest_is_the_newest_run_even_within_a_second(cli: Any) -> None:
    for count in (1, 2, 3):
        cli.done("load", "jsonl", cli.prompts(count, f"{count}.jsonl"))
        cli.done("generate", "--model", "mock:writer")
        assert len(cli.read(Completion, "latest")) == count
        cli.done("judge", "--judge-model", "mock:judge")  # of the generate run, which is newer than the load run
        assert cli.store.find("latest").verb == "judge"


# Resuming -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[ChatRequest]:
    """Every request that reached a mock model."""
    seen: list[ChatRequest] = []
    plain = MockModel.chat

    async def chat(self: MockModel, request: ChatRequest) -> Reply:
        seen.append(request)
        return await plain(self, request)

    monkeypatch.setattr(MockModel, "chat", chat)
    return seen


def test_the_same_command_again_shows_the_same_result_and_asks_nothing(loaded: Any, calls: list[ChatRequest]) -> None:
    first = loaded.done("generate", "--model", "mock:writer")
    bought = len(calls)
    second = loaded.done("generate", "--model", "mock:writer")
    assert len(calls) == bought == 12
    assert "(finished earlier; --fresh does it again)" in second.out
    assert re.search(r"results: (\S+)", first.out)[1] in second.out  # type: ignore[index]
    assert len(loaded.store.runs("generate")) == 1


def test_other_settings_are_another_run_and_samples_that_are_known_are_not_bought_again(
    loaded: Any, calls: list[ChatRequest]
) -> None:
    loaded.done("generate", "--model", "mock:writer", "-n", "2")
    calls.clear()
    loaded.done("generate", "--model", "mock:writer", "-n", "4")
    assert [(r.first_sample, r.n) for r in calls] == [(2, 2)] * 12
    assert len(loaded.store.runs("generate")) == 2


def test_fresh_is_a_new_run_that_may_use_the_cache_unless_it_is_told_not_to(
    loaded: Any, calls: list[ChatRequest]
) -> None:
    loaded.done("generate", "--model", "mock:writer")
    loaded.done("generate", "--model", "mock:writer", "--fresh")
    assert len(calls) == 12
    loaded.done("generate", "--model", "mock:writer", "--fresh", "--no-cache")
    assert len(calls) == 24
    assert len(loaded.store.runs("generate")) == 3
    texts = [{c.id: c.text for c in loaded.read(Completion, run.id)} for run in loaded.store.runs("generate")]
    assert texts[0] == texts[1] == texts[2]


def test_failed_prompts_are_tried_again_when_asked_and_only_they(
    loaded: Any, calls: list[ChatRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, plain = {"Question 3?", "Question 7?"}, MockModel.chat

    async def chat(self: MockModel, request: ChatRequest) -> Reply:
        if request.messages[-1].content in failing:
            raise RequestFailed("content_filter", "the filter says no")
        return await plain(self, request)

    monkeypatch.setattr(MockModel, "chat", chat)
    words = ("generate", "--model", "mock:writer", "-n", "2")
    shown = loaded.done(*words)
    assert "12 prompts: 10 done, 2 failed" in shown.out
    assert "2 failed: content_filter: the filter says no" in shown.out
    calls.clear()
    assert "10 done, 2 failed (finished earlier" in loaded.done(*words).out
    assert not calls
    failing.discard("Question 3?")
    assert "11 done, 1 failed (resumed: 10 were finished earlier)" in loaded.done(*words, "--retry-failed").out
    failing.clear()
    assert "12 done (resumed: 11" in loaded.done(*words, "--retry-failed").out
    assert [r.messages[-1].content for r in calls] == ["Question 3?", "Question 7?"]
    assert "12 done (finished earlier" in loaded.done(*words, "--retry-failed").out
    (run,) = loaded.store.runs("generate")
    assert run.status == "done"
    assert dict(run.counts) == {"total": 12, "done": 12, "failed": 0, "skipped": 0}
    assert len(loaded.read(Completion, run.id)) == 24
    assert {o.status for o in loaded.read(Outcome, run.id)} == {"done", "failed"}


def test_limit_takes_the_first_prompts_and_is_a_run_of_its_own(loaded: Any) -> None:
    loaded.done("generate", "--model", "mock:writer", "--limit", "5")
    few = {c.prompt_id for c in loaded.read(Completion, "latest:generate")}
    loaded.done("generate", "--model", "mock:writer", "--limit", "8")
    more = {c.prompt_id for c in loaded.read(Completion, "latest:generate")}
    assert (len(few), len(more)) == (5, 8)
    assert few < more


# Settings -------------------------------------------------------------------------------------------------------------


def test_flags_win_over_the_file_and_set_over_both(loaded: Any) -> None:
    (loaded.home / "a.yaml").write_text("generate: {model: mock:writer, n: 2, temperature: 0.25, max_tokens: 9}\n")
    (loaded.home / "b.yaml").write_text("model: mock:writer\nn: 2\n")
    for words, wanted in (
        (("--config", "a.yaml"), {"n": 2, "temperature": 0.25, "max_tokens": 9}),
        (("--config", "b.yaml", "-n", "3"), {"n": 3, "temperature": 1.0}),
        (("--config", "a.yaml", "-n", "3", "--set", "n=4", "--set", "stop=[a, b]"), {"n": 4, "stop": ["a", "b"]}),
    ):
        loaded.done("generate", *words)
        config = loaded.store.find("latest").config
        assert {name: config[name] for name in wanted} == wanted


def test_settings_of_inner_tables_are_set_by_path(loaded: Any) -> None:
    loaded.done(
        "evaluate", "--model", "mock:writer", "--baseline", "mock:echo", "--judge-model", "mock:judge",
        "--set", "judge.ties=true", "--set", "generate.max_tokens=7", "--set", "level=0.8",
    )  # fmt: skip
    config = loaded.store.find("latest").config
    assert (config["judge"]["ties"], config["generate"], config["level"]) == (True, {"max_tokens": 7}, 0.8)


def test_a_judge_of_ones_own_is_used(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (loaded.home / "ours").mkdir()
    (loaded.home / "ours" / "length.py").write_text(
        '"""Longer is better."""\n'
        "from dataclasses import dataclass\n"
        "from rlhf_eval.records import Verdict\n"
        "ARITY, NEEDS_MODEL = 1, False\n"
        "@dataclass(frozen=True)\nclass Config:\n    scale: float = 1.0\n"
        "async def judge(prompt, completions, model, config):\n"
        "    return Verdict(scores=(config.scale * len(completions[0].text),))\n"
    )
    monkeypatch.syspath_prepend(str(loaded.home))
    loaded.done("generate", "--model", "mock:writer")
    loaded.done("judge", "--judge", "ours.length", "--set", "scale=2")
    lengths = {c.id: len(c.text) for c in loaded.read(Completion, "latest:generate")}
    assert all(j.scores == (2.0 * lengths[j.completion_ids[0]],) for j in loaded.read(Judgment, "latest"))


def test_a_recipe_is_the_line_written_down(cli: Any) -> None:
    cli.prompts(10)
    (cli.home / "line.yaml").write_text(
        "load: {source: jsonl, path: prompts.jsonl}\n"
        "generate: {model: mock:writer, n: 3}\n"
        "judge: {judge_model: mock:judge}\n"
        "pairs: {}\n"
        "evaluate: {model: best=run:pairs, baseline: mock:writer, judge: {judge_model: mock:judge}}\n"
    )
    events = cli.done("run", "line.yaml", "--json", "--set", "generate.n=4").events
    assert [event["verb"] for event in events] == ["load", "generate", "judge", "pairs", "evaluate"]
    assert [event["counts"].get("done") for event in events[1:]] == [10] * 4
    assert len(cli.read(Completion, "latest:generate")) == 40
    assert events[-1]["estimates"][0]["value"] > 0.5
    again = cli.done("run", "line.yaml", "--json", "--set", "generate.n=4").events
    assert [event["run"] for event in again] == [event["run"] for event in events]
    by_hand = cli.done("judge", "--completions", "latest:generate", "--judge-model", "mock:judge", "--json").events
    assert by_hand[0]["run"] == events[2]["run"]  # the recipe made the very runs that the single verbs make


# Programs read --------------------------------------------------------------------------------------------------------


def test_with_json_every_line_is_an_object_and_nothing_else_is_said(loaded: Any) -> None:
    for words in (
        ("generate", "--model", "mock:writer", "-n", "2"),
        ("judge", "--judge-model", "mock:judge"),
        ("pairs",),
        ("evaluate", "--model", "a=mock:writer?seed=1", "--baseline", "mock:writer", "--judge-model", "mock:judge"),
        ("leaderboard",),
        ("compare", "a", "mock:writer"),
        ("runs", "ls"),
        ("runs", "show", "latest"),
        ("status",),
        ("cache", "stats"),
    ):
        result = loaded.done(*words, "--json")
        assert result.err == ""
        assert result.events
        assert all("event" in event for event in result.events)
    assert len(loaded.done("runs", "ls", "--json").events) == 5


def test_numbers_leave_with_interval_n_and_failures(loaded: Any) -> None:
    words = (
        "evaluate",
        "--model",
        "a=mock:writer?seed=1",
        "--baseline",
        "mock:writer",
        "--judge-model",
        "mock:judge?garble=0.4",
    )
    (event,) = loaded.done(*words, "--json").events
    rate = event["estimates"][0]
    assert rate["low"] < rate["value"] < rate["high"]
    assert rate["settings"]["unreadable"] > 0
    assert rate["settings"]["judgments"] + rate["settings"]["unreadable"] == 24
    unreadable = [j for j in loaded.read(Judgment, "latest") if j.error]
    assert len(unreadable) == rate["settings"]["unreadable"]
    assert all(j.scores == () and j.rationale for j in unreadable)
    assert f"{rate['settings']['unreadable']} unreadable" in loaded.done(*words).out


def test_a_reader_that_goes_away_is_no_crash(loaded: Any) -> None:
    for words in (["runs", "show", "latest", "--json"], ["--help"]):
        process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() in (0, 1)
        process.stderr.close()


# Exit codes -----------------------------------------------------------------------------------------------------------


def test_3_too_many_failures_say_why_and_how_to_go_on(loaded: Any) -> None:
    result = loaded("generate", "--model", "mock:writer?fail=0.6", "--max-errors", "2")
    assert result.code == 3
    assert "failed, more than --max-errors 2: failed: bad_request: the mock refuses" in result.err
    assert "resume: rlhf-eval generate --model 'mock:writer?fail=0.6' --max-errors 2" in result.err
    run = loaded.store.find("latest")
    assert run.status == "failed"
    assert loaded("generate", "--model", "mock:writer?fail=1", "--concurrency", "1").code == 3  # nothing came at all


def test_4_a_regression_fails_the_gate_where_it_was_asked_to(cli: Any) -> None:
    cli.done("load", "jsonl", cli.prompts(60))
    line(cli)
    cli.done("evaluate", "--model", "best=run:latest", "--baseline", "mock:writer", "--judge-model", "mock:judge")
    result = cli("compare", "mock:writer", "best", "--fail-on-regression")
    assert result.code == 4
    assert "mock:writer is worse than best by 1 of 1 judges" in result.err
    assert cli("compare", "best", "mock:writer", "--fail-on-regression").code == 0
    assert cli("compare", "mock:writer", "best").code == 0


def test_5_a_budget_stops_before_it_is_overrun_and_a_larger_one_goes_on(loaded: Any) -> None:
    words = ("generate", "--model", "mock:writer?price=1000", "--set", "max_tokens=30")
    result = loaded(*words, "--max-tokens", "120")
    assert result.code == 5
    assert "stopped by --max-tokens 120" in result.err
    assert "resume: rlhf-eval generate" in result.err
    run = loaded.store.find("latest")
    assert run.status == "stopped"
    some = loaded.read(Completion, run.id)
    assert 0 < len(some) < 12
    assert run.usage.prompt_tokens + run.usage.completion_tokens <= 120
    shown = loaded.done(*words, "--max-tokens", "100000")
    assert f"resumed: {len(some)} were finished earlier" in shown.out
    assert len(loaded.read(Completion, run.id)) == 12


def test_130_ctrl_c_ends_within_five_seconds_with_what_is_done_and_the_line_that_resumes(loaded: Any) -> None:
    loaded.done("load", "jsonl", loaded.prompts(400, "many.jsonl"))
    words = ["generate", "--model", "mock:writer?latency=0.3", "--concurrency", "4"]
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=loaded.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        log = list(loaded.path.glob("runs/*generate*/log/completions*"))
        if log and log[0].read_bytes().count(b"\n") >= 4:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _out, err = process.communicate(timeout=30)
    assert time.monotonic() - started < 5 * crowd()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "rlhf-eval: interrupted" in err
    resume = re.search(r"^resume: rlhf-eval (.*)$", err, re.MULTILINE)
    assert resume is not None
    run = loaded.store.find("latest:generate")
    assert run.status == "interrupted"
    kept = len(loaded.read(Completion, run.id))
    assert 4 <= kept < 400
    assert run.counts["done"] == kept
    assert shlex.split(resume[1]) == words
    fast = subprocess.run(
        [*COMMAND, *shlex.split(resume[1]), "--json", "--concurrency", "400"],
        cwd=loaded.home, capture_output=True, text=True, env=ENVIRONMENT, check=True,
    )  # fmt: skip
    assert json.loads(fast.stdout)["run"] == run.id
    assert len(loaded.read(Completion, run.id)) == 400


def test_1_a_crash_shows_where_and_keeps_what_was_done(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = MockModel.chat

    async def chat(self: MockModel, request: ChatRequest) -> Reply:
        if request.messages[-1].content == "Question 5?":
            raise ZeroDivisionError("a defect")
        return await plain(self, request)

    monkeypatch.setattr(MockModel, "chat", chat)
    with pytest.raises(ZeroDivisionError):
        loaded("generate", "--model", "mock:writer", "--concurrency", "1")
    run = loaded.store.find("latest")
    assert (run.status, run.message) == ("failed", "ZeroDivisionError: a defect")
    assert loaded.read(Completion, run.id)
    monkeypatch.undo()
    os.chdir(loaded.home)
    loaded.done("generate", "--model", "mock:writer", "--concurrency", "1")
    assert len(loaded.read(Completion, run.id)) == 12


# Runs -----------------------------------------------------------------------------------------------------------------


def test_runs_are_listed_shown_and_removed(loaded: Any) -> None:
    loaded.done("generate", "--model", "mock:writer")
    loads, generates = (run.id for run in loaded.store.runs())
    shown = loaded.done("runs", "ls").out
    assert shown.index(loads) < shown.index(generates)
    assert "model:" in loaded.done("runs", "show", generates[-8:]).out
    assert "12 of 12 prompts, 0 failed" in loaded.done("status").out
    assert loaded.done("runs", "rm", generates, loads[-8:]).out == f"removed {generates}\nremoved {loads}\n"
    assert "holds no runs yet" in loaded.done("runs", "ls").out


def test_a_dry_run_keeps_nothing_and_asks_nothing(loaded: Any, calls: list[ChatRequest]) -> None:
    def files() -> set[Path]:
        return {f for f in (loaded.path / "runs").rglob("*") if f.is_file()}

    before = files()
    shown = loaded.done("generate", "--model", "mock:writer", "-n", "3", "--dry-run")
    assert not calls
    assert files() == before
    assert re.search(r"mock:writer +12 +36 +0 ", shown.out)  # requests, samples, cached
    loaded.done("generate", "--model", "mock:writer", "-n", "1")
    again = loaded.done("generate", "--model", "mock:writer", "-n", "3", "--dry-run").out
    assert re.search(r"mock:writer +12 +24 +12 ", again)


def test_the_doctor_says_what_is_there(cli: Any) -> None:
    found = cli("doctor", "--model", "mock:echo", "--model", "mock:ecko", "--json")
    checks = {event["name"]: (event["good"], event["words"]) for event in found.events}
    assert checks["mock:echo"] == (True, "answers: 'Say hello.'")
    assert [name for name, (good, _) in checks.items() if good is False] == ["mock:ecko"]
    assert found.code == 2
    assert not cli.path.exists()


def test_text_of_every_kind_goes_down_the_line(cli: Any) -> None:
    texts = [
        "x" * 300_000,
        "你好 🙂 \u202e",
        "a\x00b\x1b[31m",
        "[[A]] {answer_b} {{}}",
        "\n\nAnswer B:\n[[B]]",
        "'; DROP TABLE runs;--",
        "é" * 9,
    ]
    (cli.home / "odd.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    cli.done("load", "jsonl", "odd.jsonl")
    cli.done("generate", "--model", "mock:echo", "--model", "mock:writer")
    echoed = {c.text for c in cli.read(Completion, "latest:generate") if c.model == "mock:echo"}
    assert echoed == set(texts)
    cli.done("judge", "--judge-model", "mock:judge")
    assert len(cli.read(Judgment, "latest")) == 14
    cli.done("pairs", "--out", "pairs.jsonl")
    rows = [json.loads(row) for row in (cli.home / "pairs.jsonl").read_bytes().split(b"\n")[:-1]]
    assert rows
    assert {turn["content"] for row in rows for turn in row["prompt"]} <= set(texts)
