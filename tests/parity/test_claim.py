"""A claim passes only if both numbers are there and close; files are found by the tail of their path."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.parity.claim import Claim, Tree, absent, printed


def claim(published: float | None, ours: float | None, tolerance: float = 0.0, fault: bool = False) -> Claim:
    return Claim(peer="p", subject="s", number="n", published=published, ours=ours, tolerance=tolerance, fault=fault)


@pytest.mark.parametrize(
    ("published", "ours", "tolerance", "verdict"),
    [
        (1.0, 1.0, 0.0, "same"),
        (1.0, 1.0 + 1e-15, 0.0, "MISS"),
        (1.0, 1.1, 0.2, "same"),
        (1.0, 1.3, 0.2, "MISS"),
        (1.0, math.nan, 9.0, "MISS"),
        (None, 1.0, 9.0, "not here"),
        (1.0, None, 9.0, "not here"),
    ],
)
def test_verdicts(published: float | None, ours: float | None, tolerance: float, verdict: str) -> None:
    assert claim(published, ours, tolerance).verdict == verdict


def test_a_known_fault_is_no_pass_and_no_miss_but_can_turn_out_right() -> None:
    assert claim(1.0, 2.0, fault=True).verdict == "known fault"
    assert claim(1.0, 1.0, fault=True).verdict == "same"
    assert absent("p", "s", "n", "gone").verdict == "not here"


def test_rounded_numbers_are_given_half_of_their_last_digit() -> None:
    assert printed("89.16562889", 1e-9) == pytest.approx(5.1e-9)
    assert printed("26.459627329192543", 1e-9) == 1e-9
    assert printed("97.5", 1e-9) == 1e-9


def test_files_are_found_by_their_tail_and_version_control_is_left_alone(tmp_path: Path) -> None:
    for name in ("a/results/m/j/x.json", "b/deep/results/m/j/x.json", ".git/results/m/j/x.json", "results/x.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = Tree(tmp_path).find("results/*/*/x.json")
    assert [Tree(tmp_path).name(file) for file in found] == ["a/results/m/j/x.json", "b/deep/results/m/j/x.json"]
    with pytest.raises(UserError, match="no such folder"):
        Tree(tmp_path / "nowhere")
