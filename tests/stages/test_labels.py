"""Labels of several: methods against hand counts, planted raters, calibration that recovers a planted temperature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.interop import human
from rlhf_eval.records import Judgment
from rlhf_eval.stages.labels import aggregate, calibrate, grade_temperature, items_of


def compare(
    judge: str, share: float, *, item: int = 0, order: tuple[int, int] = (0, 1), flip: bool = False
) -> Judgment:
    ids = (f"b{item}", f"a{item}") if flip else (f"a{item}", f"b{item}")
    scores = (1 - share, share) if flip else (share, 1 - share)
    return Judgment.of(prompt_id=f"p{item}", completion_ids=ids, judge=judge, order=order, scores=scores)


def grade(judge: str, score: float, name: str, prompt: str = "p") -> Judgment:
    return Judgment.of(prompt_id=prompt, completion_ids=(name,), judge=judge, scores=(score,))


def test_orders_are_averaged_and_labelers_kept_apart() -> None:
    given = [compare("x", 0.9), compare("x", 0.5, order=(1, 0)), compare("y", 0.2, flip=True)]
    (item,) = items_of(
        [*given, Judgment.of(prompt_id="p0", completion_ids=("a0", "b0"), judge="z", error="unparsed: -")]
    )
    assert item.completion_ids == ("a0", "b0")
    assert item.shares == pytest.approx({"x": 0.7, "y": 0.2})
    assert set(item.made_of) == {j.id for j in given}


def test_mean_majority_and_low_median_by_hand() -> None:
    given = [compare("x", 0.9), compare("y", 0.8), compare("z", 0.1)]
    (mean,) = aggregate(given, "mean")
    assert mean.judge == "mean(x+y+z)"
    assert mean.scores == pytest.approx((0.6, 0.4))
    assert mean.metadata["labelers"] == pytest.approx({"x": 0.9, "y": 0.8, "z": 0.1})
    assert sorted(mean.metadata["made_of"]) == sorted(j.id for j in given)
    (majority,) = aggregate(given, "majority")
    assert majority.scores == pytest.approx((2 / 3, 1 / 3))
    median = {j.completion_ids[0]: j.scores[0] for j in aggregate(given, "low_median")}
    assert median == pytest.approx({"a0": 0.8, "b0": 0.2})


def test_a_labeler_without_a_preference_votes_half() -> None:
    (made,) = aggregate([compare("x", 0.5), compare("y", 1.0)], "majority")
    assert made.scores == (0.75, 0.25)


def test_the_low_median_cannot_be_moved_by_exaggeration() -> None:
    honest = [grade("x", 0.2, "a"), grade("y", 0.5, "a"), grade("z", 0.7, "a"), grade("w", 0.6, "a")]
    (before,) = aggregate(honest, "low_median")
    assert before.scores == (0.5,)
    for lie in (0.9, 100.0):
        (after,) = aggregate([*honest[:2], grade("z", lie, "a"), honest[3]], "low_median")
        assert after.scores == before.scores


def test_grades_are_averaged_and_have_no_votes() -> None:
    given = [grade("x", 3, "a"), grade("y", 5, "a"), grade("x", 1, "b")]
    assert {j.completion_ids[0]: j.scores[0] for j in aggregate(given, "mean")} == {"a": 4.0, "b": 1.0}
    for method in ("majority", "dawid_skene"):
        with pytest.raises(UserError, match="counts votes"):
            aggregate(given, method)


def test_dawid_skene_trusts_the_better_labelers() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(600) < 0.5
    given = [
        compare(name, float(right if rng.random() < accuracy else not right), item=i)
        for i, right in enumerate(truth)
        for name, accuracy in (("good", 0.95), ("fair", 0.7), ("poor", 0.55))
    ]
    right_by = {
        method: np.mean([(j.scores[0] > 0.5) == truth[int(j.prompt_id[1:])] for j in aggregate(given, method)])
        for method in ("majority", "dawid_skene")
    }
    assert right_by["dawid_skene"] > right_by["majority"] + 0.05
    assert right_by["dawid_skene"] > 0.92


@pytest.mark.parametrize("scale", ["temperature", "isotonic"])
def test_calibration_recovers_planted_overconfidence(scale: str) -> None:
    rng = np.random.default_rng(1)
    log_odds = rng.normal(0, 1.5, size=4000)
    true_share = 1 / (1 + np.exp(-log_odds))
    said = 1 / (1 + np.exp(-3 * log_odds))  # three times too sure
    outcomes = rng.random(4000) < true_share
    given = [compare("j", float(s), item=i, flip=bool(i % 2)) for i, s in enumerate(said)]
    truth = [compare("human/ada", float(o), item=i) for i, o in enumerate(outcomes[:2000])]
    made = calibrate(given, truth, scale)  # type: ignore[arg-type]
    assert made.labels == 2000
    found = {int(j.prompt_id[1:]): j.scores[0] for j in made.judgments}
    gap = np.array([found[i] - true_share[i] for i in range(4000)])
    assert np.abs(gap).mean() < 0.05 < np.abs(said - true_share).mean()
    if scale == "temperature":
        # Shares beyond .001 and .999 are cut there, so the fit is a little under 3.
        assert made.temperature == pytest.approx(3, rel=0.15)
    assert {j.judge for j in made.judgments} == {f"{scale}(j)"}


def test_calibration_has_no_favourite_side() -> None:
    rng = np.random.default_rng(2)
    shares = rng.random(300)
    given = [compare("j", float(s), item=i) for i, s in enumerate(shares)]
    mirrored = [compare("j", float(1 - s), item=i) for i, s in enumerate(shares)]
    wins = [compare("gold", float(rng.random() < s), item=i) for i, s in enumerate(shares)]
    losses = [compare("gold", 1 - w.scores[0], item=i) for i, w in enumerate(wins)]
    for scale in ("temperature", "isotonic"):
        first = calibrate(given, wins, scale)
        second = calibrate(mirrored, losses, scale)
        assert [j.scores[0] for j in first.judgments] == pytest.approx([j.scores[1] for j in second.judgments])
    with pytest.raises(UserError, match="nothing to calibrate on"):
        calibrate(given, [], "temperature")


def test_the_temperature_of_a_grader() -> None:
    rng = np.random.default_rng(3)
    margins = rng.normal(0, 4, size=3000)
    grades = [
        g for i, m in enumerate(margins) for g in (grade("g", m, f"a{i}", f"p{i}"), grade("g", 0.0, f"b{i}", f"p{i}"))
    ]
    truth = [compare("gold", float(rng.random() < 1 / (1 + np.exp(-m / 2.5))), item=i) for i, m in enumerate(margins)]
    assert grade_temperature(grades, truth) == pytest.approx(2.5, rel=0.1)


def test_peoples_labels_come_in_by_jsonl(tmp_path: Path) -> None:
    row = {"prompt_id": "p", "completion_ids": ["x", "y"], "chance": 0.25, "labeler": "ada", "choice": "b"}
    rows = [row, {**row, "choice": ""}, {**row, "choice": "Tie", "labeler": "bob"}, {**row, "choice": "A"}]
    file = tmp_path / "ada.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert human.detect(file)
    loaded = human.read(file)
    found = {j.judge: j for j in loaded.judgments}
    assert found["human/ada"].scores == (1.0, 0.0)
    assert found["human/ada"].metadata == {"chance": 0.25}
    assert found["human/bob"].scores == (0.5, 0.5)
    assert len(loaded.warnings) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"choice": "c"}, "the choice is 'c'; allowed: a, b, tie"),
        ({"labeler": ""}, "write who chose"),
        ({"completion_ids": ["x"]}, "must be the two ids"),
    ],
)
def test_a_wrong_label_names_its_row(change: dict[str, object], words: str, tmp_path: Path) -> None:
    row = {"prompt_id": "p", "completion_ids": ["x", "y"], "labeler": "ada", "choice": "b", **change}
    file = tmp_path / "ada.jsonl"
    file.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=words):
        human.read(file)
