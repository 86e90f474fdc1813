"""Best against worst: the widest contrast, with the judge's own probability, and a reason where there is no pair."""

from __future__ import annotations

import asyncio
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import best_worst
from generators.best_worst import Config
from judges import pairwise
from rlhf_eval.models.door import Door
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Judgment, Message, Prompt
from rlhf_eval.stages.judge import Design, Instrument, calls, matches, put
from rlhf_eval.stages.matrix import tabulate
from rlhf_eval.stages.pairs import Selection, run_rule

PROMPT = Prompt.of("2+2?")
finite = st.floats(-5, 5).map(lambda x: round(x, 2))


def answers(*texts: str) -> list[Completion]:
    return [
        Completion.of(prompt_id=PROMPT.id, model="m", text=text, sample=sample) for sample, text in enumerate(texts)
    ]


def grade(completion: Completion, score: float | None, judge: str = "j") -> Judgment:
    about = {"prompt_id": PROMPT.id, "completion_ids": (completion.id,), "judge": judge}
    return Judgment.of(error="unparsed", **about) if score is None else Judgment.of(scores=(score,), **about)  # type: ignore[arg-type]


def compared(a: Completion, b: Completion, share: float, *, swapped: bool = False) -> Judgment:
    return Judgment.of(
        prompt_id=PROMPT.id, completion_ids=(a.id, b.id), judge="j", scores=(share, 1 - share),
        order=(1, 0) if swapped else (0, 1),
    )  # fmt: skip


def made(completions: list[Completion], judgments: list[Judgment], **settings: float) -> Selection:
    return run_rule(tabulate([PROMPT], completions, judgments), best_worst, Config(**settings), "best_worst")


def reason(selection: Selection) -> str:
    (outcome,) = selection.outcomes
    assert outcome.status == "skipped"
    assert not selection.pairs
    return outcome.reason


@given(st.lists(finite, min_size=2, max_size=8))
def test_by_grades_the_best_meets_the_worst(grades: list[float]) -> None:
    completions = answers(*(f"answer {k}" for k in range(len(grades))))
    selection = made(completions, [grade(c, g) for c, g in zip(completions, grades, strict=True)])
    (kept,) = selection.demonstrations
    assert kept.score == max(grades)
    if len(set(grades)) == 1:
        assert reason(selection) == "tie: the scores are equal"
        return
    (pair,) = selection.pairs
    scores = dict(zip((c.id for c in completions), grades, strict=True))
    assert scores[pair.chosen_id] == max(grades)
    assert scores[pair.rejected_id] == min(grades)
    assert pair.margin == pytest.approx(max(grades) - min(grades))
    assert pair.probability == 1.0
    assert kept.completion_id == pair.chosen_id
    assert len(pair.judgment_ids) == 2
    assert (selection.outcomes[0].status, selection.outcomes[0].records) == ("done", 1)


def test_a_pair_that_met_has_the_judges_own_probability_and_names_its_judgments() -> None:
    a, b, c = answers("a", "b", "c")
    met = [compared(a, c, 0.9), compared(a, c, 0.8, swapped=True)]
    (pair,) = made([a, b, c], [*met, compared(a, b, 0.7), compared(b, c, 0.6)]).pairs
    assert (pair.chosen_id, pair.rejected_id) == (a.id, c.id)
    assert pair.probability == pytest.approx(0.85)
    assert set(pair.judgment_ids) == {j.id for j in met}
    assert (pair.labeler, pair.rule) == ("j", "best_worst")
    assert pair.prompt == (Message("user", "2+2?"),)
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("a", "c")


def test_a_pair_that_never_met_is_half_way_up_its_margin() -> None:
    a, b, c = answers("a", "b", "c")
    (pair,) = made([a, b, c], [compared(a, b, 0.8), compared(b, c, 0.8)]).pairs
    assert (pair.chosen_id, pair.rejected_id) == (a.id, c.id)
    assert pair.margin == pytest.approx(0.6)
    assert pair.probability == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("texts", "grades", "settings", "words"),
    [
        (("a", "b"), (1.0, None), {}, "dropped: fewer than two completions have a readable judgment"),
        (("a",), (1.0,), {}, "dropped: fewer than two"),
        ((), (), {}, "dropped: fewer than two"),
        (("a", "b"), (3.0, 3.0), {}, "tie: the scores are equal"),
        (("same", "same"), (4.0, 3.0), {}, "tie: the two answers are the same words"),
        (("a", "b"), (4.0, 3.0), {"min_margin": 1.0}, "dropped: the margin is not over 1"),
    ],
)
def test_no_pair_without_a_reason(
    texts: tuple[str, ...], grades: tuple[float | None, ...], settings: dict[str, float], words: str
) -> None:
    completions = answers(*texts)
    judgments = [grade(c, g) for c, g in zip(completions, grades, strict=True)]
    assert reason(made(completions, judgments, **settings)).startswith(words)


def test_a_judge_that_contradicts_itself_makes_no_pair() -> None:
    a, b, c = answers("a", "b", "c")
    # a wins everything else, yet loses to c, who loses everything else.
    judgments = [compared(a, b, 1.0), compared(b, c, 1.0), compared(a, c, 0.4)]
    assert reason(made([a, b, c], judgments)) == "dropped: where the two met, the judge preferred the rejected one"


def test_an_unreadable_judgment_is_no_opinion() -> None:
    a, b = answers("a", "b")
    lost = Judgment.of(prompt_id=PROMPT.id, completion_ids=(a.id, b.id), judge="j", order=(1, 0), error="unparsed")
    (pair,) = made([a, b], [compared(a, b, 0.7), lost]).pairs
    assert pair.probability == pytest.approx(0.7)


def test_every_prompt_has_an_outcome_and_the_order_of_the_records_does_not_matter() -> None:
    prompts = [Prompt.of(str(k)) for k in range(5)]
    completions, judgments = [], []
    for prompt in prompts[:4]:
        for sample in range(3):
            c = Completion.of(prompt_id=prompt.id, model="m", text=f"{sample}", sample=sample)
            completions.append(c)
            judgments.append(
                Judgment.of(prompt_id=prompt.id, completion_ids=(c.id,), judge="j", scores=(float(sample),))
            )
    one, two = (
        run_rule(tabulate(prompts, *records), best_worst, Config(), "best_worst")
        for records in ((completions, judgments), (completions[::-1], judgments[::-1]))
    )
    assert one == two
    assert [o.prompt_id for o in one.outcomes] == [p.id for p in prompts]
    assert [o.status for o in one.outcomes] == ["done"] * 4 + ["skipped"]


def test_a_mock_judge_of_planted_quality_chooses_the_best_and_rejects_the_worst() -> None:
    qualities = (0.31, 0.84, 0.12, 0.55)
    completions = answers(*(f"answer quality={q:.4f}" for q in qualities))
    door = Door(MockModel("judge"))
    instrument = Instrument(judge=pairwise.judge, config=pairwise.Config(), model=door, arity=2, name="j")

    async def work() -> list[Judgment]:
        laid = calls(matches(completions, 2, "all"), Design(), swapped=False)
        return [await put(PROMPT, call, instrument) for call in laid]

    (pair,) = made(completions, asyncio.run(work())).pairs
    assert (pair.chosen_id, pair.rejected_id) == (completions[1].id, completions[2].id)
    assert len(pair.judgment_ids) == 2
    assert 0.97 < pair.probability < 1
    assert len([*combinations(completions, 2)]) == 6
