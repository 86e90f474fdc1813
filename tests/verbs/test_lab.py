"""Studies: arms over seeds, compared with the control on the same seeds, and every shipped one holds together."""

from __future__ import annotations

import asyncio
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats
from toy_study import TOY

from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate
from rlhf_eval.stages.study import Observed, Study, compared, curved, drawn, fitted, overlaid, written
from rlhf_eval.verbs.lab import LabResult, lab, read_study, studies
from rlhf_eval.verbs.session import Options, Session


def study(**changes: object) -> Study:
    made = {
        "title": "t",
        "question": "q?",
        "line": {},
        "arms": {"a": {}, "b": {}},
        "control": "a",
        "measures": {"m": "s/m"},
    }
    return Study(**{**made, **changes})  # type: ignore[arg-type]


def seen(arm: str, values: list[float], points: list[list[tuple[float, float]]] | None = None) -> list[Observed]:
    tracks = points or [[] for _ in values]
    return [Observed(arm, k, {"m": v}, {"c": tracks[k]}, f"{arm}{k}") for k, v in enumerate(values)]


def run(store: Path, name: str, **options: object) -> LabResult:
    session = Session(Options(store=store, quiet=True))
    return asyncio.run(lab(session, name, **options))  # type: ignore[arg-type]


def test_arms_are_compared_with_the_control_seed_by_seed() -> None:
    a, b = [0.1, 0.5, 0.3, 0.9], [0.2, 0.7, 0.35, 1.0]
    made = list(compared(study(), [*seen("a", a), *seen("b", b)]))
    (gap,) = [e for e in made if e.settings["role"] == "difference"]
    reference = stats.ttest_rel(b, a).confidence_interval()
    assert (gap.low, gap.high) == pytest.approx((reference.low, reference.high))
    assert gap.settings["against"] == "a"
    assert gap.n == 4


def test_an_arm_can_have_a_control_of_its_own() -> None:
    three = study(arms={"a": {}, "b": {}, "c": {}}, against={"c": "b"})
    made = [e for arm, v in (("a", 0.0), ("b", 0.5), ("c", 0.6)) for e in seen(arm, [v, v + 0.1])]
    gaps = {e.settings["arm"]: e for e in compared(three, made) if e.settings["role"] == "difference"}
    assert gaps["b"].value == pytest.approx(0.5)
    assert (gaps["c"].value, gaps["c"].settings["against"]) == (pytest.approx(0.1), "b")
    page = written(three, [*compared(three, made)])
    assert "minus its control" in page
    assert "+0.100 (b)" in page


def test_a_seed_without_a_number_is_counted_and_left_out_of_both_sides() -> None:
    made = list(compared(study(), [*seen("a", [0.1, 0.2, 0.3]), *seen("b", [0.4, float("nan"), 0.5])]))
    mean, gap = (
        next(e for e in made if e.settings["arm"] == "b" and e.settings["role"] == r) for r in ("mean", "difference")
    )
    assert (mean.n, mean.failed) == (2, 1)
    assert gap.value == pytest.approx(np.mean([0.3, 0.2]))


def test_curves_are_averaged_point_by_point() -> None:
    tracks = [[(0.0, 0.0), (1.0, 1.0), (2.0, 0.5)], [(0.0, 0.0), (1.2, 0.8)]]
    made = list(curved(study(curves={"c": "s/c*"}), seen("a", [0, 0], tracks)))
    assert [e.value for e in made] == pytest.approx([0, 0.9, 0.5])
    assert [e.settings["x"] for e in made] == pytest.approx([0, 1.1, 2.0])
    assert [e.n for e in made] == [2, 2, 1]


def test_a_reward_without_a_zero_is_shown_by_what_it_gained() -> None:
    tracks = [[(0.0, 5.0), (1.0, 6.0)], [(0.0, -3.0), (1.0, -2.0)]]
    made = list(curved(study(curves={"c": "s/c*"}, gains=("c",)), seen("a", [0, 0], tracks)))
    assert [(e.value, e.low, e.high) for e in made] == [(0, 0, 0), (1, 1, 1)]


WAY = [(0.0, 0.5), (0.5, 0.6), (1.0, 0.62), (2.0, 0.45)]


