"""In a real browser: the app draws, keeps to this machine, keeps filters, answers the daily questions, fears no text, takes
labels by keys; the report opens without a network.

All in one file, because a browser is started for each file that wants one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dashboards import report, show
from dashboards.shell.app import HIDDEN, PAGES
from rlhf_eval.cli import main
from rlhf_eval.records import Usage
from rlhf_eval.store.runs import Store

TITLES = {name: title for group in (HIDDEN, *PAGES.values()) for name, title in group.items()}
ASKED = {"label": "label?person=heidi"}
"""A page that shows most after a question, to that question."""
EVIL = "judge=evil%2F%3Cb%3Ejudge%3C%2Fb%3E"


@pytest.fixture
def expect(chromium: Any) -> Callable[..., Any]:
    from playwright.sync_api import expect

    expect.set_options(timeout=30_000)
    return expect


@pytest.mark.parametrize("name", TITLES)
def test_every_page_draws_in_both_modes_for_everybody(visitor: Any, expect: Callable[..., Any], name: str) -> None:
    page = visitor.open(name) if name in HIDDEN else visitor.turn(ASKED.get(name, name))
    expect(page.get_by_role("heading", name=TITLES[name], level=1, exact=True)).to_be_visible()
    assert page.locator("[data-testid=stException]").count() == 0
    assert page.get_by_text("Page not found").count() == 0, "home is found under its own name, too"
    assert page.locator("[data-testid=stSidebarNav]").is_visible()
    assert visitor.barriers() == []
    page.set_viewport_size({"width": 390, "height": 1000})
    assert page.locator("[data-testid=stMain]").evaluate("e => e.scrollWidth <= e.clientWidth"), "it fits a telephone"
    page.set_viewport_size({"width": 1440, "height": 1000})


def test_a_filter_lives_in_the_address_and_survives_a_reload(visitor: Any, expect: Callable[..., Any]) -> None:
    page = visitor.turn("")
    page.get_by_role("combobox", name=re.compile("Category")).click()
    page.get_by_role("option", name="maths").click()
    expect(page).to_have_url(re.compile("category=maths"))
    expect(page.get_by_text("n = 20 prompts").first).to_be_visible()
    page.reload()
    visitor.settle()
    expect(page).to_have_url(re.compile("category=maths"))
    expect(page.get_by_text("n = 20 prompts").first).to_be_visible()


def test_the_daily_questions_take_two_clicks_from_home(visitor: Any, expect: Callable[..., Any]) -> None:
    page = visitor.turn("?judge=pairwise%2Fplanted%231a2b3c4d&baseline=old")
    # Is tonight's checkpoint better than the baseline? No click.
    expect(page.get_by_text("new against old").first).to_be_visible()
    expect(page.get_by_text(re.compile(r"95 %: \d")).first).to_be_visible()
    # What did it break? One click.
    page.get_by_role("link", name=re.compile("^Compare new with")).click()
    expect(page.get_by_role("heading", name="Compare", exact=True)).to_be_visible()
    lost = page.get_by_role("link", name=re.compile(r"^Question \d"))
    expect(lost.first).to_be_visible()
    # Show me why. The second.
    lost.first.click()
    expect(page.get_by_role("heading", name="Examples")).to_be_visible()
    expect(page.get_by_role("region", name="Answer A, new")).to_be_visible()
    expect(page).to_have_url(re.compile("at="))
    # The two models that the link named, and not any two, although the page that was left has filters of these names.
    for name in ("new", "old"):
        expect(
            page.get_by_test_id("stSelectbox").get_by_role("combobox").and_(page.locator(f"[value='{name}']"))
        ).to_have_count(1)
    # Can I believe the judge? One.
    page.get_by_role("link", name="Leaderboard", exact=True).click()
    page.get_by_role("link", name="Can this judge be believed?").click()
    expect(page.get_by_role("heading", name="Judge quality")).to_be_visible()
    # Is the training over-optimising, and how are the jobs? One each.
    for title in ("Training", "Jobs and cost"):
        page.get_by_role("link", name=title, exact=True).click()
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    visitor.settle()


def test_examples_are_walked_by_key(visitor: Any, expect: Callable[..., Any]) -> None:
    page = visitor.turn("examples?judge=pairwise%2Fplanted%231a2b3c4d&a=new&b=old")
    expect(page.get_by_text(re.compile(r"^1 of 40$"))).to_be_visible()
    page.keyboard.press("j")
    expect(page.get_by_text(re.compile(r"^2 of 40$"))).to_be_visible()
    expect(page).to_have_url(re.compile("at=[0-9a-f]{20}"))
    where = page.url
    page.keyboard.press("j")
    expect(page.get_by_text(re.compile(r"^3 of 40$"))).to_be_visible()
    page.go_back()
    expect(page.get_by_text(re.compile(r"^2 of 40$"))).to_be_visible()
    page.keyboard.press("k")
    expect(page.get_by_text(re.compile(r"^1 of 40$"))).to_be_visible()
    page.goto(where)
    visitor.settle()
    expect(page.get_by_text(re.compile(r"^2 of 40$"))).to_be_visible()


def test_hostile_answers_are_only_text(visitor: Any, expect: Callable[..., Any]) -> None:
    page = visitor.turn(f"examples?{EVIL}")
    region = page.get_by_role("region", name=re.compile("^Answer B"))

    def drawn(number: int) -> None:
        expect(page.get_by_text(re.compile(rf"^{number} of 8$"))).to_be_visible()
        visitor.settle()
        expect(region).to_be_visible()
        assert page.title() != "owned"

    for number in range(1, 9):
        drawn(number)
        assert region.evaluate("e => e.querySelectorAll('script, img, iframe, a, style, object').length") == 0
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing runs off the page"
        if number < 8:
            page.keyboard.press("j")
    page.get_by_text("Read Markdown").click()
    expect(page).to_have_url(re.compile("markdown=true"))
    page.locator("h1").first.click()  # out of the switch: keys are its own there
    bad = "document.querySelectorAll('.re-text script, .re-text img, .re-text iframe, .re-text a[href]').length"
    for number in range(8, 0, -1):
        drawn(number)
        expect(page.locator("div.re-text").first).to_be_visible()
        assert page.evaluate(bad) == 0
        page.keyboard.press("k")
    for name in ("", "compare", "head_to_head"):
        page = visitor.turn(f"{name}?{EVIL}")
        assert page.locator("[data-testid=stException]").count() == 0
        assert page.title() != "owned"


def test_a_store_that_changes_says_so(newcomer: Any, site: tuple[str, Store], expect: Callable[..., Any]) -> None:
    newcomer.page.clock.install()
    page = newcomer.open("")
    with site[1].begin("load", {"new": True}, inputs={}, seed=0, versions={}) as run:
        run.finish("done", {}, Usage())
    page.clock.fast_forward(1000 * show.WATCH)
    expect(page.get_by_text("The store has changed since this page was drawn.")).to_be_visible()
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_text("The store has changed since this page was drawn.")).to_be_hidden()


# Labels and the report -------------------------------------------------------------------------------------------------


def choices(path: Path) -> list[str]:
    return [json.loads(line)["choice"] for line in path.read_text().splitlines()]


def answered(visitor: Any, count: int) -> None:
    """Wait until the page says how many are answered."""
    visitor.page.get_by_text(f"{count} of ", exact=False).first.wait_for(timeout=30_000)
    visitor.settle()


def test_labels_are_given_by_keys_and_read_back(
    visitor: Any, site: tuple[str, Store], capsys: pytest.CaptureFixture[str]
) -> None:
    store = site[1]
    run = next(r.id for r in store.runs("judge") if r.config.get("name") == "judge")
    page = visitor.turn(f"label?of={run}")
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
    undone = page.get_by_text("you said 'Both are bad'")
    undone.wait_for(timeout=30_000)
    visitor.settle()
    page.keyboard.press("2")
    undone.wait_for(state="hidden", timeout=30_000)
    answered(visitor, 4)
    assert choices(path)[-1] == "b" and len(choices(path)) == 5
    before = page.get_by_role("region", name="left answer").inner_text()
    page.reload()
    answered(visitor, 4)
    assert page.get_by_role("region", name="left answer").inner_text() == before
    assert "person=grace" in page.url
    asked = ["evaluate", "winrate", "--judgments", run, "--human", str(path), "--store", str(store.path), "--json"]
    capsys.readouterr()
    with ThreadPoolExecutor() as elsewhere:  # the browser's event loop runs in this thread
        assert elsewhere.submit(main, asked).result() == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    corrected = next(e for e in done["estimates"] if e["name"] == "win_rate_human")
    assert corrected["settings"]["labelled"] == 4


def test_the_report_opens_without_a_network(chromium: Any, site: tuple[str, Store], tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report.main(site[1]), encoding="utf-8")
    chromium.set_offline(True)
    tab = chromium.new_page()
    asked, errors = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.goto(file.as_uri())
    tab.locator("summary").first.click()
    assert tab.locator("svg").first.is_visible()
    assert tab.locator("details pre").first.is_visible()
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", "paper is light"
    assert tab.locator("details pre").last.is_visible(), "on paper nothing can be opened"
    assert asked == [file.as_uri()]
    assert not errors
    tab.close()
    chromium.set_offline(False)
