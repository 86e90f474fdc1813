"""What all pages are made of: filters that live in the URL, numbers with their intervals, notes, links and foreign text.

A page asks its data through ``ask`` and shows it with the rest:

    boards = show.ask(results.boards, judge=judge)
    show.estimate(board.rows[0], label="win rate")
    show.how("Wilson interval, one score a prompt.", "rlhf-eval leaderboard")
"""

from __future__ import annotations

import argparse
import html
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import parse_qsl

import pandas as pd
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboards import words
from dashboards.data.state import Nothing, Unfinished, state, titles, unfinished
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate
from rlhf_eval.store.runs import Store

P = ParamSpec("P")
T = TypeVar("T")
Choice = TypeVar("Choice", bound=str)

HOME = Path(__file__).parent
ANSWERS = 48
"""Answers of data functions that are kept, over all who look."""
_NAME = re.compile(r"(?<=/)|(?=#)")
"""Where the name of a judge may be broken into lines."""
LINKED = "linked"
"""In the query of a link, and gone once it is followed: the menu sends the filters of the page that is left, too."""
WATCH = 5
"""Seconds between two looks at whether the store has changed."""

STYLE = """<style>
[data-testid=stMainBlockContainer] {padding-top: 3.2rem; padding-bottom: 4rem;}
[data-testid=stCaptionContainer] {color: inherit; opacity: 1;}
[data-testid=stCaptionContainer] p {opacity: .82;}
[data-testid=stMain] [data-testid=stPageLink-NavLink] p {text-decoration: underline; text-underline-offset: 3px;
  white-space: normal; overflow: visible;}
.re-card {border: 1px solid rgba(128,128,128,.35); border-radius: .6rem; padding: .7rem .9rem; height: 100%;
  overflow-wrap: anywhere; box-sizing: border-box;}
[data-testid=stColumn]:has(.re-card) > [data-testid=stVerticalBlock] {height: 100%;}
[data-testid=stColumn] > * > [data-testid=stElementContainer]:has(.re-card) {flex: 1 1 auto;}
[data-testid=stElementContainer]:has(> * .re-card) > *, [data-testid=stHtml]:has(> .re-card) {height: 100%;}
.re-card .label {font-size: .85rem;}
.re-card .value {font-size: 1.7rem; font-weight: 600; line-height: 1.3; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere;}
.re-card .value.words {font-size: 1.05rem; line-height: 1.5;}
.re-card .fine {font-size: .82rem; opacity: .85; font-variant-numeric: tabular-nums;}
.re-card.grey .value {opacity: .65; font-weight: 400;}
.re-card.grey .value.none {font-size: 1.05rem; line-height: 1.8; opacity: .85;}
.re-text {white-space: pre-wrap; overflow-wrap: anywhere; font-family: inherit; font-size: .95rem; line-height: 1.5;
  max-height: 32rem; overflow-y: auto; border: 1px solid rgba(128,128,128,.35); border-radius: .6rem; padding: .7rem .9rem;
  margin: 0; unicode-bidi: isolate;}
.re-text ins {text-decoration: underline; text-decoration-thickness: 2px; text-underline-offset: 3px;
  background: rgba(0,114,178,.16);}
.re-text del {text-decoration: underline dotted; text-decoration-thickness: 2px; text-underline-offset: 3px;
  background: rgba(213,94,0,.16);}
.re-scroll {overflow-x: auto;}
.re-table {border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; width: 100%;}
.re-table caption {text-align: left; font-size: .85rem; padding-bottom: .3rem;}
.re-table th {text-align: left; font-weight: 600;}
.re-table th, .re-table td {padding: .3rem .6rem; border-bottom: 1px solid rgba(128,128,128,.25); vertical-align: top;}
.re-table td.num, .re-table th.num {text-align: right; white-space: nowrap;}
.re-table tr.grey td {opacity: .75;}
@media (max-width: 1100px) {
  [data-testid=stSidebar][aria-expanded=true] {min-width: 11.5rem !important; width: 11.5rem !important;}
  [data-testid=stMainBlockContainer] {padding-left: 1.5rem; padding-right: 1.5rem;}
  [data-testid=stMain] [data-testid=stHorizontalBlock] {flex-wrap: wrap;}
  [data-testid=stMain] [data-testid=stColumn] {min-width: 11rem;}
  .re-table td:not(.num):not(:first-child) {min-width: 7rem;}
}
</style>"""


