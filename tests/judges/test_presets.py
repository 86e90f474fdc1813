"""Published protocols: settings that fit their judges, verdicts that add up as published, numbers that come out again."""

from __future__ import annotations

import ast
import json
import random
from pathlib import Path
from typing import Any

import pytest

from judges.grade import read_verdict as read_grade
from judges.pairwise import read_verdict
from judges.presets import PRESETS, find, table
from rlhf_eval import registry
from rlhf_eval.config import build
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import Choice, TokenLogprob
from rlhf_eval.records import Judgment

VERB = ("judge", "orders", "matches")


def config_of(name: str, template: str = "") -> Any:
    settings = table(name, template=template)
    plugin = registry.load("judge", settings["judge"])
    return build(plugin.Config, {k: v for k, v in settings.items() if k not in VERB}, where=name)


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_settings_fit_its_judge(name: str, tmp_path: Path) -> None:
    assert config_of(name).temperature == 0
    assert config_of(name, str(tmp_path / "upstream.txt")).template.endswith("upstream.txt")


def test_an_unknown_preset_names_its_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'mt_bench'"):
        find("mtbench")


def judged(share: float | None, *, prompt: str = "p", order: tuple[int, int] = (0, 1), verdict: str = "") -> Judgment:
    return Judgment.of(
        prompt_id=prompt, completion_ids=("model", "baseline"), judge="j", order=order,
        scores=() if share is None else (share, 1 - share), error="unparsed" if share is None else None,
        metadata={"verdict": verdict},
    )  # fmt: skip


def test_mt_benchs_pairs_count_only_where_both_orders_agree() -> None:
    orders = ((0, 1), (1, 0))
    shares = {"win": (1, 1), "loss": (0, 0), "flip": (1, 0), "half": (1, 0.5), "unread": (1, None)}
    rows = [judged(s, prompt=p, order=o) for p, pair in shares.items() for s, o in zip(pair, orders, strict=True)]
    assert PRESETS["mt_bench_pairwise"].aggregate(rows) == pytest.approx((1 + 0 + 0.5 + 0.5 + 0.5) / 5)


def test_arena_hards_strong_verdicts_count_thrice() -> None:
    rows = [judged(1.0, verdict="A>>B"), judged(0.25, verdict="B>A"), judged(0.5, verdict="A=B"), judged(None)]
    assert PRESETS["arena_hard_v2"].aggregate(rows) == pytest.approx((3 * 1 + 0 + 0.5) / 5)


def test_alpaca_evals_shares_are_averaged_and_failures_left_out() -> None:
    assert PRESETS["alpaca_eval_2"].aggregate([judged(0.9), judged(0.2), judged(None)]) == pytest.approx(0.55)
    with pytest.raises(UserError, match="no readable judgment"):
        PRESETS["alpaca_eval_2"].aggregate([judged(None)])


def test_rewardbench_gives_half_for_ties_and_the_unreadable() -> None:
    rows = [judged(1.0), judged(0.2), judged(0.5), judged(None)]
    assert PRESETS["rewardbench_generative"].aggregate(rows) == pytest.approx((1 + 0 + 0.5 + 0.5) / 4)
    four = ("right", "a", "b", "c")
    scores = [(1, 0, 0, 0), (0, 1, 0, 0), (0.5, 0.5, 0, 0)]
    rows = [Judgment.of(prompt_id=str(k), completion_ids=four, judge="j", scores=s) for k, s in enumerate(scores)]
    rows.append(Judgment.of(prompt_id="x", completion_ids=four, judge="j", error="unparsed"))
    assert PRESETS["rewardbench_2_generative"].aggregate(rows) == pytest.approx((1 + 0 + 0.5 + 0.25) / 4)


def test_ultrafeedbacks_ratings_are_averaged_by_prompt() -> None:
    rows = [
        Judgment.of(prompt_id=p, completion_ids=("a", "b"), judge="j", scores=s)
        for p, s in (("x", (4, 2)), ("y", (5, 5)))
    ]
    assert PRESETS["ultrafeedback"].aggregate(rows) == 4


@pytest.mark.groundtruth
def test_mt_benchs_stored_scores_are_read_again(groundtruth: Path) -> None:
    """800 of 800: 799 grades, and one reply without any, which upstream stores as -1."""
    stored = groundtruth / "FastChat/fastchat/llm_judge/data/mt_bench/model_judgment/gpt-4_single.jsonl"
    rows = [json.loads(line) for line in stored.read_text().splitlines()]
    config, judgments, same = config_of("mt_bench"), [], 0
    for k, row in enumerate(rows):
        verdict = read_grade(Choice(text=row["judgment"]), config)
        same += verdict.scores == (row["score"],) if row["score"] != -1 else verdict.error is not None
        judgments.append(
            Judgment.of(prompt_id=str(k), completion_ids=("a",), judge="j", scores=verdict.scores, error=verdict.error)
        )
    assert (same, len(rows)) == (800, 800)
    graded = [row["score"] for row in rows if row["score"] != -1]
    assert PRESETS["mt_bench"].aggregate(judgments) == pytest.approx(sum(graded) / len(graded))


@pytest.mark.groundtruth
def test_alpaca_evals_preferences_come_from_the_stored_logprobs(groundtruth: Path, tmp_path: Path) -> None:
    """Every row that kept its log-probabilities; upstream showed the two outputs in the order of a hash."""
    config = config_of("alpaca_eval_2", str(tmp_path / "upstream.txt"))
    read = 0
    for file in sorted(
        (groundtruth / "alpaca_eval/results").glob("*/weighted_alpaca_eval_gpt4_turbo/annotations.json")
    ):
        for row in json.loads(file.read_text()):
            raw = row.get("raw_completion")
            raw = ast.literal_eval(raw) if isinstance(raw, str) else raw
            if not raw or not raw["logprobs"]["content"]:
                continue
            tokens = tuple(
                TokenLogprob(t["token"], t["logprob"], tuple((o["token"], o["logprob"]) for o in t["top_logprobs"]))
                for t in raw["logprobs"]["content"]
            )
            share = read_verdict(Choice(text=raw["text"], logprobs=tokens), config).scores[0]
            swapped = random.Random(f"is_switched_outputs{row['instruction']}0").choices([False, True], k=1)[0]
            assert abs(1 + (share if swapped else 1 - share) - row["preference"]) < 1e-9
            read += 1
    assert read > 4000
