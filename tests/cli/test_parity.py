"""``rlhf-eval parity``: the table, the JSON lines, and the exit codes."""

from __future__ import annotations

import json
from typing import Any

BOARD = "WildBench/leaderboard/data_dir/score.json"
RESULTS = "WildBench/eval_results/v2.0625/score.v2/eval=gpt-4o-2024-05-13/mine.json"


def checkout(cli: Any, published: float) -> str:
    rows = [{"session_id": f"s{n}", "score": str(n), "model_output": "text", "meta_data": {}} for n in (3, 8)]
    for name, content in ((BOARD, {"mine": {"score": published}, "gone": {"score": 1.0}}), (RESULTS, rows)):
        path = cli.home / "checkouts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return "checkouts"


def test_what_is_right_passes_and_what_is_missing_is_said(cli: Any) -> None:
    shown = cli.done("parity", checkout(cli, 5.5)).out
    assert "published" in shown
    assert "difference" in shown
    assert "tolerance" in shown
    assert "not here: score of gone: its results are not here" in shown
    assert "1 published numbers derived again, 0 missed" in shown


def test_a_miss_is_exit_4(cli: Any) -> None:
    ended = cli("parity", checkout(cli, 5.6), "--json")
    assert ended.code == 4
    missed = [event for event in ended.events if event.get("verdict") == "MISS"]
    assert [(event["peer"], event["published"], event["ours"]) for event in missed] == [("wildbench", 5.6, 5.5)]
    assert ended.events[-1]["missed"] == 1
    assert "1 published numbers were missed" in ended.err


def test_nothing_to_check_is_the_users_mistake(cli: Any) -> None:
    (cli.home / "empty").mkdir()
    for path, words in (("empty", "nothing here can be checked"), ("nowhere", "no such folder")):
        ended = cli("parity", path)
        assert ended.code == 2
        assert words in ended.err
    assert cli("parity", "empty", "--only", "llmbarr").code == 2