@dataclass(frozen=True, slots=True)
class Opened:
    """The store that is shown, and the state in which this run of the script found it."""

    store: Store
    state: str


# Data -----------------------------------------------------------------------------------------------------------------


def opened() -> Opened:
    """The store named on the command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--store", default="rlhf-eval-store")
    path = parser.parse_known_args(sys.argv[1:])[0].store
    store = _store(path)
    now = state(store)
    if _last_seen().get(path, now) != now:
        _answer.clear()  # what was asked of an older state would only fill the memory
    _last_seen()[path] = now
    return Opened(store, now)


def ask(question: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a data function says about the store; asked once for as long as the store does not change."""
    now = opened()
    name = f"{question.__module__}.{question.__qualname__}"
    found: T = _answer(
        str(now.store.path), now.state, name, args, tuple(sorted(kwargs.items())),
        _work=lambda: question(now.store, *args, **kwargs),
    )  # fmt: skip
    return found


@st.cache_resource(show_spinner=False)
def _store(path: str) -> Store:
    return Store(Path(path))


@st.cache_resource(show_spinner=False)
def _last_seen() -> dict[str, str]:
    return {}


@st.cache_resource(max_entries=ANSWERS, show_spinner="Reading the store …")
def _answer(
    path: str, now: str, name: str, args: tuple[Any, ...], kwargs: tuple[Any, ...], *, _work: Callable[[], Any]
) -> Any:
    return _work()


def command(*parts: str) -> str:
    """The command line that gives what a page shows; empty parts are left out."""
    return words.command(*parts, store=str(opened().store.path))


# The page -------------------------------------------------------------------------------------------------------------


def title(name: str, question: str) -> None:
    """The heading of a page, and the question that it answers."""
    st.title(name, anchor=False)
    st.markdown(question)


def frame(name: str, draw: Callable[[], None]) -> None:
    """A page with what surrounds it: unfinished runs, a changed store, what could not be read, and why it is empty."""
    st.html(STYLE)
    context = get_script_run_ctx()
    sent = dict(parse_qsl(context.query_string)) if context is not None else {}
    st.session_state["_linked"] = sent if st.query_params.pop(LINKED, "") else {}
    above, now = st.container(), opened()
    try:
        found = ask(unfinished)
    except UserError as error:
        st.title(name, anchor=False)
        _refused(error)
        return
    try:
        draw()
    except Nothing as error:
        nothing(str(error), error.command)
    except UserError as error:
        _refused(error)
    finally:
        with above:
            _unfinished(found)
            _unread(now.store.problems)
            _watched(now.state)


def _refused(error: UserError) -> None:
    st.error(words.escaped(str(error)))
    if not (opened().store.path / "runs").is_dir():
        st.markdown("A store with something on every page, made here without any model of yours:")
        st.code(command("demo"), language=None)


def nothing(message: str, how_to_fill: str) -> None:
    """An empty page: what is missing and the command that brings it."""
    st.info(words.escaped(message))
    st.code(command(*shlex.split(how_to_fill)[1:]), language=None)


def _unfinished(found: Sequence[Unfinished]) -> None:
    live = [u for u in found if u.run.status == "running"]
    for one in live[:2]:
        steps = one.run.counts.get("steps")
        begun = f"step {steps:,}" if steps else "nothing counted yet"
        how_far = f"{one.done:,} of {one.total:,} {one.unit}" if one.total else begun
        st.warning(f"`{one.run.id}` is running: {how_far}. Numbers are of what is there; intervals will narrow.")
    ended = [u for u in found if u.run.status != "running"]
    if ended:
        names = ", ".join(f"`{u.run.id}` ({u.run.status})" for u in ended[:3])
        more = f" and {len(ended) - 3} more" if len(ended) > 3 else ""
        st.warning(f"Not finished, and shown as far as it went: {names}{more}. The same command resumes it.")


