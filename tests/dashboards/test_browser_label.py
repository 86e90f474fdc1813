"""Labelling in a browser: by keys alone, blind, on the disk at once, the same after a reload, and read by the commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.store.runs import Store


def choices(path: Path) -> list[str]:
    return [json.loads(line)["choice"] for line in path.read_text().splitlines()]


def answered(visitor: Any, count: int) -> None:
    """Wait until the page says how many are answered."""
    visitor.page.get_by_text(f"{count} of ", exact=False).first.wait_for(timeout=30_000)
    visitor.settle()


def test_labels_are_given_by_keys_and_read_back(visitor: Any, site: tuple[str, Store]) -> None:
    store = site[1]
    run = next(r.id for r in store.runs("judge") if r.config.get("name") == "judge")
    page = visitor.open(f"label?of={run}")
    page.get_by_role("textbox", name="Who labels").fill("grace")
    page.get_by_role("textbox", name="Who labels").press("Enter")
    answered(visitor, 0)
    shown = page.locator("[data-testid=stMain]").inner_text()
    assert "new" not in shown.split("Held against")[0].split() and "sampler" not in shown
    path = store.labels_folder / "grace.jsonl"
    page.locator("h1").first.click()  # out of the text field: keys are letters there
    for k, key in enumerate(["1", "2", "3", "4"], start=1):
        page.keyboard.press(key)
        answered(visitor, k)
        assert choices(path) == ["a", "b", "tie", "both_bad"][:k]
    page.keyboard.press("u")
    page.get_by_text("you said 'Both are bad'").wait_for(timeout=30_000)
    page.keyboard.press("2")
    answered(visitor, 4)
    assert choices(path)[-1] == "b" and len(choices(path)) == 5
    before = page.get_by_role("region", name="left answer").inner_text()
    page.reload()
    answered(visitor, 4)
    assert page.get_by_role("region", name="left answer").inner_text() == before
    assert "person=grace" in page.url
    asked = ["evaluate", "winrate", "--judgments", run, "--human", str(path), "--store", str(store.path), "--json"]
    said = subprocess.run(
        [sys.executable, "-m", "rlhf_eval", *asked], capture_output=True, text=True, check=True
    ).stdout
    done = json.loads(said.splitlines()[-1])
    corrected = next(e for e in done["estimates"] if e["name"] == "win_rate_human")
    assert corrected["settings"]["labelled"] == 4


def test_labelling_is_for_everybody_in_both_modes(visitor: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visitor.open("label?person=heidi")
    page.get_by_role("button", name="The left is better").wait_for(timeout=30_000)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(150)
        found = axe.run(page, context={"exclude": [["[data-testid=stSidebarNav]"]]}).response["violations"]
        serious = [
            (rule["id"], node["html"][:200])
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]
        assert not serious, f"{scheme}: {serious}"
