"""Preference sets: is this one worth training on?"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards import curves, show, words
from dashboards.data import sets
from dashboards.data.sets import Filter, Row, Shown
from rlhf_eval.records import Estimate, Message
from rlhf_eval.stages.card import Card

SIDES = {"": "either side longer", "chosen": "chosen longer", "rejected": "rejected longer"}
TILES = (
    ("chosen_longer", "Chosen is the longer", words.rate),
    ("length_auc", "Length alone tells (AUC)", words.number),
    ("mean_probability", "Mean probability of a label", words.number),
    ("order_flips", "Verdicts that flip with the order", words.rate),
)
"""Measure of a data card to the tile that shows it."""
KEPT = ("kept_score", "selected_minus_control", "gold_minus_control")
"""The same for a set without pairs."""


def page() -> None:
    """Draw the page."""
    show.title("Preference sets", "Is this set worth training on?")
    rows = show.ask(sets.sets)
    run = show.run_choice("Set", [row.run for row in rows], "set")
    row = next(row for row in rows if row.run == run)
    card, source = show.ask(sets.card, run)
    _warnings(card, row)
    _tiles(card, row)
    _account(row)
    if row.pairs:
        _histograms(run, card)
    _measures(card)
    show.link("lineage", "Where this set comes from, and what was made from it", start=run)
    if row.pairs:
        st.subheader("Pair by pair", anchor=False)
        _browse(run)
    if row.demonstrations:
        _demonstrations(run, row)
    if len(rows) > 1:
        st.subheader("Against another set", anchor=False)
        _versus(run, [other.run for other in rows if other.run != run and other.pairs])
    show.how(
        f"The data card comes from {source}. The unit is the prompt: pairs of one prompt are one cluster. A warning needs "
        "an interval that is clear of harmless, so that a small clean set raises none by chance.",
        show.command("runs", "show", run[-8:]),
    )


def _warnings(card: Card, row: Row) -> None:
    if row.status != "done":
        st.warning(f"The run of this set is {row.status}: what stands here may be a part of it.")
    for warning in card.warnings:
        st.warning(words.escaped(warning))
    if not card.warnings:
        st.success("The data card raises no warning.")


def _tiles(card: Card, row: Row) -> None:
    if not row.pairs:
        _demonstration_tiles(card, row)
        return
    columns = st.columns(5)
    with columns[0]:
        about = [f"{row.prompts:,} prompts", f"rule {row.rule}" if row.rule else "loaded from a file"]
        about += [f"{row.demonstrations:,} demonstrations"] if row.demonstrations else []
        show.card("Pairs", f"{row.pairs:,}", about)
    for column, (name, label, written) in zip(columns[1:], TILES, strict=True):
        with column:
            found = card.get(name)
            if found is None:
                show.card(label, "not measured", [_why_not(name)], grey=True)
            else:
                show.estimate(found, label=label, written=written)


def _demonstration_tiles(card: Card, row: Row) -> None:
    """Of a set without pairs: how many answers were kept, and what they score by whom."""
    found = [e for e in card.estimates if e.name in KEPT]
    columns = st.columns(max(3, 1 + len(found)))
    with columns[0]:
        about = [f"{row.prompts:,} prompts", f"rule {row.rule}" if row.rule else "loaded from a file"]
        show.card("Answers kept, no pairs", f"{row.demonstrations:,}", about)
    for column, e in zip(columns[1:], found, strict=False):
        with column:
            show.estimate(e, label=e.name.replace("_", " ").capitalize(), written=words.number)


def _why_not(name: str) -> str:
    return {
        "order_flips": "fewer than 20 comparisons were judged in both orders",
        "mean_probability": "the set states no probabilities",
    }.get(name, "too few pairs")


def _account(row: Row) -> None:
    if row.counts:
        with st.expander("How every prompt ended"):
            show.table(["", "n"], [[name, f"{count:,}"] for name, count in row.counts.items()], right=(1,))


def _histograms(run: str, card: Card) -> None:
    drawn = (
        ("probability", "probability of the label", card.histograms.get("probability", [])),
        ("margin", "margin, in the judge's units", card.histograms.get("margin", [])),
        ("lengths", "words that chosen has more than rejected", show.ask(sets.lengths, run)),
    )
    for column, (key, x, bins) in zip(st.columns(3), drawn, strict=True):
        with column:
            if bins:
                _histogram(list(bins), x, f"{key}_histogram")


def _histogram(bins: list[tuple[float, float, int]], x: str, key: str) -> None:
    tallest = max(bins, key=lambda one: one[2])
    alt = f"Histogram of {x}: most pairs, {tallest[2]:,}, between {tallest[0]:.3g} and {tallest[1]:.3g}."
    show.chart(curves.histogram(bins, x=x), alt=alt, twin=curves.bins_of(bins), key=key)


def _measures(card: Card) -> None:
    with st.expander(f"The data card: {len(card.estimates)} measures, origin, who was chosen over whom"):
        rows = [
            [e.name.replace("_", " "), words.number(e), f"{e.n:,}{' (few)' * (e.n < words.FEW)}", _about(e)]
            for e in card.estimates
        ]
        if rows:
            show.table(["measure", "value, 95 % interval", "n", "of"], rows, right=(1, 2))
        if card.matrix:
            chosen = [[a or "?", b or "?", f"{n:,}"] for a, b, n in card.matrix]
            show.table(["chosen", "rejected", "pairs"], chosen, right=(2,), caption="Who was chosen over whom")
        origin = [[name, str(value)] for name, value in card.about.items() if value]
        if origin:
            show.table(["origin", ""], origin)


def _about(e: Estimate) -> str:
    return ", ".join(f"{k} {v}" for k, v in e.settings.items() if k not in ("level", "se", "note"))


def _browse(run: str) -> None:
    labelers, rules = show.ask(sets.labelers, run)
    columns = st.columns([3, 2, 2, 2, 3])
    with columns[0]:
        labeler = show.choice("Labeler", labelers, "labeler", every="all labelers")
    with columns[1]:
        rule = show.choice("Rule", rules, "rule", every="all rules")
    with columns[2]:
        longer = show.choice("Length", [side for side in SIDES if side], "longer", every="either")
    with columns[3]:
        flips = show.choice("Order", ["flipped"], "flips", every="all")
    with columns[4]:
        containing = st.text_input(
            "Containing", key="containing", bind="query-params", placeholder="words in the texts"
        )
    wanted = Filter(
        labeler=labeler, rule=rule, longer=longer, flipped=bool(flips), containing=str(containing or "").strip()
    )
    total = show.ask(sets.browse, run, wanted, size=1).total
    if not total:
        st.info("No pair fits these filters.")
        return
    pages = -(-total // sets.PAGE)
    at = show.page_of(pages, "page", listed=(run, wanted))
    page = show.ask(sets.browse, run, wanted, page=at - 1)
    st.caption(
        f"{total:,} pairs, the least sure first; {(at - 1) * sets.PAGE + 1:,} to {min(at * sets.PAGE, total):,} here"
    )
    for shown in page.shown:
        _pair(shown)


def _pair(shown: Shown) -> None:
    pair = shown.pair
    flips = " · flips with the order" if shown.flips else ""
    label = f"{words.short(pair.prompt[-1].content, 90)} · probability {pair.probability:.2f}{flips}"
    with st.expander(words.escaped(label)):
        show.foreign(_joined(pair.prompt), label="prompt")
        left, right = st.columns(2)
        models = pair.metadata.get("chosen_model", ""), pair.metadata.get("rejected_model", "")
        for column, name, turns, model in (
            (left, "Chosen", pair.chosen, models[0]),
            (right, "Rejected", pair.rejected, models[1]),
        ):
            with column:
                text = _joined(turns)
                st.markdown(
                    f"**{name}** · {words.escaped(str(model) or 'unknown model')} · {len(text.split()):,} words"
                )
                show.foreign(text, label=name.lower())
        st.caption(
            f"probability {pair.probability:.3f}, margin {pair.margin:.3g}, labelled by {words.escaped(pair.labeler)}, "
            f"rule {words.escaped(pair.rule)}, from {len(pair.judgment_ids)} verdicts"
        )
        if shown.judgments:
            rows = [
                [
                    j.judge,
                    "first" if j.completion_ids[j.order[0]] == pair.chosen_id else "second",
                    ", ".join(f"{score:.3g}" for score in j.scores) or f"unreadable: {j.error}",
                    words.short(j.rationale, 160),
                ]
                for j in shown.judgments
            ]
            show.table(["judge", "chosen stood", "scores", "in its words"], rows)


def _joined(turns: Sequence[Message]) -> str:
    return "\n\n".join(turn.content for turn in turns)


def _demonstrations(run: str, row: Row) -> None:
    with st.expander(f"{row.demonstrations:,} demonstrations for supervised fine-tuning, best scores first"):
        for one in show.ask(sets.demonstrations, run):
            st.caption(f"score {one.score:.3g}, {words.escaped(one.labeler)}, rule {words.escaped(one.rule)}")
            show.foreign(_joined(one.prompt), label="prompt")
            show.foreign(_joined(one.completion), label="demonstration")
        if row.demonstrations > sets.PAGE:
            st.caption(f"The first {sets.PAGE}; the run's folder holds all.")


def _versus(run: str, others: Sequence[str]) -> None:
    if not others:
        st.caption("The other sets hold no pairs.")
        return
    other = show.run_choice("Another set", list(others), "with", every="choose one")
    if not other:
        return
    found = show.ask(sets.versus, run, other)
    columns = st.columns(4)
    with columns[0]:
        only = [f"{found.only_one:,} only here", f"{found.only_other:,} only there"]
        show.card("Prompts in both", f"{found.shared_prompts:,}", only)
    with columns[1]:
        show.card("Same pairs", f"{found.same_pairs:,}", ["same chosen and rejected answer"])
    with columns[2]:
        show.card("Turned pairs", f"{found.turned:,}", ["what one chooses, the other rejects"])
    show.table(
        ["measure", "this set", "the other"],
        [
            [n.replace("_", " "), words.number(a) if a else "-", words.number(b) if b else "-"]
            for n, a, b in found.measures
        ],
        right=(1, 2),
    )


if __name__ == "__main__":
    page()