def _unread(problems: Sequence[str]) -> None:
    if problems:
        with st.expander(f"{len(problems)} things in the store could not be read and are left out"):
            st.code("\n".join(words.safe(problem, longest=500) for problem in problems[:20]), language=None)


@st.fragment(run_every=WATCH)
def _watched(drawn: str) -> None:
    """Says that the page is older than the store."""
    if opened().state != drawn:
        left, right = st.columns([5, 1], vertical_alignment="center")
        left.info("The store has changed since this page was drawn.")
        if right.button("Refresh", key="_refresh"):
            st.rerun(scope="app")


# Filters that live in the URL -----------------------------------------------------------------------------------------


def asked(key: str) -> str:
    """What the address asks for under ``key``, empty where nothing.

    Of a link's query Streamlit drops what the page that is left has a filter for under the same name; what the browser
    sent still has it.
    """
    return str(st.query_params.get(key, st.session_state["_linked"].get(key, "")))


def choice(
    label: str, options: Sequence[str], key: str, *, default: str = "", every: str = "", help: str | None = None,
    told: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    """One of ``options``, kept in the URL under ``key``; ``every`` names the choice of none of them, which is ''.

    ``told`` maps options to what is shown instead, on the page and in the URL.
    """
    offered = ["", *options] if every else list(options)
    start = offered.index(default) if default in offered else 0
    wanted = asked(key)  # read first: of what is not offered, the address loses the name
    option = next((o for o in offered if wanted and wanted in (o, (told or {}).get(o))), None)
    if option is not None and key not in st.query_params:
        st.session_state[key], start = option, 0  # a link asked for it
    chosen = st.selectbox(
        label, offered, index=start, key=key, bind="query-params", help=help,
        format_func=lambda option: (told or {}).get(option, option) or every,
    )  # fmt: skip
    if wanted and option is None and wanted != every:
        st.warning(f"'{words.escaped(words.short(wanted, 60))}' is not among these")
    return str(chosen or "")


def run_choice(label: str, runs: Sequence[str], key: str, *, every: str = "") -> str:
    """One of some runs, by the title that people read; where somebody wrote a run's id into the URL, by its id."""
    asked = st.query_params.get(
        key, ""
    )  # a title in its place would be written nowhere, and a reload would lose the run
    told = ask(titles)
    return choice(label, runs, key, every=every, told={**told, asked: asked} if asked in told else told)


def switch(label: str, options: Mapping[Choice, str], key: str, *, help: str | None = None) -> Choice:
    """One of a few options, all in view; ``options`` maps a value to its name, which stands in the URL."""
    chosen: Choice | None = st.segmented_control(
        label, list(options), default=next(iter(options)), format_func=lambda option: options[option], key=key,
        bind="query-params", required=True, help=help,
    )  # fmt: skip
    return next(iter(options)) if chosen is None else chosen


def page_of(count: int, key: str, *, listed: object) -> int:
    """Which of ``count`` pages of a list is open, kept in the URL; the first one again where another list is ``listed``."""
    if st.session_state.setdefault(f"{key}_lists", listed) != listed:
        st.session_state.update({f"{key}_lists": listed, key: 1})
    # A page of the URL may lie beyond what the filters have left.
    return min(int(st.pagination(count, key=key, bind="query-params")), count) if count > 1 else 1


def link(page: str, label: str, **query: str) -> None:
    """A link to ``pages/<page>.py`` with filters set."""
    known = ask(titles)  # a run stands in the URL by its title, as ``run_choice`` writes it
    filters = {key: known.get(value, value) for key, value in query.items() if value}
    st.page_link(
        HOME / "pages" / f"{page}.py",
        label=words.escaped(label),
        query_params={**filters, LINKED: "1"} if filters else None,
    )


# Numbers --------------------------------------------------------------------------------------------------------------


def estimate(
    found: Estimate, *, label: str, written: Callable[[Estimate], str] = words.rate, judge: str = "", note: str = "",
    unit: str = "prompts",
) -> None:  # fmt: skip
    """A number on a card: value, interval, n, judge and failures; grey with the reason where n is small."""
    value, _, interval = written(found).partition(" [")
    doubt = words.doubt(found.n, unit=unit)
    fine = [
        f"95 %: {interval.rstrip(']').replace(', ', ' to ')}" if interval else "",
        words.about(found, judge=judge, unit=unit),
        doubt,
        note,
    ]
    card(label, value, [line for line in fine if line], grey=bool(doubt))


def card(label: str, value: str, fine: Sequence[str] = (), *, grey: bool = False) -> None:
    """A value on a card with small print below it; everything is escaped."""
    size = " words" if len(value) > 22 else "" if any(map(str.isdecimal, value)) else " none"
    lines = "".join(f'<div class="fine">{html.escape(line)}</div>' for line in fine)
    parts = "<wbr>".join(map(html.escape, _NAME.split(value)))
    st.html(
        f'<div class="re-card{" grey" if grey else ""}"><div class="label">{html.escape(label)}</div>'
        f'<div class="value{size}">{parts}</div>{lines}</div>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), caption: str = "") -> None:
    """A small table of text, escaped, that a screen reader can walk; ``right`` are the columns of numbers."""
    st.html(html_table(head, rows, right=right, caption=caption))


def html_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), caption: str = ""
) -> str:
    """The table as HTML, every cell escaped."""

    def cells(row: Sequence[str], tag: str) -> str:
        marks = [' class="num"' if n in right else "" for n in range(len(row))]
        scope = ' scope="col"' if tag == "th" else ""
        return "".join(
            f"<{tag}{mark}{scope}>{html.escape(cell)}</{tag}>" for mark, cell in zip(marks, row, strict=True)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    said = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    drawn = f'<table class="re-table">{said}<thead><tr>{cells(head, "th")}</tr></thead><tbody>{body}</tbody></table>'
    # Where a table is wider than the screen it scrolls, by the keyboard too, and not the page.
    name = html.escape(caption or f"Table of {', '.join(filter(None, head))}")
    return f'<div class="re-scroll" tabindex="0" role="group" aria-label="{name}">{drawn}</div>'


def chart(drawing: Any, *, alt: str, twin: pd.DataFrame, key: str) -> None:
    """A chart with its takeaway for those who cannot see it, and its numbers as a table."""
    draw(drawing, alt=alt, key=key)
    with st.expander("The chart's numbers as a table"):
        st.dataframe(twin, hide_index=True, key=f"{key}_twin", alt=alt)


def draw(drawing: Any, *, alt: str, key: str) -> None:
    """A chart with its takeaway; its marks stay silent, because ``alt`` and a table say what a reader must know."""
    st.altair_chart(drawing.configure_mark(aria=False), width="stretch", alt=alt, key=key)


def how(text: str, reproduce: str) -> None:
    """How a page's numbers were computed, and the command that gives them again."""
    with st.popover("How computed"):
        st.markdown(text)
        st.markdown("The same numbers on the command line:")
        st.code(reproduce, language=None)


# Foreign text ---------------------------------------------------------------------------------------------------------


def foreign(text: str, *, label: str, markdown: bool = False) -> None:
    """A model's or a person's words: escaped, or as Markdown without links, images and HTML."""
    marked(html.escape(words.safe(text)) if not markdown else words.markdown(text), label=label, markdown=markdown)


def marked(escaped: str, *, label: str, markdown: bool = False) -> None:
    """Foreign text that is HTML already, every part of it escaped, such as one with differences marked."""
    tag = "div" if markdown else "pre"
    style = ' style="white-space: normal"' if markdown else ""
    st.html(
        f'<{tag} class="re-text" dir="auto" tabindex="0" role="region" aria-label="{html.escape(label)}"{style}>'
        f"{escaped}</{tag}>"
    )
