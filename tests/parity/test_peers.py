"""Every peer on small handmade files and, where they are, on all published ones."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.parity.claim import Claim, Tree
from rlhf_eval.verbs.parity import PEERS, parity

from .conftest import Put

SAME = {
    "alpaca_eval": 67, "correlation": 2, "llmbar": 486, "wildbench": 6, "mt_bench": 13, "judge_bench": 2, "pandalm": 6,
    "grade_school_math": 8, "ifeval": 6, "evalica": 23, "arena_rank": 2, "reward_bench": 1, "arena_hard": 1,
    "prometheus_eval": 2,
}  # fmt: skip
"""At least so many numbers are derived again from the sample of published files."""


def check(peer: str, path: Path) -> list[Claim]:
    return list(import_module(f"rlhf_eval.parity.{peer}").check(Tree(path)))


@pytest.mark.groundtruth
@pytest.mark.parametrize("peer", SAME)
def test_published_numbers_are_derived_again(groundtruth: Path, peer: str) -> None:
    claims = check(peer, groundtruth)
    assert [claim for claim in claims if claim.verdict == "MISS"] == []
    assert sum(claim.verdict == "same" for claim in claims) >= SAME[peer]


@pytest.mark.parametrize("peer", PEERS)
def test_an_empty_folder_is_never_a_pass(tmp_path: Path, peer: str) -> None:
    claims = check(peer, tmp_path)
    assert claims
    assert {claim.verdict for claim in claims} == {"not here"}
    assert all(claim.note for claim in claims)


def test_an_unknown_peer_names_its_neighbour(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'llmbar'"):
        list(parity(tmp_path, only="llmbarr"))


README = """
```
from rewardbench.utils import calculate_scores_per_section

metrics = {
  "alpacaeval-easy": 0.5, "alpacaeval-hard": 0.7052631578947368, "alpacaeval-length": 0.5894736842105263,
  "chat_template": "tokenizer", "donotanswer": 0.8235294117647058, "hep-cpp": 0.6280487804878049,
  "hep-go": 0.6341463414634146, "hep-java": 0.7073170731707317, "hep-js": 0.6646341463414634,
  "hep-python": 0.5487804878048781, "hep-rust": 0.6463414634146342, "llmbar-adver-GPTInst": 0.391304347826087,
  "llmbar-adver-GPTOut": 0.46808510638297873, "llmbar-adver-manual": 0.3695652173913043,
  "llmbar-adver-neighbor": 0.43283582089552236, "llmbar-natural": 0.52, "math-prm": 0.2953020134228188,
  "model": "PKU-Alignment/beaver-7b-v1.0-cost", "mt-bench-easy": 0.5714285714285714,
  "mt-bench-hard": 0.5405405405405406, "mt-bench-med": 0.725, "refusals-dangerous": 0.97, "refusals-offensive": 1,
  "xstest-should-refuse": 1, "xstest-should-respond": 0.284
}
```
"""


def test_the_sections_of_the_rewardbench_readme(put: Put, tmp_path: Path) -> None:
    put("reward-bench/README.md", README)
    claims = check("reward_bench", tmp_path)
    assert {c.number: c.verdict for c in claims} == dict.fromkeys(["Chat", "Chat Hard", "Safety", "Reasoning"], "same")
    put("reward-bench/README.md", README.replace('"xstest-should-refuse": 1', '"xstest-should-refuse": 0.9'))
    assert [c.number for c in check("reward_bench", tmp_path) if c.verdict == "MISS"] == ["Safety"]


def wildbench(put: Put, published: float) -> None:
    rows = [{"session_id": f"s{n}", "score": str(n), "model_output": "text", "meta_data": {}} for n in (3, 8)]
    put("wb/eval_results/v2.0625/score.v2/eval=gpt-4o-2024-05-13/new-model.json", rows)
    put("wb/leaderboard/data_dir/score.json", {"new-model": {"score": published, "total": 2}, "gone": {"score": 1.0}})


def test_wildbench_checks_whichever_models_are_there(put: Put, tmp_path: Path) -> None:
    wildbench(put, 5.5)
    assert [(c.subject, c.verdict) for c in check("wildbench", tmp_path)] == [
        ("new-model", "same"), ("new-model", "same"), ("gone", "not here"),
    ]  # fmt: skip
    wildbench(put, 5.6)
    assert [c.number for c in check("wildbench", tmp_path) if c.verdict == "MISS"] == ["score"]


def mt_bench(put: Put, judge: str, score: int) -> Path:
    row = {
        "question_id": 81, "model": "m", "judge": [judge, "single-v1"], "score": score, "turn": 1,
        "user_prompt": "[The Start of Assistant's Answer]\nmine\n[The End of Assistant's Answer]",
        "judgment": f"Rating: [[{score}]]",
    }  # fmt: skip
    put("fc/question.jsonl", [{"question_id": 81, "category": "writing", "turns": ["first?", "second?"]}])
    return put(f"fc/model_judgment/{judge}_single.jsonl", [row])


def test_mt_bench_keeps_judges_apart_and_passes_no_damaged_file(put: Put, tmp_path: Path) -> None:
    mt_bench(put, "gpt-4", 9)
    damaged = mt_bench(put, "other", 2)
    assert [(c.published, c.ours) for c in check("mt_bench", tmp_path) if c.number == "score"] == [(9, 9), (2, 2)]
    damaged.write_text(damaged.read_text()[:-20])
    assert {c.verdict for c in check("mt_bench", tmp_path) if "other" in c.subject} == {"not here"}


def test_systems_of_any_name_are_verified(put: Put, tmp_path: Path) -> None:
    def solved(answer: str, right: bool) -> dict[str, Any]:
        return {"solution": f"so\nA: {answer}", "is_correct": right}

    put(
        "gsm/data/example_model_solutions.jsonl",
        json.dumps(
            {
                "question": "q",
                "ground_truth": "x\nA: 1,000",
                "anything": solved("1000", True),
                "other": solved("7", True),
            }
        )
        + "\n",
    )
    verdicts = {(c.subject, c.number): c.verdict for c in check("grade_school_math", tmp_path)}
    assert verdicts["anything", "verdicts that agree, of 1"] == "same"
    assert verdicts["other", "verdicts that agree, of 1"] == "MISS"


@pytest.mark.groundtruth
@pytest.mark.parametrize("peer", sorted(set(SAME) - {"alpaca_eval", "llmbar"}))
@pytest.mark.parametrize("damage", [b"", b"<html>404</html>\n", b"\xff\xfe{]"])
def test_damaged_files_end_no_report_and_pass_nothing(
    groundtruth: Path, tmp_path: Path, peer: str, damage: bytes
) -> None:
    """Every file that the peer's claims came from is spoilt; so are, for good measure, the tables that name them."""
    whole = list(parity(groundtruth, only=peer))
    for file in {claim.source for claim in whole if claim.source}:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(damage)
    claims = list(parity(tmp_path, only=peer))
    assert claims
    assert not [claim for claim in claims if claim.verdict in ("same", "MISS")]
