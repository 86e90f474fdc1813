"""The page of studies: nothing yet, and a study whose numbers are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dashboards import report
from dashboards.data import studies
from dashboards.data.state import Nothing
from rlhf_eval.records import Usage
from rlhf_eval.stages.study import Observed, Study, compared, curved, written
from rlhf_eval.store.runs import Store

STUDY = Study(
    title="Noise <b>and</b> labels",
    question="Does noise hurt?",
    page="Read it with care.",
    line={},
    arms={"none": {}, "half": {}},
    control="half",
    measures={"gain": "evaluate/gain"},
    curves={"gold": "train/gold"},
)
GAINS = {"none": (0.10, 0.14, 0.12), "half": (0.01, 0.03, 0.05)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one study, of three seeds."""
    made = Store(tmp_path / "store")
    seen = [
        Observed(arm, seed, {"gain": value}, {"gold": [(0.0, 0.5), (1.0, 0.5 + value)]}, "")
        for arm, values in GAINS.items()
        for seed, value in enumerate(values)
    ]
    estimates = [*compared(STUDY, seen), *curved(STUDY, seen)]
    settings = {"study": STUDY.title, "recipe": "label_noise", "seeds": 3, "quick": True}
    with made.begin("lab", settings, inputs={}, seed=0, versions={}) as run:
        for one in estimates:
            run.append("estimates", one)
        run.finish("done", {"arms": 2, "seeds": 3}, Usage())
        (made.folder(run.run.id) / "page.md").write_text(written(STUDY, estimates), encoding="utf-8")
    return made


def test_arms_stand_beside_their_control(store: Store) -> None:
    (row,) = studies.studies(store)
    found = studies.found(store, row.run)
    none, half = found.measures["gain"]
    assert (none.name, half.name, found.control) == ("none", "half", "half")
    assert none.gap is not None
    assert none.gap.value == pytest.approx(0.09)
    assert none.gap.n == 3
    assert half.gap is None
    assert [(e.settings["arm"], e.settings["x"]) for e in found.points] == [
        ("half", 0.0), ("half", 1.0), ("none", 0.0), ("none", 1.0),
    ]  # fmt: skip
    assert found.about == "Does noise hurt?\n\nRead it with care."


def test_no_study_names_the_command(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(Nothing) as caught:
        studies.studies(Store(tmp_path))
    assert caught.value.command == "rlhf-eval lab --quick"


def test_a_study_is_shown_with_intervals_seeds_and_command(app: Callable[..., Any], store: Store) -> None:
    page = app(store.path, "studies")
    assert not page.exception
    assert not page.error
    said = "\n".join(str(html.proto.body) for html in page.get("html"))
    assert "+0.09" in said
    assert "minus half" in said
    assert "<b>and</b>" not in said
    assert "of 3 seeds" in page.info[0].value
    assert any("lab label_noise --quick" in code.value for code in page.code)


def test_an_empty_store_says_how_to_run_one(app: Callable[..., Any], tmp_path: Path) -> None:
    page = app(tmp_path / "nowhere", "studies")
    assert not page.exception
    assert any("rlhf-eval" in code.value for code in page.code)


def test_the_report_tells_studies_without_a_board(store: Store) -> None:
    page = report.main(store)
    assert "Study: Noise &lt;b&gt;and&lt;/b&gt; labels" in page
    assert "minus half" in page
    assert "+0.09" in page
    with pytest.raises(Nothing):
        report.main(store, judge="somebody")
