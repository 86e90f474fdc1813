"""Judge quality: can I trust this judge today?"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards import curves, show, words
from dashboards.data import judges
from dashboards.data.examples import OUTCOMES
from dashboards.data.judges import Answer, Bin, Quality, Row
from rlhf_eval.audit import card as cards
from rlhf_eval.audit.card import Finding
from rlhf_eval.audit.compare import JudgeComparison
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate

TILES = (
    ("agreement", "Agreement with {reference}"),
    ("kappa", "Cohen's kappa"),
    ("flip_rate", "Verdicts that flip with the order"),
    ("first_slot", "Lean to the answer shown first"),
    ("length_favour", "Favour for the longer answer"),
    ("ece", "Calibration error"),
    ("injection_obeyed", "Injected orders obeyed"),
    ("unreadable", "Replies without a verdict"),
)
"""Finding to the tile that shows it."""


def page() -> None:
    """Draw the page."""
    show.title("Judge quality", "Can I trust this judge today?")
    rows = show.ask(judges.overview)
    asked = sorted((row for row in rows if not row.role), key=lambda row: not row.audited)
    if not asked:
        st.info("Only gold and people have judged here; there is no judge to be measured.")
        _everybody(rows)
        return
    judge = show.choice("Judge", [row.judge for row in asked], "judge")
    found = show.ask(judges.quality, judge)
    _headline(found)
    _tiles(found)
    if _flips(found):
        show.link("examples", "Read the verdicts that flip with the order", judge=judge, outcome=OUTCOMES["flipped"])
    _charts(found)
    _findings(found)
    _missing(found)
    st.subheader("Would another judge change the leaderboard?", anchor=False)
    several = sum(row.comparisons > 0 for row in rows) > 1
    _rival(judge, several)
    _everybody(rows)
    show.how(
        "Every number is a finding of the audit's own code. Agreement is counted on pairs of answers, over both orders "
        "where both were asked; the unit is the prompt. Intervals are Wilson's or t, clustered by prompt; a bootstrap for "
        "kappa, AC1, alpha and the calibration error. An alarm means that the whole interval, at a level that counts all "
        "questions asked at once, lies beyond what an unbiased judge shows.",
        show.command("audit", "--judge", judge),
    )


def _headline(found: Quality) -> None:
    if found.card is None:
        st.info(
            "This judge was never audited. What stands here is what stored verdicts tell; an audit also buys swapped "
            "orders, repeats, altered copies and injected orders."
        )
        st.code(show.command("audit", "--judge", found.judge), language=None)
    else:
        for alarm in found.card.alarms:
            name, value, interval, _, _ = cards.row(alarm)
            st.error(words.escaped(f"Alarm: {name}, {value}, 95 % {interval}: {alarm.says}"))
        st.caption(f"Audited in run `{found.card.run}`: {words.escaped(cards.summary(found.card))}")
        if found.card.stopped:
            st.warning(f"The audit is incomplete: {words.escaped(found.card.stopped)}")
    if found.of > found.prompts:
        st.caption(f"From {found.prompts:,} of its {found.of:,} prompts, picked by a hash; the audit reads all.")


def _tiles(found: Quality) -> None:
    for start in range(0, len(TILES), 4):
        for column, (name, label) in zip(st.columns(4), TILES[start : start + 4], strict=True):
            with column:
                _tile(found, name, label.format(reference=found.reference or "gold or people"))


def _tile(found: Quality, name: str, label: str) -> None:
    finding = found.find(name)
    if finding is None or finding.estimate is None:
        show.card(label, "not measured", [finding.missing if finding else _no_reference(name)], grey=True)
        return
    _, value, interval, n, _ = cards.row(finding)
    e = finding.estimate
    fine = [f"95 % {interval}", f"n = {n} prompts"]
    if finding.name == "first_slot" and {"to_first", "to_second"} <= set(_flips(found)):
        flips = _flips(found)
        fine.append(f"flips: {flips['to_first']} to the first place, {flips['to_second']} to the second")
    if finding.alarm:
        fine.insert(0, "ALARM: surely beyond an unbiased judge")
    if words.doubt(e.n):
        fine.append(words.doubt(e.n))
    show.card(label, value, fine, grey=bool(words.doubt(e.n)))


def _no_reference(name: str) -> str:
    if name in ("agreement", "kappa"):
        return "no gold or human label of what it judged; label some, or judge with --judge gold"
    if name == "ece":
        return "its verdicts state no probabilities, or no label of what it judged is known"
    return "the audit measures it: rlhf-eval audit"


def _flips(found: Quality) -> dict[str, int]:
    flips = found.find("flip_rate")
    return dict(flips.estimate.settings) if flips is not None and flips.estimate is not None else {}


def _charts(found: Quality) -> None:
    left, right = st.columns(2)
    with left:
        st.subheader("Is it as right as it is sure?", anchor=False)
        _bins(
            found.reliability if len(found.reliability) > 1 else (),
            x="how sure it says it is of its winner", y="how often that is right", diagonal=True, key="reliability",
            empty="Its verdicts state no probability, or no reference label is known for them.", form=".0%",
        )  # fmt: skip
    with right:
        st.subheader("Does the longer answer win?", anchor=False)
        _bins(
            found.lengths, x="longer over shorter, in words", y="share won by the longer", level=0.5,
            key="lengths", log=True, empty="No two of the judged answers differ in length.", form=".1f",
        )  # fmt: skip


def _bins(
    bins: Sequence[Bin], *, x: str, y: str, key: str, empty: str, form: str, level: float | None = None,
    diagonal: bool = False, log: bool = False,
) -> None:  # fmt: skip
    if not bins:
        st.caption(empty)
        return
    frame = curves.frame_of(bins)
    drawing = curves.means(frame, x=x, y=y, across=form, level=level, diagonal=diagonal, log=log)
    first, last = bins[0], bins[-1]
    alt = f"{y} by {x}: {first.found.value:.0%} at {first.at:.2f}, {last.found.value:.0%} at {last.at:.2f}."
    show.chart(drawing, alt=alt, twin=frame.drop(columns=["group", "note"]), key=key)


def _findings(found: Quality) -> None:
    st.subheader("The report card", anchor=False)
    measured = [answer for answer in found.answers if answer.finding.estimate is not None]
    rows = [_row(answer) for answer in measured]
    if not rows:
        st.caption("Nothing has a number yet.")
        return
    show.table(
        ["about", "measure", "value", "95 % interval", "n", "what it is", "from"], rows, right=(2, 3, 4),
        caption=f"All that is measured of {words.name(found.judge, 60)}",
    )  # fmt: skip


def _row(answer: Answer) -> list[str]:
    finding = answer.finding
    name, value, interval, n, says = cards.row(finding)
    few = int(n.replace(",", "")) < words.FEW
    return [finding.section, name, value, interval, f"{n}{' (few)' * few}", says, answer.source.partition(" ")[0]]


def _missing(found: Quality) -> None:
    missing = [answer.finding for answer in found.answers if answer.finding.estimate is None]
    if missing:
        with st.expander(f"Not measured: {len(missing)}, with what would measure it"):
            show.table(["about", "measure", "why not, and what brings it"], [_why(finding) for finding in missing])


def _why(finding: Finding) -> list[str]:
    return [finding.section, finding.name, finding.missing]


def _rival(judge: str, several: bool) -> None:
    others = sorted(other for one, other in show.ask(judges.rivals) if one == judge) if several else []
    if not others:
        st.caption("No other judge has judged the same answers; judge them again with another and look here.")
        return
    other = show.choice("Another judge of the same answers", others, "other", every="choose one")
    if not other:
        return
    try:
        found = show.ask(judges.compare, judge, other)
    except UserError as error:
        st.warning(words.escaped(str(error)))
        return
    _comparison(found)
    show.how(
        "On the pairs of answers that both have judged, both orders averaged; a model's score is its mean share, prompt by "
        "prompt. The order of two models surely changes where both judges separate them, in opposite directions.",
        show.command("audit", "--compare", judge, other),
    )


def _comparison(found: JudgeComparison) -> None:
    turned = [turn for turn in found.turned if turn.surely]
    if turned:
        st.error(f"Yes: {len(turned)} of {found.pairs_of_models} pairs of models surely change places.")
    else:
        st.success(f"Not surely: none of {found.pairs_of_models} pairs of models is separated in opposite directions.")
    left, middle, right = st.columns(3)
    with left:
        show.estimate(found.flips, label="Pairs of answers with another winner", judge=f"{found.old} / {found.new}")
    with middle:
        show.estimate(found.one_tie, label="A tie for one of the two only", judge=f"{found.old} / {found.new}")
    with right:
        if found.tau is None:
            show.card("Kendall's tau of the rankings", "not defined", ["one model only"], grey=True)
        else:
            show.estimate(found.tau, label="Kendall's tau of the rankings", written=words.number, judge="both")
    show.table(
        ["model", "by this judge", "by the other", "change"],
        [
            [str(old.settings["model"]), words.rate(old), words.rate(new), words.points(gap)]
            for old, new, gap in found.scores
        ],
        right=(1, 2, 3),
    )
    if found.turned:
        show.table(
            ["ahead here", "ahead there", "gap here", "gap there", ""],
            [
                [t.ahead, t.behind, words.points(t.old), words.points(t.new), "surely" if t.surely else "within noise"]
                for t in found.turned
            ],
            right=(2, 3),
        )


def _everybody(rows: Sequence[Row]) -> None:
    st.subheader("All judges of this store", anchor=False)
    show.table(
        ["judge", "role", "comparisons", "grades", "rankings", "prompts", "unreadable", "dollars", "s a call", "card"],
        [
            [
                row.judge, row.role or "judge", f"{row.comparisons:,}", f"{row.grades:,}", f"{row.rankings:,}",
                f"{row.prompts:,}", f"{row.unreadable:,}", f"{row.dollars:.2f}",
                "-" if row.seconds is None else f"{row.seconds:.2f}",
                row.audited[-8:] or "-",
            ]
            for row in rows
        ],
        right=(2, 3, 4, 5, 6, 7, 8),
    )  # fmt: skip
    if sum(row.comparisons > 0 for row in rows) > 1:
        _agreements()


def _agreements() -> None:
    found = show.ask(judges.agreements)
    if not found:
        return
    with st.expander(f"How {len(found)} pairs of judges agree with each other"):
        show.table(
            ["judge", "and", "agree", "kappa", "pairs", "n"],
            [
                [
                    one,
                    other,
                    words.rate(raw),
                    words.number(kappa) if kappa else "-",
                    str(raw.settings["pairs"]),
                    _n(raw),
                ]
                for one, other, raw, kappa in found
            ],
            right=(2, 3, 4, 5),
        )


def _n(e: Estimate) -> str:
    return f"{e.n:,}{' (few)' * (e.n < words.FEW)}"


if __name__ == "__main__":
    page()
