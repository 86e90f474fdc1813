"""Examples: why did it win or lose this prompt?"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import streamlit as st

from dashboards import show, words
from dashboards.data import examples, results
from dashboards.data.examples import OUTCOMES, Example, Filters, Gap, Pairs, Span
from rlhf_eval.records import Completion, Judgment
from rlhf_eval.stats.arrays import Ints

GAPS: Mapping[Gap, str] = {
    "": "any length",
    "longer": "A much longer",
    "shorter": "A much shorter",
    "alike": "about as long",
}
PLAIN = "Links, images and HTML stay plain words: nothing is ever fetched."
VERDICTS = 12
"""Verdicts whose words are shown; the table has all."""


def page() -> None:
    """Draw the page."""
    show.title("Examples", "Why did it win or lose this prompt?")
    found, kept, filters = _filtered()
    if not len(kept):
        st.info("No comparison passes these filters. Widen one of them.")
        return
    place, marks, markdown = _browse(found, kept)
    one = show.ask(examples.example, *found.ids(int(kept[place])), judge=found.judge, model=filters.model)
    _verdict(one, found.judge)
    _prompt(one, markdown=markdown)
    _answers(one, marks=marks, markdown=markdown)
    _reasons(one)
    show.how(
        "A's share is the mean over every readable verdict of the judge on these two answers, both orders and all "
        "repeats; above one half A won. A verdict *flips* where the two orders name different winners. Judges *disagree* "
        "where another judge names the other winner. *Much longer* is at least "
        f"{examples.MUCH:g} times the characters.",
        show.command("compare", one.left.model, one.right.model, "--judge", found.judge),
    )


def _run() -> str:
    return str(st.query_params.get("run", ""))


def _filtered() -> tuple[Pairs, Ints, Filters]:
    """The judge's pairs, which of them pass, and the filters."""
    places = st.columns([3, 2, 2, 2])
    met = show.ask(results.met)
    with places[0]:
        judge = show.choice("Judge", results.judges(met), "judge")
    found = show.ask(examples.pairs, judge, run=_run())
    models = show.ask(examples.models, judge)
    with places[1]:
        a = show.choice("A", models, "a", every="any model")
    with places[2]:
        b = show.choice("B", models, "b", every="any model")
    with places[3]:
        known = results.parts_of(show.ask(results.prompt_categories), [s for s in met if s.judge == judge])
        category = show.choice("Category", known, "category", every="all prompts")
    left, right = st.columns([4, 3])
    with left:
        outcome = show.switch("Outcome", OUTCOMES, "outcome")
    with right:
        gap = show.switch("Length", GAPS, "gap")
    filters = Filters(model=a, opponent=b, category=category, outcome=outcome, gap=gap)
    prompts = show.ask(examples.prompts_in, category) if category else None
    chars = show.ask(examples.lengths) if gap else None
    return found, examples.select(found, filters, prompts=prompts, chars=chars), filters


def _browse(found: Pairs, kept: Ints) -> tuple[int, bool, bool]:
    """Where we stand among the pairs that pass, and how texts are read; the prompt's id stands in the URL."""
    wanted = str(st.session_state.get("at", "") or st.query_params.get("at", ""))
    place = examples.place_of(found, kept, wanted)
    if wanted and place is None:
        st.warning(
            f"No comparison of prompt {words.escaped(wanted)} passes these filters; here is the first that does."
        )
    place = place or 0

    def go(to: int) -> None:
        st.session_state["at"] = examples.address(found, kept, to % len(kept))

    back, ahead, where, marking, reading, jump = st.columns([3, 3, 3, 4, 4, 5], vertical_alignment="center")
    back.button("Previous", key="previous", shortcut="K", on_click=go, args=(place - 1,), width="stretch")
    ahead.button("Next", key="next", shortcut="J", on_click=go, args=(place + 1,), width="stretch")
    where.markdown(f"**{place + 1:,}** of {len(kept):,}")
    marks = marking.toggle("Mark differences", value=True, key="marks", bind="query-params")
    markdown = reading.toggle("Read Markdown", key="markdown", bind="query-params", help=PLAIN)
    jump.text_input(
        "Go to a prompt", key="at", bind="query-params", placeholder="id of a prompt", label_visibility="collapsed"
    )
    return place, marks, markdown


def _verdict(one: Example, judge: str) -> None:
    """Who won by whose word, in one line of cards."""
    mine = [v for v in one.verdicts if v.judge == judge]
    shares = [share for v in mine if (share := one.share(v)) is not None]
    a, b = (words.short(c.model, 36) for c in (one.left, one.right))
    if not shares:
        reasons = "; ".join(sorted({words.short(v.error or "", 120) for v in mine}))
        show.card("Verdict", "none could be read", [reasons or "no verdict of this judge is stored"], grey=True)
        return
    mean = sum(shares) / len(shares)
    won = f"A, {a}, won" if mean > 0.5 else f"B, {b}, won" if mean < 0.5 else "a tie"
    fine = [f"A's share {mean:.2f} over {len(shares)} verdict{'s' * (len(shares) != 1)}, judge {judge}"]
    show.card("Verdict", won, [*fine, _orders(one, mine), *_others(one, judge)])


