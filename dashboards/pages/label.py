"""Label: which of two answers is better, by your own eyes?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import streamlit as st

from dashboards import show, words
from dashboards.data import labels
from dashboards.data.labels import Choice, Question, Source
from rlhf_eval.audit import card as cards
from rlhf_eval.audit.evidence import role
from rlhf_eval.errors import UserError
from rlhf_eval.store.labels import check_person
from rlhf_eval.store.runs import Store

CHOICES: dict[Choice, tuple[str, str]] = {
    "a": ("The left is better", "1"),
    "b": ("The right is better", "2"),
    "tie": ("As good as each other", "3"),
    "both_bad": ("Both are bad", "4"),
}
"""What can be said: the button and its key."""
SAID: dict[str, str] = {name: label for name, (label, _) in CHOICES.items()}
AGREEMENT = ("agreement.human", "kappa.human", "ac1.human", "ceiling.human")


def page() -> None:
    """Draw the page."""
    show.title("Label", "Which of two answers is better, by your own eyes?")
    sources = show.ask(labels.sources)
    left, right = st.columns([2, 3])
    with left:
        person = str(
            st.text_input(
                "Who labels", key="person", bind="query-params", placeholder="your name, such as ada", max_chars=40,
                help="Names your file in the store and the judge human/NAME that your labels become.",
            )
            or ""
        ).strip()  # fmt: skip
    with right:
        run = show.run_choice("Comparisons of the run", [source.run for source in sources], "of")
    source = next(source for source in sources if source.run == run)
    if not person:
        _invitation(source)
        return
    check_person(person)
    if st.session_state.get("label_whose") != (run, person):  # what stood here before was another's
        st.session_state.update(label_whose=(run, person), label_skipped=[], label_before=[], label_again="")
    queue = _queue(str(show.opened().store.path), labels.runs_state(show.opened().store), run, person, _store=_store())
    said = labels.answered(_store(), person)
    _work(queue, said, person)
    if st.toggle("Show what the labels say so far", value=True, key="live", bind="query-params"):
        _live(source, person)


def _store() -> Store:
    return show.opened().store


@st.cache_resource(max_entries=32, show_spinner="Choosing what to ask …")
def _queue(path: str, state: str, run: str, person: str, *, _store: Store) -> list[Question]:
    return labels.questions(_store, run, person)


def _invitation(source: Source) -> None:
    st.info(
        "Say who you are to begin. You are shown two answers to one prompt, in an order drawn for you, without the names "
        "of the models or what a judge said. What is asked first is what is most worth a minute; stop wherever you like."
    )
    st.caption(
        f"{source.comparisons:,} judged comparisons in this run. Keys: 1 left, 2 right, 3 tie, 4 both bad, S skip, U undo."
    )


# One question ---------------------------------------------------------------------------------------------------------


def _work(queue: Sequence[Question], said: dict[tuple[str, str], str], person: str) -> None:
    skipped: list[str] = st.session_state["label_skipped"]
    waiting = [q for q in queue if q.ids not in said and q.id not in skipped]
    waiting += [q for q in queue if q.ids not in said and q.id in skipped]
    again = next((q for q in queue if q.id == st.session_state["label_again"]), None)
    question = again or (waiting[0] if waiting else None)
    done = sum(q.ids in said for q in queue)
    st.progress(done / len(queue) if queue else 1.0, text=f"{done:,} of {len(queue):,} answered by {person}")
    problem = st.session_state.pop("label_problem", "")
    if problem:
        st.error(words.escaped(problem))
    if question is None:
        st.success("You have answered every question of this queue.")
        return
    if again is not None:
        st.info(f"Again: you said '{SAID.get(said.get(again.ids, ''), 'nothing yet')}'. What you say now counts.")
    _question(question)
    _answers(question, person)


def _question(question: Question) -> None:
    for turn in question.prompt:
        st.caption(f"{turn.role}{f' · {words.escaped(question.category)}' if question.category else ''}")
        show.foreign(turn.content, label=f"{turn.role} turn of the prompt")
    left, right = st.columns(2)
    with left:
        st.markdown("**Left**")
        show.foreign(question.a, label="left answer")
    with right:
        st.markdown("**Right**")
        show.foreign(question.b, label="right answer")


def _answers(question: Question, person: str) -> None:
    st.text_input("Why, if you like", key=f"comment_{question.id}", max_chars=500)
    columns = st.columns([3, 3, 3, 3, 2, 2])
    for column, choice in zip(columns, get_args(Choice), strict=False):
        label, key = CHOICES[choice]
        column.button(
            label, key=f"label_{choice}", shortcut=key, width="stretch",
            on_click=_save, args=(question, choice, person),
        )  # fmt: skip
    columns[4].button(
        "Skip",
        key="label_skip",
        shortcut="S",
        width="stretch",
        on_click=_skip,
        args=(question,),
        help="Asked at the end",
    )
    before: list[str] = st.session_state["label_before"]
    columns[5].button(
        "Undo", key="label_undo", shortcut="U", width="stretch", on_click=_undo, disabled=not before,
        help="Back to the last one that you answered here",
    )  # fmt: skip


def _save(question: Question, choice: Choice, person: str) -> None:
    comment = str(st.session_state.get(f"comment_{question.id}") or "")  # as it stands at the click
    try:
        labels.save(_store(), question, choice, person=person, comment=comment)
    except UserError as error:
        st.session_state["label_problem"] = str(error)
        return
    st.session_state["label_again"] = ""
    st.session_state["label_before"].append(question.id)


def _skip(question: Question) -> None:
    skipped: list[str] = st.session_state["label_skipped"]
    if question.id in skipped:
        skipped.remove(question.id)
    skipped.append(question.id)
    st.session_state["label_again"] = ""


def _undo() -> None:
    before: list[str] = st.session_state["label_before"]
    if before:
        st.session_state["label_again"] = before.pop()


# What they say --------------------------------------------------------------------------------------------------------


def _live(source: Source, person: str) -> None:
    judge = show.choice("Held against the judge", [j for j in source.judges if not role(j)], "judge")
    found = show.ask(labels.standing, source.run, judge)
    people = ", ".join(f"{name} {count:,}" for name, count in sorted(found.people.items())) or "none"
    bad = f"; both bad: {found.both_bad:,}" if found.both_bad else ""
    st.caption(f"{found.labels:,} labels about this run ({words.escaped(people)}){bad}")
    columns = st.columns(4)
    known = {finding.name: finding for finding in found.findings}
    names = ("Judge agrees with people", "Cohen's kappa", "Gwet's AC1", "Two people agree")
    for column, name, label in zip(columns, AGREEMENT, names, strict=True):
        with column:
            finding = known.get(name)
            if finding is None or finding.estimate is None:
                missing = finding.missing if finding is not None else "too few labels that name a winner yet"
                show.card(label, "not yet", [missing], grey=True)
                continue
            _, value, interval, n, _ = cards.row(finding)
            doubt = words.doubt(finding.estimate.n)
            show.card(
                label, value, [f"95 % {interval}", f"n = {n} prompts", *([doubt] if doubt else [])], grey=bool(doubt)
            )
    _corrected(found)
    path = _store().labels_folder / f"{person}.jsonl"
    show.how(
        "A comparison's chance to be asked follows sqrt(p(1-p)) of the judges' mean share, mixed with equal chances "
        "(active inference, 2403.03208); the queue is drawn by sequential Poisson sampling, so stopping anywhere leaves "
        "known chances. The corrected win rate is prediction-powered (2311.01453), weighted by those chances. Every label "
        f"is one line of `{words.escaped(str(path))}`, on the disk before the next question appears.",
        show.command("evaluate", "winrate", "--judgments", source.run[-8:], "--human", str(_store().labels_folder)),
    )


def _corrected(found: labels.Standing) -> None:
    if found.why_not:
        st.caption(f"No human-corrected win rate yet: {words.escaped(found.why_not)}.")
    for e in found.estimates:
        about = e.settings
        left, right = st.columns([1, 2])
        with left:
            show.estimate(e, label=f"{about['model']} against {about['baseline']}, corrected by people")
        with right:
            st.markdown(
                f"The judge alone says **{100 * about['judge_alone']:.1f} %**. {about['labelled']:,} prompts are labelled, "
                f"and the judge correlates with people by {about['rho']:.2f}. For ±5 points about "
                f"{about['labels_for_5_points']:,} labels are needed, for ±3 points {about['labels_for_3_points']:,}."
            )


if __name__ == "__main__":
    page()