def test_a_curve_is_fitted_seed_by_seed_and_its_peak_counts_where_it_was_passed() -> None:
    bends = study(curves={"c": "s/c"}, fits={"c": "best_of_n"})
    start = WAY[0][1]
    a, b = np.linalg.lstsq([[x, -(x**2)] for x, _ in WAY[1:]], [y - start for _, y in WAY[1:]], rcond=None)[0]
    found = fitted(bends, {"c": WAY})
    assert list(found.values()) == pytest.approx([a, b, a / (2 * b)])
    assert list(found) == list(bends.words[1:])
    assert np.isnan(list(fitted(bends, {"c": WAY[:3]}).values())[-1]).all()  # its peak lies beyond the way
    assert all(np.isnan(value) for value in fitted(bends, {}).values())
    near = study(curves={"c": "s/c"}, fits={"c": "rl"})  # the steep beginning of an rl curve takes no part
    same = [fitted(near, {"c": [WAY[0], *point, *WAY[1:]]}) for point in ([], [(0.1, 9.0)])]
    assert same[0] == same[1]


def test_the_figure_shows_fit_and_peak() -> None:
    bends = study(curves={"c": "s/c"}, fits={"c": "best_of_n"}, measures={})
    tracks = [[(x, y + shift * x) for x, y in WAY] for shift in (0.0, 0.01, -0.01)]
    observed = [Observed("a", k, fitted(bends, {"c": t}), {"c": t}, f"a{k}") for k, t in enumerate(tracks)]
    estimates = [*compared(bends, observed), *curved(bends, observed)]
    words = "".join(ElementTree.fromstring(drawn(bends, estimates)).itertext())
    (peak,) = [e for e in estimates if e.name == bends.words[-1]]
    assert f"peak at {peak.value:.2f} [{peak.low:.2f}, {peak.high:.2f}]" in words
    assert peak.low < peak.value < peak.high


def test_tables_are_laid_over_tables_and_null_takes_one_out() -> None:
    base = {"judge": {"judge": "gold", "orders": "both"}, "train.rm": {"lr": 1}}
    assert overlaid(base, {"judge": {"orders": "one"}, "train.rm": None}) == {
        "judge": {"judge": "gold", "orders": "one"}
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"control": "c"}, "control is 'c', which is no arm"),
        ({"seeds": 1}, "at least 2 seeds"),
        ({"against": {"b": "c"}}, "against names 'c'"),
        ({"gains": ("d",)}, "no curve"),
        ({"fits": {"d": "rl"}}, "no curve"),
    ],
)
def test_a_study_must_hold_together(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        study(**changes)


def test_a_study_runs_through_the_verbs_stores_its_numbers_and_resumes(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(TOY)
    first = run(tmp_path / "store", str(tmp_path / "toy.yaml"), quick=True)
    runs = len(Session(Options(store=tmp_path / "store")).store.runs())
    means = {e.settings["arm"]: e for e in first.estimates if e.settings["role"] == "mean"}
    assert means["gold"].value >= means["chance"].value
    assert means["gold"].n == 2
    ElementTree.parse(first.figure)
    assert "| gold |" in first.page.read_text()
    again = run(tmp_path / "store", str(tmp_path / "toy.yaml"), quick=True)
    assert again.run.id == first.run.id
    assert len(Session(Options(store=tmp_path / "store")).store.runs()) == runs


def test_another_measure_is_another_result_of_the_same_work(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(TOY)
    first = run(tmp_path / "store", str(tmp_path / "toy.yaml"), quick=True)
    (tmp_path / "toy.yaml").write_text(TOY.replace("gold of the chosen:", "gold of the kept:"))
    second = run(tmp_path / "store", str(tmp_path / "toy.yaml"), quick=True)
    assert {e.name for e in second.estimates} == {"gold of the kept"}
    store = Session(Options(store=tmp_path / "store")).store
    assert {e.name for e in store.read(Estimate, run=second.run.id)} == {"gold of the kept"}
    assert len(store.runs("evaluate")) == len(first.study.arms) * 2


def test_a_measure_that_no_step_made_is_named_with_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(TOY.replace("reward: chosen", "rewards"))
    with pytest.raises(UserError, match=r"'evaluate' made no number 'rewards'.*reward: chosen"):
        run(tmp_path / "store", str(tmp_path / "toy.yaml"), quick=True)


@pytest.mark.parametrize("name", studies())
def test_every_shipped_study_is_a_recipe_in_every_arm(name: str) -> None:
    found = read_study(name)
    assert found.page
    assert found.question.endswith("?")
    measured = {place.partition("/")[0] for place in (*found.measures.values(), *found.curves.values())}
    assert measured <= {step for over in found.arms.values() for step in overlaid(found.line, over)}
