"""A small, seeded run of tests/bench/coverage.py: our intervals hold, and those of others do not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench" / "coverage.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("coverage_bench", BENCH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def covered(bench, group, case, reps):
    found = [c for c in bench.GROUPS[group]() if case in c.name]
    return {row.procedure: row.coverage for row in bench.measure(found[0], reps, seed=1)}


@pytest.mark.parametrize("case", ["rate 0.55, 60", "rate 0.9, 60", "rate 0.953, 60", "rate 0.98, 30", "rate 0.95, 20"])
def test_win_rates(bench, case):
    held = covered(bench, "rate", case, 300)
    assert held["ours: wilson, clustered"] >= 0.92
    assert held.get("row bootstrap x3, its 90% (arena-hard)", 0) < 0.75


def test_t_and_normal_fail_near_one(bench):
    held = covered(bench, "rate", "rate 0.98, 30", 300)
    assert held["t, clustered (inspect)"] < 0.88
    assert held["normal over rows (lm-eval)"] < 0.88


def test_length_control(bench):
    held = covered(bench, "length", "hard verdicts, lengths -1", 120)
    assert held["ours: influence function"] >= 0.90
    assert held["published SE (alpaca_eval)"] < 0.5


def test_ranking(bench):
    held = covered(bench, "ranking", "bradley-terry", 150)
    assert held["ours: sandwich clustered by prompt"] >= 0.90
    assert held["sandwich over games (arena-rank)"] < 0.88


def test_agreement(bench):
    held = covered(bench, "other", "kappa", 60)
    assert held["ours: cluster bootstrap"] >= 0.87
    assert held["bootstrap of rows"] < held["ours: cluster bootstrap"] - 0.05


def test_human_labels(bench):
    held = covered(bench, "human", "20 labels", 400)
    assert held["ours: ppi++, t"] >= 0.92
    assert held["ppi++, normal (ppi_py)"] < held["ours: ppi++, t"]
    assert held["ours: rogan-gladen, fieller"] < held["rogan-gladen, adjusted (Lee et al.)"]
    assert held["judge alone"] < 0.9


def test_the_command_prints_a_table(bench, capsys):
    assert bench.main(["--reps", "5", "--only", "paired"]) == 0
    assert "ours: paired t, clustered" in capsys.readouterr().out


def test_sets_of_answers(bench):
    held = covered(bench, "sets", "distinct words", 100)
    assert held["ours: block jackknife"] >= 0.88
    assert held["bootstrap of answers"] < 0.2  # a repeated answer is no longer varied
    assert covered(bench, "sets", "rates (0.97", 200)["ours: mover"] >= 0.90