def _orders(one: Example, mine: Sequence[Judgment]) -> str:
    sides: dict[bool, list[float]] = {True: [], False: []}
    for each in mine:
        share = one.share(each)
        if share is not None:
            sides[one.left_first(each)].append(share)
    if not (sides[True] and sides[False]):
        shown = "A" if sides[True] else "B"
        return f"judged in one order only, {shown} first: whether it would flip is not known"
    first, second = (sum(s) / len(s) for s in (sides[True], sides[False]))
    verdict = "the order decides it" if (first - 0.5) * (second - 0.5) < 0 else "both orders agree"
    return f"A shown first {first:.2f}, A shown second {second:.2f}: {verdict}"


def _others(one: Example, judge: str) -> list[str]:
    """What other judges and people say about the same two answers."""
    votes: dict[str, list[float]] = {}
    for verdict in one.verdicts:
        share = one.share(verdict)
        if verdict.judge != judge and share is not None:
            votes.setdefault(verdict.judge, []).append(share)
    if not votes:
        return []
    means = [sum(given) / len(given) for given in votes.values()]
    for_a, for_b = sum(m > 0.5 for m in means), sum(m < 0.5 for m in means)
    return [f"of {len(means)} other judges and people {for_a} say A, {for_b} say B"]


def _prompt(one: Example, *, markdown: bool) -> None:
    if one.prompt is None:
        st.warning("The prompt of these answers is not in the store.")
        return
    category = f", {one.prompt.category}" if one.prompt.category else ""
    st.markdown(f"**Prompt** `{one.prompt.id}`{words.escaped(category)}")
    turns = one.prompt.messages
    text = turns[0].content if len(turns) == 1 else "\n\n".join(f"[{m.role}]\n{m.content}" for m in turns)
    show.foreign(text, label="Prompt", markdown=markdown)
    if one.prompt.reference:
        with st.expander("Reference answer"):
            show.foreign(one.prompt.reference, label="Reference answer", markdown=markdown)


def _answers(one: Example, *, marks: bool, markdown: bool) -> None:
    both = (one.left, one.right)
    found = None
    if marks and not markdown:
        found = examples.difference(*(words.safe(c.text) for c in both))
        if found.reason:
            st.caption(f"Differences are not marked: {found.reason}.")
    for n, (place, completion) in enumerate(zip(st.columns(2), both, strict=True)):
        with place:
            _head("AB"[n], completion, [g for g in one.grades if g.completion_ids == (completion.id,)])
            label = f"Answer {'AB'[n]}, {completion.model}"
            if completion.error:
                st.warning(f"There is no answer: {words.escaped(completion.error)}")
            elif found is not None:
                show.marked(_spans(found.left if n == 0 else found.right, "del" if n == 0 else "ins"), label=label)
            else:
                show.foreign(completion.text, label=label, markdown=markdown)


def _head(letter: str, completion: Completion, grades: Sequence[Judgment]) -> None:
    st.markdown(f"**{letter}: {words.escaped(completion.model)}**")
    length = f"{len(completion.text):,} characters"
    tokens = f"{completion.usage.completion_tokens:,} tokens" if completion.usage.completion_tokens else ""
    cut = "cut off at the token limit" if completion.finish_reason == "length" else ""
    scores = [f"{words.escaped(g.judge)} {g.scores[0]:.3g}" for g in grades if g.scores]
    st.caption(" · ".join(part for part in (length, tokens, cut, *scores) if part))


def _spans(spans: Sequence[Span], tag: str) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" if only else html.escape(text) for text, only in spans)


def _reasons(one: Example) -> None:
    """Every verdict with the judge's own words, both orders side by side."""
    if not one.verdicts:
        return
    st.subheader("Verdicts", anchor=False)
    rows = []
    for verdict in one.verdicts:
        share = one.share(verdict)
        rows.append(
            [
                words.short(verdict.judge, 60),
                "A" if one.left_first(verdict) else "B",
                str(verdict.repeat + 1),
                "unreadable" if share is None else "A" if share > 0.5 else "B" if share < 0.5 else "tie",
                "" if share is None else f"{share:.2f}",
                words.short(verdict.error or "", 60),
            ]
        )
    head = ["judge", "shown first", "asked", "says", "A's share", "problem"]
    show.table(head, rows, right=[4], caption="Every verdict on these two answers")
    spoken = [v for v in one.verdicts if v.rationale][:VERDICTS]
    for start in range(0, len(spoken), 2):
        for place, verdict in zip(st.columns(2), spoken[start : start + 2], strict=False):
            with place:
                order = "A shown first" if one.left_first(verdict) else "B shown first"
                st.markdown(f"**{words.escaped(verdict.judge)}**, {order}")
                show.foreign(verdict.rationale, label=f"Words of {verdict.judge}, {order}")


if __name__ == "__main__":
    page()
