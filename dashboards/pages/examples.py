"""Examples: why did it win or lose this prompt?"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import streamlit as st

from dashboards import show, words
from dashboards.data import examples, results
from dashboards.data.examples import OUTCOMES, Example, Filters, Gap, Pairs, Span, Vote
from rlhf_eval.records import Completion, Judgment
from rlhf_eval.stats.arrays import Ints

GAPS: Mapping[Gap, str] = {"": "any", "longer": "A longer", "shorter": "A shorter", "alike": "alike"}
MEANING = "Flipped: the orders name different winners. Disputed: another judge names the other one. Unread: no verdict."
PLAIN = "Links, images and HTML stay plain words: nothing is ever fetched."
VERDICTS = 12
"""Verdicts whose words are shown; the table has all."""


def page() -> None:
    """Draw the page."""
    show.title("Examples", "Why did it win or lose this prompt?")
    found, kept, filters, run = _filtered()
    if not len(kept):
        st.info("No comparison passes these filters. Widen one of them.")
        return
    place, marks, markdown = _browse(found, kept)
    one = show.ask(examples.example, *found.ids(int(kept[place])), judge=found.judge, model=filters.model)
    _verdict(one, found.judge)
    _prompt(one, markdown=markdown)
    _answers(one, marks=marks, markdown=markdown)
    _reasons(one, found.judge)
    show.how(
        "A's share is the mean over every readable verdict of the judge on these two answers, both orders and all "
        "repeats; above one half A won. The win rate over all prompts, with its interval, is on Leaderboard and Compare.",
        show.command(
            "compare", one.left.model, one.right.model, "--judge", found.judge, *(["--run", run] if run else [])
        ),
    )
    # While this one is read, the next is fetched.
    following = found.ids(int(kept[(place + 1) % len(kept)]))
    show.ask(examples.example, *following, judge=found.judge, model=filters.model)


def _filtered() -> tuple[Pairs, Ints, Filters, str]:
    """The judge's pairs, which of them pass, the filters, and the run where one was chosen."""
    places = st.columns([3, 2, 2, 2, 2])
    with places[4]:
        run = show.run_choice("Run", show.ask(results.runs_with_judgments), "run", every="all runs")
    met = show.ask(results.met, run=run)
    with places[0]:
        judge = show.choice("Judge", results.judges(met), "judge")
    found = show.ask(examples.pairs, judge, run=run)
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
        outcome = show.switch("Outcome", OUTCOMES, "outcome", help=MEANING)
    with right:
        gap = show.switch("Length", GAPS, "gap", help=f"Longer: at least {examples.MUCH:g} times the characters.")
    filters = Filters(model=a, opponent=b, category=category, outcome=outcome, gap=gap)
    prompts = show.ask(examples.prompts_in, category) if category else None
    chars = show.ask(examples.lengths) if gap else None
    return found, examples.select(found, filters, prompts=prompts, chars=chars), filters, run


def _browse(found: Pairs, kept: Ints) -> tuple[int, bool, bool]:
    """Where we stand among the pairs that pass, and how texts are read; the prompt's id stands in the URL."""
    notice = st.container()
    back, ahead, where, marking, reading, jump = st.columns([3, 3, 3, 4, 4, 5], vertical_alignment="center")
    # Drawn first, for what it says: after the browser's Back the session still holds what stood here before.
    wanted = jump.text_input(
        "Go to a prompt", key="at", bind="query-params", placeholder="id of a prompt", label_visibility="collapsed"
    )
    place = examples.place_of(found, kept, wanted)
    if wanted and place is None:
        notice.warning(
            f"No comparison of prompt {words.escaped(wanted)} passes these filters; here is the first that does."
        )
    place = place or 0

    def go(to: int) -> None:
        st.session_state["at"] = examples.address(found, kept, to % len(kept))

    back.button("Previous", key="previous", shortcut="K", on_click=go, args=(place - 1,), width="stretch")
    ahead.button("Next", key="next", shortcut="J", on_click=go, args=(place + 1,), width="stretch")
    where.markdown(f"**{place + 1:,}** of {len(kept):,}")
    marks = marking.toggle("Mark differences", value=True, key="marks", bind="query-params")
    markdown = reading.toggle("Read Markdown", key="markdown", bind="query-params", help=PLAIN)
    return place, marks, markdown


def _verdict(one: Example, judge: str) -> None:
    """Who won by whose word, on one card."""
    votes = examples.votes(one)
    mine = next((vote for vote in votes if vote.judge == judge), None)
    if mine is None or mine.share is None:
        show.card("Verdict", "none could be read", [mine.problem if mine else "no verdict is stored"], grey=True)
        return
    names = {"A": one.left.model, "B": one.right.model}
    won = f"{mine.says}, {words.name(names[mine.says], 60)}, won" if mine.says in names else "a tie"
    count = f"{mine.read} verdict{'s' * (mine.read != 1)} on this prompt"
    unread = f", {mine.asked - mine.read} unread" if mine.asked > mine.read else ""
    fine = [
        f"A's share {mine.share:.2f}, n = {count}{unread}, judge {judge}",
        _orders(mine),
    ]
    others = [vote.says for vote in votes if vote.judge != judge and vote.share is not None]
    if others:
        fine.append(f"of {len(others)} other judges and people {others.count('A')} say A, {others.count('B')} say B")
    show.card("Verdict", won, fine)


def _orders(vote: Vote) -> str:
    if vote.first is None or vote.second is None:
        shown = "A" if vote.second is None else "B"
        return f"judged in one order only, {shown} first: whether it would flip is not known"
    said = "the order decides it" if (vote.first - 0.5) * (vote.second - 0.5) < 0 else "both orders agree"
    return f"A shown first {vote.first:.2f}, A shown second {vote.second:.2f}: {said}"


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


def _reasons(one: Example, judge: str) -> None:
    """The judge's own words, both orders side by side; then what every judge and person says."""
    spoken = [v for v in one.verdicts if v.rationale and v.judge == judge][:VERDICTS]
    for start in range(0, len(spoken), 2):
        for place, verdict in zip(st.columns(2), spoken[start : start + 2], strict=False):
            with place:
                order = "A shown first" if one.left_first(verdict) else "B shown first"
                st.markdown(f"**The judge's words**, {order}")
                show.foreign(verdict.rationale, label=f"Words of {verdict.judge}, {order}")
    votes = examples.votes(one)
    if votes:
        st.markdown("**Every judge and person on these two answers**")
        rows = [[words.name(v.judge, 70), v.says, *map(_share, v.shares), str(v.asked), v.problem] for v in votes]
        head = ["judge", "says", "A's share", "A first", "B first", "asked", "problem"]
        show.table(head, rows, right=[2, 3, 4, 5])


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    page()
