"""The app in a real browser: it draws, keeps to this machine, keeps filters, answers the daily questions, fears no text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dashboards.shell.app import HIDDEN, PAGES
from rlhf_eval.records import Prompt, Usage
from rlhf_eval.store.runs import Store

EVERY = [name for group in PAGES.values() for name in group] + list(HIDDEN)
OURS = {"exclude": [["[data-testid=stSidebarNav]"]]}
"""Where faults are ours: Streamlit's own menu has lists that are none, which no page can mend."""
EVIL = "judge=evil%2F%3Cb%3Ejudge%3C%2Fb%3E"


@pytest.fixture
def expect(chromium: Any) -> Callable[..., Any]:
    from playwright.sync_api import expect

    expect.set_options(timeout=30_000)
    return expect


@pytest.mark.parametrize("name", EVERY)
def test_every_page_draws_in_both_modes_for_everybody(visitor: Any, name: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = visitor.open(name)
    assert page.locator("[data-testid=stException]").count() == 0
    assert page.locator("[data-testid=stSidebarNav]").is_visible(), "a deep link opens the page in its frame"
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(150)
        options: dict[str, Any] = {"resultTypes": ["violations"]}
        if scheme == "dark":
            options["runOnly"] = ["color-contrast"]  # nothing else changes with the colours
        found = Axe().run(page, context=OURS, options=options).response["violations"]
        serious = [
            (rule["id"], node["html"][:200])
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]
        assert not serious, f"{scheme}: {serious}"


def test_a_filter_lives_in_the_address_and_survives_a_reload(visitor: Any, expect: Callable[..., Any]) -> None:
    page = visitor.open("")
    page.get_by_role("combobox", name=re.compile("Category")).click()
    page.get_by_role("option", name="maths").click()
    expect(page).to_have_url(re.compile("category=maths"))
    expect(page.get_by_text("n = 20 prompts").first).to_be_visible()
    page.reload()
    visitor.settle()
    expect(page).to_have_url(re.compile("category=maths"))
    expect(page.get_by_text("n = 20 prompts").first).to_be_visible()


def test_the_daily_questions_take_two_clicks_from_home(visitor: Any, expect: Callable[..., Any]) -> None:
    page = visitor.open("?judge=pairwise%2Fplanted%231a2b3c4d&baseline=old")
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
    # Can I believe the judge? One.
    page = visitor.open("")
    page.get_by_role("link", name="Can this judge be believed?").click()
    expect(page.get_by_role("heading", name="Judge quality")).to_be_visible()
    # Is the training over-optimising, and how are the jobs? One each.
    for title in ("Training", "Jobs and cost"):
        page.get_by_role("link", name=title, exact=True).click()
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    visitor.settle()


def test_examples_are_walked_by_key(visitor: Any, expect: Callable[..., Any]) -> None:
    page = visitor.open("examples?judge=pairwise%2Fplanted%231a2b3c4d&a=new&b=old")
    expect(page.get_by_text(re.compile(r"^1 of 40$"))).to_be_visible()
    page.keyboard.press("j")
    expect(page.get_by_text(re.compile(r"^2 of 40$"))).to_be_visible()
    expect(page).to_have_url(re.compile("at=[0-9a-f]{20}"))
    where = page.url
    page.keyboard.press("k")
    expect(page.get_by_text(re.compile(r"^1 of 40$"))).to_be_visible()
    page.goto(where)
    visitor.settle()
    expect(page.get_by_text(re.compile(r"^2 of 40$"))).to_be_visible()


def test_hostile_answers_are_only_text(
    visitor: Any, hostile_answers: Mapping[str, str], expect: Callable[..., Any]
) -> None:
    page = visitor.open(f"examples?{EVIL}")
    expect(page.get_by_text(re.compile(r"^1 of 8$"))).to_be_visible()
    for number in range(1, 9):
        expect(page.get_by_text(re.compile(rf"^{number} of 8$"))).to_be_visible()
        visitor.settle()
        region = page.get_by_role("region", name=re.compile("^Answer B"))
        expect(region).to_be_visible()
        assert region.evaluate("e => e.querySelectorAll('script, img, iframe, a, style, object').length") == 0
        assert page.title() != "owned"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing runs off the page"
        page.keyboard.press("j")
    bad = "document.querySelectorAll('.re-text script, .re-text img, .re-text iframe, .re-text a[href]').length"
    for prompt in [Prompt.of(f"{name}: {hostile_answers[name][:3000]}") for name in ("image", "markup", "maths")]:
        page = visitor.open(f"examples?{EVIL}&markdown=true&marks=false&at={prompt.id}")
        expect(page.get_by_role("region", name=re.compile("^Answer B"))).to_be_visible()
        assert page.evaluate(bad) == 0
    for name in ("", "compare", "head_to_head"):
        page = visitor.open(f"{name}?{EVIL}")
        assert page.locator("[data-testid=stException]").count() == 0
        assert page.title() != "owned"


def test_a_store_that_changes_says_so(visitor: Any, site: tuple[str, Store], expect: Callable[..., Any]) -> None:
    page = visitor.open("")
    with site[1].begin("load", {"new": True}, inputs={}, seed=0, versions={}) as run:
        run.finish("done", {}, Usage())
    expect(page.get_by_text("The store has changed since this page was drawn.")).to_be_visible()
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_text("The store has changed since this page was drawn.")).to_be_hidden()
