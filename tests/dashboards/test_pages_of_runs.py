"""The pages on judges, data and runs, in this process, on stores in every state: empty, partial, full and broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rlhf_eval.records import Forecast, Usage
from rlhf_eval.store.runs import Store

Open = Callable[..., Any]
PAGES = ("judge_quality", "reward_models", "preference_sets", "label", "training", "jobs", "lineage")
EMPTY = {
    "judge_quality": "rlhf-eval judge",
    "reward_models": "rlhf-eval judge",
    "preference_sets": "rlhf-eval pairs",
    "label": "rlhf-eval judge",
    "training": "rlhf-eval train",
}
"""Page to the command that fills it."""
NAMED = {
    "judge_quality": ("card.json", "judgments-zzz.parquet"),
    "preference_sets": ("card.json",),
    "training": ("metrics.jsonl",),
}
"""Page to the broken files that it names."""


def text(page: Any) -> str:
    """Everything that a page says."""
    parts = [element.value for kind in ("title", "subheader", "markdown", "caption", "info", "warning", "error", "code")
             for element in getattr(page, kind)]  # fmt: skip
    return "\n".join(map(str, [*parts, *(html.proto.body for html in page.get("html"))]))


@pytest.fixture(scope="module")
def hurt(planted: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a running and an interrupted run, a broken card of each kind, a torn part and half a label."""
    world = planted.full(tmp_path_factory.mktemp("hurt") / "store")
    store: Store = world.store
    world.put("going", "judge", {}, status="running", counts={"total": 10, "done": 3})
    world.put(
        "stopped", "generate", {}, status="stopped", message="stopped by --max-cost 5", command="rlhf-eval generate"
    )
    (store.folder(world.runs["audit"]) / "card.json").write_bytes(b"{")
    (store.folder(world.runs["pairs"]) / "card.json").write_bytes(b"{")
    (store.folder(world.runs["judge"]) / "parts" / "judgments-zzz.parquet").write_bytes(b"PAR1 torn")
    with (store.folder(world.runs["train"]) / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": \n')
    store.labels_folder.mkdir()
    (store.labels_folder / "ada.jsonl").write_text('{"half": \n')
    return store


@pytest.mark.parametrize("page", PAGES)
def test_a_full_store_is_shown(app: Open, full: Any, page: str) -> None:
    shown = app(full.store.path, page)
    assert not shown.exception and not [e for e in shown.error if "cannot" in e.value]
    assert len(text(shown)) > 500


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_store_names_the_command_that_fills_the_page(app: Open, tmp_path: Path, page: str) -> None:
    with Store(tmp_path).begin("load", {}, inputs={}, seed=0, versions={}):
        pass
    shown = app(tmp_path, page)
    assert not shown.exception
    assert EMPTY.get(page, "") in text(shown)


@pytest.mark.parametrize("page", PAGES)
def test_a_hurt_store_is_shown_with_what_is_wrong(app: Open, hurt: Store, page: str) -> None:
    shown = app(hurt.path, page, person="ada") if page == "label" else app(hurt.path, page)
    assert not shown.exception
    said = text(shown)
    assert "is running: 3 of 10 prompts" in said and "(stopped)" in said
    assert len(said) > 500
    assert all(file in said for file in NAMED.get(page, ()))


def test_few_prompts_are_grey_with_the_reason(app: Open, planted: ModuleType, tmp_path: Path) -> None:
    world = planted.comparisons(tmp_path / "store", prompts=12)
    shown = text(app(world.store.path, "judge_quality"))
    assert "only 11 prompts: too few to believe" in shown and "re-card grey" in shown


def test_the_judge_page_says_what_the_audit_says(app: Open, full: Any, planted: ModuleType) -> None:
    from dashboards.data import judges
    from rlhf_eval.audit import card

    shown = text(app(full.store.path, "judge_quality", judge=planted.JUDGE))
    for answer in judges.quality(full.store, planted.JUDGE).answers:
        if answer.finding.estimate is not None:
            name, value, interval, *_ = card.row(answer.finding)
            assert name in shown and value in shown and interval in shown
    assert "Alarm: first_slot, +" in shown.replace("\\", "")
    assert "share won by the answer shown first, over one half" in shown


def test_labelling_saves_goes_on_and_can_be_undone(app: Open, planted: ModuleType, tmp_path: Path) -> None:
    from dashboards.data import labels

    world = planted.comparisons(tmp_path / "store", prompts=8)
    page = app(world.store.path, "label", person="ada")
    assert "0 of 8 answered" in page.get("progress")[0].proto.text
    queue = labels.questions(world.store, world.runs["judge"], "ada")
    assert queue[0].a in text(page) and queue[1].a not in text(page)
    page.text_input(key=f"comment_{queue[0].id}").set_value("clearer")
    page.button(key="label_a").click().run()
    assert labels.answered(world.store, "ada") == {queue[0].ids: "a"} and queue[1].a in text(page)
    page.button(key="label_skip").click().run()
    assert queue[2].a in text(page) and len(labels.answered(world.store, "ada")) == 1
    page.button(key="label_undo").click().run()
    assert "you said 'The left is better'" in text(page) and queue[0].a in text(page)
    page.button(key="label_both_bad").click().run()
    assert labels.answered(world.store, "ada") == {queue[0].ids: "both_bad"}
    page.text_input(key="person").set_value("bob").run()
    assert page.button(key="label_undo").disabled, "what ada said is not bob's to take back"
    again = app(world.store.path, "label", person="ada")
    assert "1 of 8 answered" in again.get("progress")[0].proto.text
    rows = [json.loads(line) for line in (world.store.labels_folder / "ada.jsonl").read_text().splitlines()]
    assert (rows[0]["choice"], rows[0]["comment"], len(rows)) == ("a", "clearer", 2)


def test_a_name_that_is_no_file_is_refused_on_the_page(app: Open, full: Any) -> None:
    shown = app(full.store.path, "label", person="../eve")
    assert not shown.exception and "cannot name who labels" in text(shown).replace("\\", "")


def test_filters_of_pairs_come_from_the_url(app: Open, full: Any) -> None:
    from dashboards.data import sets

    run = full.runs["turned"]
    shown = app(full.store.path, "preference_sets", set=run, longer="chosen", **{"with": full.runs["pairs"]})
    total = sets.browse(full.store, run, sets.Filter(longer="chosen")).total
    assert f"{total} pairs, the least sure first" in text(shown)
    assert "Turned pairs" in text(shown)


def test_a_leaderboard_row_walks_to_its_training(app: Open, full: Any, planted: ModuleType) -> None:
    shown = text(app(full.store.path, "lineage", judge=planted.JUDGE, model="ppo@20", baseline="old"))
    for name in ("evaluate", "train", "audit", "load"):
        assert full.runs[name] in shown


def test_what_a_training_came_to_has_its_interval(app: Open, full: Any) -> None:
    shown = text(app(full.store.path, "training"))
    assert "Gold reward at step 60" in shown and "Proxy reward at step 60" in shown
    card = shown.partition("Gold reward at step 60")[2].partition("Proxy reward")[0]
    assert "95 %:" in card and "n = 40 prompts" in card


def test_spending_stands_beside_the_forecast(app: Open, planted: ModuleType, tmp_path: Path) -> None:
    world = planted.comparisons(tmp_path / "store", prompts=4)
    told = Forecast(requests=500, tokens=4000, cost=4.8, cost_low=3.9, cost_high=6.1, seconds=600, replies=40)
    with world.store.begin("judge", {"dear": True}, inputs={}, seed=0, versions={}) as run:
        run.expect(told)
        run.finish("running", {"total": 100, "done": 25}, Usage(cost=1.2))
    page = app(world.store.path, "jobs")
    assert "25 of 100 prompts" in page.get("progress")[0].proto.text
    assert "$1.20 spent, $4.80 in all at this pace" in page.get("progress")[0].proto.text.replace("\\", "")
    said = text(page).replace("\\", "")
    assert "$1.20 of $4.80 ($3.90 to $6.10)" in said and "learned from 40 earlier replies" in said
    assert "1 of them with a forecast: $1.20 of $4.80 expected" in said


def test_the_peak_is_marked_where_to_stop(app: Open, full: Any) -> None:
    shown = text(app(full.store.path, "training"))
    assert "Gold bends down" in shown and "Keep the checkpoint of step 20" in shown
