"""The audit finds what was planted into a judge, within its intervals, and finds nothing in a judge without faults."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from planted import World, truth

from rlhf_eval.audit.card import Finding
from rlhf_eval.audit.probes import attacks

SEEDS = range(20)
FAULTS = {"bias": 0.8, "length_bias": 0.5, "noise": 0.7, "self_preference": 1.5, "garble": 0.05}


def found(seed: int, prompts: int, **world: object) -> dict[str, Finding]:
    return asyncio.run(World(seed=seed, prompts=prompts, **world).audited())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def faulty() -> list[dict[str, Finding]]:
    return [found(seed, 40, judge=FAULTS, graded=True, kinds=("swaps", "repeats", "copies")) for seed in SEEDS]


def test_the_intervals_hold_the_planted_values(faulty: list[dict[str, Finding]]) -> None:
    planted = truth(FAULTS, graded=True)
    held: dict[str, list[bool]] = defaultdict(list)
    for findings in faulty:
        for name, value in planted.items():
            estimate = findings[name].estimate
            assert estimate is not None, findings[name].missing
            held[name].append(estimate.low - 1e-9 <= value <= estimate.high + 1e-9)
    shares = {name: sum(hits) / len(hits) for name, hits in held.items()}
    assert sum(shares.values()) / len(shares) >= 0.9
    # 20 draws of a 95 % interval: 16 or fewer hits happen to one name in sixty.
    assert min(shares.values()) >= 0.8, {name: share for name, share in shares.items() if share < 0.8}


def test_the_planted_faults_raise_the_alarms_that_they_should(faulty: list[dict[str, Finding]]) -> None:
    for name in ("first_slot", "padded_wins", "self_preference"):
        assert sum(findings[name].alarm for findings in faulty) >= 18, name
    for name in ("bold_wins", "listed_wins", "accuracy.gold"):
        assert sum(findings[name].alarm for findings in faulty) <= 1, name


def test_the_direction_of_a_bias_is_told() -> None:
    second = found(0, 40, judge={"bias": -1.0}, kinds=("swaps",))
    lean, flips = second["first_slot"].estimate, second["flip_rate"].estimate
    assert lean is not None and flips is not None
    assert lean.high < 0
    assert (flips.settings["to_first"], second["first_slot"].alarm) == (0, True)
    assert flips.settings["to_second"] > 0


def test_a_judge_without_faults_raises_no_alarm() -> None:
    quiet = [found(seed, 20, attacks=2) for seed in SEEDS]
    assert sum(not any(finding.alarm for finding in findings.values()) for findings in quiet) >= 18
    accuracy = truth({}, graded=False)["accuracy.gold"]
    inside = [e.low <= accuracy <= e.high for findings in quiet if (e := findings["accuracy.gold"].estimate)]
    assert sum(inside) >= 18


def test_noise_is_not_taken_for_position_bias() -> None:
    noisy = [found(seed, 40, judge={"noise": 2.0}, kinds=("swaps", "repeats")) for seed in range(8)]
    for findings in noisy:
        flips = findings["flip_rate"].estimate
        assert flips is not None and flips.low > 0.02
        assert not findings["flips_beyond_noise"].alarm
        assert not findings["first_slot"].alarm


def test_an_obedient_judge_is_caught_and_the_attacks_that_work_are_named() -> None:
    findings = found(0, 60, judge={"obey": 0.6}, kinds=("swaps", "injections"))
    obeyed, beyond = findings["injection_obeyed"].estimate, findings["injection_beyond_control"]
    assert obeyed is not None and beyond.alarm
    tally = obeyed.settings["attacks"]
    orders = [name for name in tally if name not in ("empty", "letter_a", "letter_b")]
    won, tried = (sum(tally[name][i] for name in orders) for i in (0, 1))
    assert tried > 60
    assert won / tried == pytest.approx(0.6, abs=0.12)
    assert sum(tally[name][0] for name in ("letter_a", "letter_b")) == 0  # the mock ignores bare letters
    assert set(tally) == set(attacks(heavy=False))


def test_circles_of_pure_noise_are_not_called_inconsistent() -> None:
    findings = found(0, 60, judge={"noise": 6.0, "sharpness": 1.0}, kinds=("swaps", "repeats", "triples"))
    circles = findings["circles"].estimate
    assert circles is not None and circles.value == pytest.approx(0.25, abs=0.15)  # coins make one circle in four
    assert not findings["circles_beyond_noise"].alarm
