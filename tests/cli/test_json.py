"""What programs read: with ``--json`` every command prints one strict JSON object a line, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture
def judged(cli: Any) -> Any:
    """Two sides' answers with their judgments, and a set made of them."""
    cli.done("load", "jsonl", cli.prompts(4))
    cli.done("generate", "--model", "mock:writer", "-n", "2")
    cli.done("judge", "--judge-model", "mock:judge")
    cli.done("pairs", "--out", "pairs.jsonl")
    cli.done(
        "evaluate", "winrate", "--model", "a=mock:writer", "--baseline", "mock:echo", "--judge-model", "mock:judge"
    )
    (cli.home / "suite.yaml").write_text(
        "benchmarks: [{benchmark: winrate, model: a=mock:writer, baseline: mock:echo, judge: {judge_model: mock:judge}}]"
    )
    return cli


def test_a_judge_that_is_not_there_is_named_with_those_that_are(judged: Any) -> None:
    for words in ("leaderboard --judge nobody", "compare a mock:echo --judge nobody"):
        assert "no judge is called 'nobody'. Allowed: pairwise/mock:judge#" in judged(*words.split()).err


def test_what_a_board_leaves_out_is_told(judged: Any) -> None:
    (part,) = (judged.store.folder(judged.store.find("latest:judge").id) / "parts").glob("judgments*")
    part.write_bytes(b"")
    for words in ("leaderboard", "compare a mock:echo", "audit --judge pairwise"):
        assert f"{part.name}: skipped, not a readable part" in judged.done(*words.split(), "--json").err, words


def test_every_line_is_an_event(judged: Any) -> None:
    sides = "--model a=mock:writer --baseline mock:echo --judge-model mock:judge"
    commands = [
        "generate --model mock:writer -n 2", "generate --model mock:writer --dry-run --fresh",
        "judge --judge-model mock:judge", "judge --judge-model mock:judge --dry-run --fresh", "pairs", "pairs --dry-run",
        "pairs --compare best_worst all_pairs", f"evaluate winrate {sides}", f"evaluate winrate {sides} --dry-run --fresh",
        "evaluate suite.yaml", "evaluate suite.yaml --dry-run", "evaluate winrate --judgments latest:evaluate",
        "audit --judge pairwise --judge-model mock:judge --sample 2 --dry-run",
        "audit --judge pairwise --judge-model mock:judge --sample 2", "audit --compare pairwise pairwise",
        "leaderboard", "leaderboard --rank", "compare a mock:echo", "plan --effect .1", "lint pairs.jsonl", "verify",
        "corrupt pairs.jsonl --rate .5", "route --judgments latest:judge", "runs", "runs ls", "runs show latest", "status",
        "cache stats", "lab", "load sandbox --limit 2",
    ]  # fmt: skip

    def no_constant(name: str) -> None:
        raise ValueError(name)

    for command in commands:
        lines = judged.done(*command.split(), "--json").out.splitlines()
        assert lines, command
        for line in lines:
            assert json.loads(line, parse_constant=no_constant)["event"], command
