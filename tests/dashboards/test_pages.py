"""Every page in every state of a store: nothing there, partial, full, broken, written by a newer version."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from dashboards.shell.app import HIDDEN, PAGES
from rlhf_eval.records import SCHEMA, Completion, Judgment, Prompt, Usage
from rlhf_eval.store.runs import Store

EVERY = [name for group in PAGES.values() for name in group] + list(HIDDEN)
RESULTS = list(PAGES["Results"])


def words_of(page: Any) -> str:
    """All that a page says in words."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "success", "code", "html")
    return "\n".join(str(part.value) for kind in kinds for part in getattr(page, kind, ()))


def told_about(page: Any) -> bool:
    """Whether a page that lacks something says so, and with which command it comes."""
    return bool(page.info or page.error) and any("rlhf-eval" in code.value for code in page.code)


def test_the_pages_are_files_and_the_files_are_pages() -> None:
    files = {file.stem for file in (Path(__file__).parents[2] / "dashboards" / "pages").glob("[a-z]*.py")}
    assert files == set(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_without_a_store_every_page_names_the_command_that_makes_one(
    app: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    page = app(tmp_path / "nowhere", name)
    assert not page.exception
    assert told_about(page)
    assert not (tmp_path / "nowhere").exists(), "looking must not write"


@pytest.mark.parametrize("name", RESULTS)
def test_with_prompts_only_the_results_say_what_fills_them(app: Callable[..., Any], tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "store")
    with store.begin("load", {}, inputs={}, seed=0, versions={}) as run:
        run.append("prompts", Prompt.of("Question?"))
        run.finish("done", {"prompts": 1}, Usage())
    page = app(store.path, name)
    assert not page.exception
    assert "no comparison" in page.info[0].value
    assert any(code.value.startswith("rlhf-eval evaluate") for code in page.code)


@pytest.mark.parametrize("name", RESULTS)
def test_a_full_store_is_shown_with_n_interval_judge_and_command(
    app: Callable[..., Any], full: Any, planted: Any, name: str
) -> None:
    page = app(full.store.path, name)
    assert not page.exception
    assert not page.error
    said = words_of(page)
    assert planted.JUDGE in said
    assert "n = " in said or "prompts" in said
    assert any("--judge" in code.value and str(full.store.path) in code.value for code in page.code)


def test_the_leaderboard_answers_before_anything_is_clicked(app: Callable[..., Any], full: Any) -> None:
    page = app(full.store.path)
    said = words_of(page)
    assert "new against old" in said
    assert "95 %:" in said
    assert "flip with the order" in said, "the judge's card stands beside the number"
    board = page.dataframe(key="board").value
    assert board["model"].tolist()[0] == "new"
    assert {"win rate", "from", "to", "n", "failed", "behind first", "p (Holm)"} <= set(board.columns)


def test_filters_come_from_the_address(app: Callable[..., Any], full: Any, planted: Any) -> None:
    whole = app(full.store.path)
    part = app(full.store.path, category="maths", judge=planted.JUDGE, baseline="old")
    assert part.selectbox(key="category").value == "maths"
    rows = [page.dataframe(key="board").value.set_index("model").loc["new", "n"] for page in (whole, part)]
    assert rows == [40, 20]
    assert app(full.store.path, category="no such").selectbox(key="category").value == "", "nonsense is left out"


def test_a_map_with_room_for_some_shows_who_met_most(app: Callable[..., Any], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.begin("judge", {"planted": "many"}, inputs={}, seed=0, versions={}) as run:
        prompts = [Prompt.of(f"question {n}") for n in range(4)]
        for n, prompt in enumerate(prompts):
            run.append("prompts", prompt)
            weak, *others = (Completion.of(prompt_id=prompt.id, model=f"m{k}", text=f"{k}") for k in range(30))
            run.append("completions", weak)
            for answer in others:
                run.append("completions", answer)
                scores = (0.0, 1.0) if n == 0 else (1.0, 0.0)
                ids = (answer.id, weak.id)
                run.append("judgments", Judgment.of(prompt_id=prompt.id, completion_ids=ids, judge="j", scores=scores))
        run.finish("done", {}, Usage())
    page = app(store.path, "head_to_head")
    assert "surprises of 23 pairs" in words_of(page), "the weakest stands in the map, because all have met it"


def test_what_the_address_names_and_the_store_lacks_is_said(app: Callable[..., Any], full: Any) -> None:
    page = app(full.store.path, judge="nobody")
    assert [warning.value for warning in page.warning] == ["'nobody' is not among these"]
    page.run()
    assert not page.warning


def test_a_row_that_a_shorter_board_lacks_is_not_chosen(app: Callable[..., Any], full: Any) -> None:
    page = app(full.store.path)
    page.session_state["board"] = {"selection": {"rows": [7], "columns": [], "cells": []}}
    page.run()
    assert not page.exception
    assert any(link.proto.label.startswith("Compare ") for link in page.get("page_link"))


def test_links_lead_to_what_the_board_counts(app: Callable[..., Any], full: Any, planted: Any) -> None:
    page = app(full.store.path, category="maths")
    links = {link.proto.label.partition(" ")[0]: link.proto.query_string for link in page.get("page_link")}
    assert dict(parse_qsl(links["Can"]))["judge"] == planted.JUDGE
    lost = page.dataframe(key="board").value["won / tied / lost"][0].rpartition(" ")[2]
    page = app(full.store.path, "examples", **dict(parse_qsl(links["Read"])))
    assert re.search(r"\*\*1\*\* of (\d+)", words_of(page))[1] == lost
    page = app(full.store.path, view="Mean grades", judge="gold")
    assert not [link for link in page.get("page_link") if "judge" in link.proto.label]


def test_the_table_of_the_page_is_the_board_of_the_command(
    app: Callable[..., Any], full: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from rlhf_eval.cli import main

    assert main(["leaderboard", "--baseline", "old", "--store", str(full.store.path), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shown = app(full.store.path, baseline="old").dataframe(key="board").value.set_index("model")
    for row in (r for r in rows if r["settings"]["judge"] == rows[0]["settings"]["judge"]):
        mine = shown.loc[row["settings"]["model"]]
        assert mine["win rate"] == pytest.approx(100 * row["value"], abs=1e-9)
        assert mine["from"] == pytest.approx(100 * row["low"], abs=1e-9)
        assert mine["to"] == pytest.approx(100 * row["high"], abs=1e-9)
        assert mine["n"] == row["n"]


def test_mean_grades_are_another_view_of_the_address(app: Callable[..., Any], full: Any, planted: Any) -> None:
    page = app(full.store.path, view="Mean grades")
    assert not page.exception
    board = next(table.value for table in page.dataframe if "mean grade" in table.value)
    assert board["model"].tolist() == ["sampler"]
    assert {"from", "to", "n", "grades", "behind first"} <= set(board.columns)
    assert page.selectbox(key="judge").options[-1] == "gold"
    said = words_of(page)
    assert planted.GRADER in said and "n = 40 prompts" in said
    assert any("leaderboard --grades --judge" in code.value for code in page.code)


@pytest.mark.parametrize("name", RESULTS)
def test_one_run_alone_is_a_filter_of_the_address(app: Callable[..., Any], full: Any, name: str) -> None:
    run = full.runs["judge"]
    page = app(full.store.path, name, run=run)
    assert not page.exception
    assert page.selectbox(key="run").value == run
    assert any(f"--run {run}" in code.value for code in page.code)


def test_what_evaluations_stored_stands_below_the_board(app: Callable[..., Any], full: Any) -> None:
    said = words_of(app(full.store.path))
    assert "Measured by evaluations" in said
    assert "gold of the best of 16" in said
    assert "0.45" in said
    assert "0.430 to 0.470" in said


def test_few_prompts_are_grey_with_the_reason(app: Callable[..., Any], full: Any) -> None:
    said = words_of(app(full.store.path, category="maths", baseline="old"))
    assert "re-card grey" in said
    assert "only 20 prompts: too few to believe, at least 30 are wanted" in said


def test_compare_names_the_prompts_that_were_lost(app: Callable[..., Any], full: Any) -> None:
    page = app(full.store.path, "compare")
    page.selectbox(key="a").set_value("new")
    page.selectbox(key="b").set_value("old").run()
    said = words_of(page)
    assert "new minus old, head to head" in said.replace("\\", "")
    assert "What it lost" in said
    assert "paired by prompt" in said


def test_a_prompt_that_was_only_tied_is_found_by_the_link_of_what_was_lost(
    app: Callable[..., Any], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    with store.begin("judge", {"planted": "ties"}, inputs={}, seed=0, versions={}) as run:
        for n in range(8):
            prompt = Prompt.of(f"question {n}")
            run.append("prompts", prompt)
            base, *models = (Completion.of(prompt_id=prompt.id, model=m, text=f"{m} {n}") for m in ("base", "a", "b"))
            run.append("completions", base)
            for answer, share in zip(models, (0.5, 1.0), strict=True):
                run.append("completions", answer)
                ids = (answer.id, base.id)
                run.append(
                    "judgments",
                    Judgment.of(prompt_id=prompt.id, completion_ids=ids, judge="j", scores=(share, 1 - share)),
                )
        run.finish("done", {}, Usage())
    page = app(store.path, "compare", a="a", b="b")
    links = [link.proto for link in page.get("page_link")]
    assert len(links) == 8
    query = dict(parse_qsl(links[3].query_string))
    page = app(store.path, "examples", **query)
    assert not page.warning
    assert f"`{query['at']}`" in words_of(page)


def test_the_chart_of_a_comparison_is_in_points_as_its_card_is(app: Callable[..., Any], full: Any) -> None:
    page = app(full.store.path, "compare")
    table = next(frame.value for frame in page.dataframe if "difference" in frame.value)
    points = float(re.search(r"([+-][\d.]+) points", words_of(page)).group(1))
    assert abs(points) > 1
    assert table["difference"].iloc[0] == points
    charts = [chart.proto.spec for chart in page.get("vega_lite_chart")]
    assert charts and not any('"~g"' in chart for chart in charts), "the axis would write ten as 1e+1"


def test_a_model_is_not_compared_with_itself(app: Callable[..., Any], full: Any) -> None:
    page = app(full.store.path, "compare")
    page.selectbox(key="a").set_value("old")
    page.selectbox(key="b").set_value("old").run()
    assert "same model" in page.info[0].value


def test_examples_go_forward_and_back_and_remember_the_place(app: Callable[..., Any], full: Any) -> None:
    page = app(full.store.path, "examples")
    first = words_of(page)
    page.button(key="next").click().run()
    assert page.session_state["at"]
    assert words_of(page) != first
    page.button(key="previous").click().run()
    assert words_of(page) == first
    page.button(key="previous").click().run()
    assert re.search(r"\*\*(\d+)\*\* of \1\b", words_of(page)), "before the first stands the last"
    page.text_input(key="at").set_value("zzz").run()
    assert any("passes these filters" in warning.value for warning in page.warning)


def test_examples_that_nothing_passes_say_so(app: Callable[..., Any], full: Any) -> None:
    page = app(full.store.path, "examples")
    page.segmented_control(key="outcome").set_value("disputed").run()
    assert any("No comparison passes" in info.value for info in page.info)


def test_a_run_that_goes_on_is_shown_as_partial(app: Callable[..., Any], planted: Any, tmp_path: Path) -> None:
    world = planted.comparisons(tmp_path / "store", prompts=35)
    with world.store.begin("judge", {"again": 1}, inputs={}, seed=0, versions={}) as run:
        page = app(world.store.path)
        assert any("is running" in warning.value for warning in page.warning)
        run.finish("stopped", {"total": 50, "done": 20}, Usage())
    page = app(world.store.path)
    assert any("(stopped)" in warning.value for warning in page.warning)
    assert not page.exception
    assert page.dataframe(key="board").value["model"].tolist() == ["new"]


@pytest.fixture(scope="module")
def broken(planted: Any, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a torn manifest, a part that is no Parquet, and a log with a broken line."""
    world = planted.full(tmp_path_factory.mktemp("broken") / "store")
    store: Store = world.store
    (store.folder(world.runs["gold"]) / "run.json").write_text('{"id": "torn')
    part = next((store.folder(world.runs["graded"]) / "parts").glob("judgments-*.parquet"))
    part.write_bytes(b"PAR1 not really")
    log = store.folder(world.runs["judge"]) / "log"
    log.mkdir(exist_ok=True)
    (log / "judgments-99999999-000000.jsonl").write_text('{"half": \n')
    return store


@pytest.mark.parametrize("name", RESULTS)
def test_what_cannot_be_read_is_named_and_the_rest_is_shown(app: Callable[..., Any], broken: Store, name: str) -> None:
    page = app(broken.path, name)
    assert not page.exception
    assert not page.error
    assert "run.json" in words_of(page)
    assert "could not be read" in " ".join(expander.label for expander in page.expander)


@pytest.fixture(scope="module")
def newer(planted: Any, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store in which a newer version has written a run."""
    world = planted.comparisons(tmp_path_factory.mktemp("newer") / "store", prompts=4)
    manifest = world.store.folder(world.runs["judge"]) / "run.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema": SCHEMA + 1}))
    store: Store = world.store
    return store


@pytest.mark.parametrize("name", EVERY)
def test_a_newer_store_says_so(app: Callable[..., Any], newer: Store, name: str) -> None:
    page = app(newer.path, name)
    assert not page.exception
    assert any("newer" in error.value for error in page.error)


def test_a_removed_run_is_gone_at_the_next_look(app: Callable[..., Any], planted: Any, tmp_path: Path) -> None:
    world = planted.comparisons(tmp_path / "store", prompts=35)
    assert app(world.store.path).dataframe(key="board").value["n"].tolist() == [35]
    for run in world.store.runs("judge"):
        shutil.rmtree(world.store.folder(run.id))
    page = app(world.store.path)
    assert not page.exception
    assert page.info
