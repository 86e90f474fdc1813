"""The report: one file that needs nothing, says what the command line says, and shows foreign text as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dashboards import report, words
from dashboards.data.state import Nothing
from rlhf_eval.benchmarks.boards import boards
from rlhf_eval.benchmarks.standings import standings
from rlhf_eval.store.runs import Store

ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "b", "code", "pre", "div", "span",
    "table", "thead", "tr", "th", "td", "ul", "li", "details", "summary", "svg", "desc", "line", "text", "circle", "path",
}  # fmt: skip


class Reader(HTMLParser):
    """Which tags and attributes a page has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_the_report_has_the_boards_numbers_card_and_flips(full: Any, planted: ModuleType) -> None:
    page = report.main(full.store)
    for board in boards(standings(full.store)):
        for row in board.rows:
            value, _, interval = words.rate(row).partition(" [")
            assert value in page
            assert interval.rstrip("]").replace(", ", " to ") in page
            assert f"n = {row.n:,}" in page
    assert planted.JUDGE in page
    assert "flip_rate" in page, "the judge's card"
    assert "lost by new" in page
    assert page.count("<details>") >= 2
    assert "corrected for their number" in page, "the method"
    assert page.count("<svg") == len(boards(standings(full.store))) + 1, "gold graded several models"
    assert "Mean grade by gold" in page and "Mean grade by reward_model" not in page


@pytest.mark.parametrize(("form", "sign"), [("md", "**mean grade, judge gold**"), ("latex", "\\usepackage{booktabs}")])
def test_the_tables_for_papers_hold_the_same(full: Any, tmp_path: Path, form: str, sign: str) -> None:
    from rlhf_eval.cli import main

    path = tmp_path / "tables"
    assert main(["report", "--store", str(full.store.path), "--format", form, "-o", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert sign in text and "mean grade, judge gold" in text and "win rate against old" in text
    assert "gold: what the other judges are measured by" in text


def test_the_report_is_one_file_without_script_or_reference(full: Any) -> None:
    page = report.main(full.store)
    found = Reader(page)
    assert found.tags <= ALLOWED
    assert not {"src", "href", "srcset", "onerror", "onload", "style"} & found.attributes
    assert not re.search(r"url\(|@import", page)


def test_hostile_text_stays_text_in_the_report(
    planted: ModuleType, hostile: Callable[[Store], None], tmp_path: Path
) -> None:
    world = planted.comparisons(tmp_path / "store")
    hostile(world.store)
    page = report.main(world.store)
    found = Reader(page)
    assert found.tags <= ALLOWED
    assert "onerror" not in found.attributes
    assert "&lt;script&gt;" in page
    assert len(page) < 400_000, "a text of a megabyte is cut"
    assert "more characters are not shown" in page


def test_partial_and_broken_are_said(planted: ModuleType, tmp_path: Path) -> None:
    world = planted.comparisons(tmp_path / "store")
    world.put("going", "judge", {}, status="running", counts={"total": 10, "done": 3})
    (world.store.folder(world.runs["judge"]) / "parts" / "judgments-zzz.parquet").write_bytes(b"PAR1 torn")
    page = report.main(world.store)
    assert "Partial:" in page
    assert "3 of 10 prompts" in page
    assert "judgments-zzz.parquet" in page


def test_nothing_to_report_says_what_to_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (store.path / "runs").mkdir(parents=True)
    with pytest.raises(Nothing):
        report.main(store)
