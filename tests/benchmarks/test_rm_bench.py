"""RM-Bench: the 3 x 3 style matrix of its README, whatever kind of judge answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_eval.benchmarks import rm_bench
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.errors import UserError
from rlhf_eval.interop import rm_bench as reader
from rlhf_eval.interop.recognise import recognise

DOMAINS = ("chat", "math", "code", "safety-refuse", "safety-response")


def rows(scored: bool = True) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    made = []
    for n in range(60):
        row: dict[str, Any] = {"id": f"item/{n}", "prompt": f"question {n}", "domain": DOMAINS[n % 5]}
        for side in ("chosen", "rejected"):
            row[side] = [f"{side} {style} {n}" for style in range(3)]
            if scored:
                scores = rng.normal(0.4 * (side == "chosen") + 0.5 * np.arange(3), 1)
                row[f"score_{side}"] = scores.round(1).tolist()
        made.append(row)
    return made


def matrix(items: list[dict[str, Any]]) -> np.ndarray:
    """Share of pairs won: right style by wrong style, as upstream's README lays it out."""
    wins = [np.greater.outer(row["score_chosen"], row["score_rejected"]) for row in items]
    return np.mean(wins, axis=0)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "RM-Bench" / "data"
    folder.mkdir(parents=True)
    for domain in DOMAINS:
        own = [row for row in rows() if row["domain"] == domain]
        (folder / f"{domain}_filtered.json").write_text(json.dumps(own))
    return folder.parent


def evidence(path: Path) -> Evidence:
    loaded = reader.read(path)
    assert not loaded.warnings
    return Evidence.of(loaded.prompts, loaded.completions, loaded.judgments)


def test_levels_and_domains_equal_the_matrix(tmp_path: Path) -> None:
    path = tmp_path / "total_dataset.json"
    path.write_text(json.dumps(rows()))
    assert recognise(path) == "rm_bench"
    found = {e.name: e.value for e in rm_bench.score(evidence(path), rm_bench.Config())}
    tables = {domain: matrix([row for row in rows() if row["domain"] == domain]) for domain in DOMAINS}
    tables["safety"] = (tables.pop("safety-refuse") + tables.pop("safety-response")) / 2
    mean = np.mean(list(tables.values()), axis=0)
    assert found["hard"] == pytest.approx(np.triu(mean, 1).sum() / 3)
    assert found["normal"] == pytest.approx(np.diag(mean).mean())
    assert found["easy"] == pytest.approx(np.tril(mean, -1).sum() / 3)
    assert found["overall"] == pytest.approx(mean.mean())
    for domain in ("chat", "math", "code", "safety"):
        assert found[f"accuracy: {domain}"] == pytest.approx(tables[domain].mean())
    assert found["hard"] < found["normal"] < found["easy"]


def test_a_checkout_in_parts_is_the_same_data(checkout: Path) -> None:
    assert recognise(checkout) == "rm_bench"
    found = evidence(checkout)
    assert len(found.prompts) == 60
    assert len(found.labels) == 9 * 60
    assert len({e.settings["judge"] for e in rm_bench.score(found, rm_bench.Config())}) == 5


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "total_dataset.json"
    path.write_text(json.dumps([row for row in rows() if row["domain"] in ("chat", "safety-refuse")]))
    overall = next(e for e in rm_bench.score(evidence(path), rm_bench.Config()) if e.name == "overall")
    assert overall.settings["without"] == "math, code, safety-response"


def test_a_missing_style_and_a_score_that_is_none_are_kept_out(tmp_path: Path) -> None:
    made = rows()[:10]
    made[0]["chosen"] = ["only one"]
    made[5]["score_chosen"][1] = None
    path = tmp_path / "total_dataset.json"
    path.write_text(json.dumps(made))
    loaded = reader.read(path)
    assert "must be 3 texts" in loaded.warnings[0]
    assert sum(j.error is not None for j in loaded.judgments) == 1
    with pytest.raises(UserError, match="must be 3 texts"):
        reader.read(path, strict=True)


def test_a_judge_that_compares_is_asked_about_the_nine_pairs(checkout: Path, tmp_path: Path) -> None:
    from rlhf_eval.cli import main
    from rlhf_eval.records import Estimate
    from rlhf_eval.store.runs import Store

    store = tmp_path / "store"
    words = ["evaluate", "rm_bench", "--prompts", str(checkout), "--store", str(store), "--quiet", "--orders", "one"]
    assert main([*words, "--judge-model", "mock:judge?sharpness=60"]) == 0
    assert main([*words[:-2], "--judge", "length"]) == 0
    judged = Store(store)
    overall = [e for e in judged.read(Estimate) if e.name == "overall"]
    assert {e.settings["judge"].partition("#")[0] for e in overall} == {"pairwise/mock:judge", "length"}
    assert judged.sql("select count(*) as n from judgments where judge like 'pairwise%'")["n"][0].as_py() == 9 * 60
    assert judged.sql("select count(*) as n from judgments where judge like 'length%'")["n"][0].as_py() == 6 * 60
