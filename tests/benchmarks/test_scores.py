"""The benchmarks' own arithmetic on records made by hand: judges of every kind, ties, failures, curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rlhf_eval.benchmarks import (
    arena_hard,
    best_of_n,
    gsm8k,
    humaneval,
    ifeval,
    judge_bench,
    llmbar,
    mt_bench,
    overoptimization,
    preference,
    reward_bench,
    reward_bench_2,
    wildbench,
)
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.benchmarks.style import counts
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Estimate, Judgment, Prompt


class Maker:
    """Prompts with answers, judged in a line."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self.completions: list[Completion] = []
        self.judgments: list[Judgment] = []

    def answers(self, key: str, texts: Sequence[str], models: Sequence[str] = (), **labels: Any) -> list[Completion]:
        prompt = Prompt.of(f"task {key}", key=key, **labels)
        self.prompts.append(prompt)
        names = models or [f"m{n}" for n in range(len(texts))]
        made = [
            Completion.of(prompt_id=prompt.id, model=m, text=t, sample=n)
            for n, (m, t) in enumerate(zip(names, texts, strict=True))
        ]
        self.completions += made
        return made

    def judge(self, about: Sequence[Completion], scores: tuple[float, ...], judge: str = "j", **more: Any) -> None:
        error = None if scores else "unparsed: nothing"
        ids = tuple(c.id for c in about)
        made = Judgment.of(
            prompt_id=about[0].prompt_id, completion_ids=ids, judge=judge, scores=scores, error=error, **more
        )
        self.judgments.append(made)

    def pair(self, key: str, plain: tuple[float, ...], swapped: tuple[float, ...], **labels: Any) -> list[Completion]:
        """Two answers of which the first is right, judged in both orders."""
        both = self.answers(key, ["right", "wrong"], **labels)
        self.judge(both, (1.0, 0.0), "gold")
        self.judge(both, plain, order=(0, 1))
        self.judge(both, swapped, order=(1, 0))
        return both

    def evidence(self) -> Evidence:
        return Evidence.of(self.prompts, self.completions, self.judgments)


A, B, TIE, NONE = (1.0, 0.0), (0.0, 1.0), (0.5, 0.5), ()


@pytest.fixture
def make() -> Maker:
    return Maker()


def named(found: list[Estimate]) -> dict[str, float]:
    return {e.name: e.value for e in found}


def judged(make: Maker) -> Evidence:
    for n, (plain, swapped) in enumerate([(A, A), (A, B), (B, B), (A, NONE), (TIE, A)]):
        make.pair(str(n), plain, swapped, category="c")
    return make.evidence()


def test_llmbar_counts_unread_verdicts_as_wrong(make: Maker) -> None:
    found = named(llmbar.score(judged(make), llmbar.Config()))
    assert found == {
        "accuracy: c": pytest.approx((1 + 0.5 + 0 + 0.5 + 0.5) / 5),
        "accuracy_both_orders: c": pytest.approx(1 / 5),
        "orders_agree: c": pytest.approx(2 / 5),
    }


def test_judge_bench_needs_more_verdicts_for_the_right_answer(make: Maker) -> None:
    assert named(judge_bench.score(judged(make), judge_bench.Config()))["accuracy"] == pytest.approx(3 / 5)


@pytest.mark.parametrize("benchmark", [judge_bench, llmbar, preference, reward_bench])
def test_a_label_that_is_a_tie_says_nothing_about_a_judge(make: Maker, benchmark: Any) -> None:
    evidence = judged(make)
    tied = make.answers("tied", ["one", "other"], category="c")
    make.judge(tied, TIE, "gold")
    make.judge(tied, A, order=(0, 1))
    make.judge(tied, A, order=(1, 0))
    assert benchmark.score(make.evidence(), benchmark.Config()) == benchmark.score(evidence, benchmark.Config())


def test_preference_shares_ties_and_sets_the_unread_aside(make: Maker) -> None:
    make.pair("lost", NONE, NONE)
    found = named(preference.score(judged(make), preference.Config()))
    assert found["accuracy"] == pytest.approx((1 + 0.5 + 0 + 1 + 0.75) / 5)
    assert found["accuracy_if_wrong"] == pytest.approx((1 + 0.5 + 0 + 1 + 0.75) / 6)


def test_one_table_for_graders_and_comparers(make: Maker) -> None:
    for n in range(4):
        both = make.pair(str(n), A if n else B, A if n else B)
        for completion, grade in zip(both, (7.0, 3.0) if n else (3.0, 7.0), strict=True):
            make.judge([completion], (grade,), "grader")
    found = preference.score(make.evidence(), preference.Config())
    assert {e.settings["judge"]: e.value for e in found if e.name == "accuracy"} == {"j": 0.75, "grader": 0.75}


def test_reward_bench_ties_are_wrong_for_grades_and_half_for_verdicts(make: Maker) -> None:
    both = make.pair("1", TIE, TIE, category="math-prm")
    for completion in both:
        make.judge([completion], (5.0,), "grader")
    found = reward_bench.score(make.evidence(), reward_bench.Config())
    assert {e.settings["judge"]: e.value for e in found if e.name == "Reasoning"} == {"j": 0.5, "grader": 0.0}
    assert "without hep-cpp" in next(e.settings["note"] for e in found if e.name == "Reasoning")


def four(make: Maker, key: str, scores: Sequence[float], right: int = 1, category: str = "Math") -> None:
    group = make.answers(key, [f"answer {n}" for n in range(len(scores))], category=category)
    make.judge(group, tuple(float(n < right) for n in range(len(scores))), "gold")
    for completion, value in zip(group, scores, strict=True):
        make.judge([completion], (value,), "rm")


def test_reward_bench_2_shares_first_place_and_scores_ties(make: Maker) -> None:
    four(make, "1", [9, 1, 2, 3])
    four(make, "2", [9, 9, 2, 3])
    four(make, "3", [1, 9, 2, 3])
    for n, (ref, tied) in enumerate([([5, 1, 0, 0.5], [4, 4.5, 4.2, 1, 0]), ([2, 3, 0, 1], [3, 1, 2, 1.5, 0])]):
        four(make, f"ref:{n}", ref, category="Ties")
        four(make, f"tied:{n}", tied, right=3, category="Ties")
    found = named(reward_bench_2.score(make.evidence(), reward_bench_2.Config()))
    assert found["accuracy: math"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert found["ties"] == pytest.approx(0.5004738, abs=1e-7)
    assert found["overall"] == pytest.approx((0.5 + 0.5004738) / 2, abs=1e-7)


def test_a_ties_prompt_without_its_twin_is_named(make: Maker) -> None:
    four(make, "ref:3", [5, 1, 0, 0.5], category="Ties")
    with pytest.raises(UserError, match="Ties prompt 3 lacks"):
        reward_bench_2.score(make.evidence(), reward_bench_2.Config())


def test_wildbench_takes_a_slight_win_away_from_the_much_longer(make: Maker) -> None:
    pair = make.answers("1", ["x" * 900, "y"], ["mine", "ref"])
    make.judge(pair, A, metadata={"extent": 1})
    make.judge(pair, A, metadata={"extent": 2}, repeat=1)
    make.judge(pair, B, metadata={"extent": 1}, repeat=2)
    evidence = make.evidence()
    rewards = [wildbench.reward(evidence, j, 500) for j in evidence.judgments]
    assert rewards == [0.0, 1.0, -0.5]
    assert wildbench.reward(evidence, evidence.judgments[0], -1) == 0.5


def test_mt_bench_turns_share_a_cluster(make: Maker) -> None:
    for question in range(5):
        for turn, grade in ((1, 8.0), (2, 4.0 + question)):
            prompt = Prompt.of(f"{question}-{turn}", key=str(question), metadata={"turn": turn})
            make.prompts.append(prompt)
            made = Completion.of(prompt_id=prompt.id, model="m", text="t")
            make.completions.append(made)
            make.judge([made], (grade,))
    found = {e.name: e for e in mt_bench.score(make.evidence(), mt_bench.Config())}
    assert [found[n].value for n in ("score", "score: turn 1", "score: turn 2")] == [7.0, 8.0, 6.0]
    assert found["score"].n == 5
    assert found["score"].settings["grades"] == 10


def test_arena_hard_weighs_strong_verdicts_only_as_published(make: Maker) -> None:
    for n, (share, weight) in enumerate([(A, 3), (B, 1), (B, 1), (TIE, 1)]):
        pair = make.answers(str(n), ["mine", "base"], ["mine", "base"])
        make.judge(pair, share, metadata={"weight": weight})
    found = named(arena_hard.score(make.evidence(), arena_hard.Config(style="none")))
    assert found["win_rate"] == pytest.approx(1.5 / 4)
    assert found["win_rate_published"] == pytest.approx(3.5 / 6)


@pytest.mark.parametrize("benchmark", [arena_hard, wildbench])
def test_every_number_of_a_comparison_tells_what_was_lost(make: Maker, benchmark: Any) -> None:
    for n, shares in enumerate([(A, A), (A, NONE), (NONE, NONE), (B, A), (TIE, B)]):
        pair = make.answers(str(n), [f"mine {n}" + " word" * n, "base is what it is"], ["mine", "base"])
        for order, share in zip(((0, 1), (1, 0)), shares, strict=True):
            make.judge(pair, share, order=order)
    found = benchmark.score(make.evidence(), benchmark.Config())
    assert {(e.failed, e.settings["unreadable"], e.n) for e in found if e.name != "flip_rate"} == {(1, 3, 4)}


def test_answers_of_one_style_are_won_as_often_at_equal_style(make: Maker) -> None:
    for n, share in enumerate([A, B, A, A]):
        pair = make.answers(str(n), ["one two", "two one"], ["mine", "base"])
        make.judge(pair, share)
    found = named(arena_hard.score(make.evidence(), arena_hard.Config()))
    assert found["style_controlled"] == found["win_rate"] == 0.75


def test_style_is_counted_outside_code() -> None:
    style = counts("# T\n- **one**\n1. two\n```\n# no\n- no **no**\n```\n__b__")
    assert (style.headers, style.lists, style.bold) == (1, 2, 2)


def scored(make: Maker, judge: str, table: Sequence[Sequence[float]], first: bool) -> None:
    for n, row in enumerate(table):
        group = make.answers(str(n), [f"{n}-{k}" for k in range(len(row))], ["m"] * len(row)) if first else [
            c for c in make.completions if c.prompt_id == make.prompts[n].id
        ]  # fmt: skip
        for completion, value in zip(group, row, strict=True):
            make.judge([completion], (float(value),), judge)


def test_best_of_n_is_exact_for_every_n(make: Maker) -> None:
    scored(make, "proxy", [[1, 2, 3, 4]] * 3, first=True)
    scored(make, "truth", [[10, 20, 0, 40]] * 3, first=False)
    found = named(best_of_n.score(make.evidence(), best_of_n.Config(sizes=(1, 2, 3, 4, 8))))
    assert [found[f"best of {n}, by truth"] for n in (1, 2, 3, 4)] == pytest.approx([17.5, 70 / 3, 30, 40])
    assert found["best of 4, by proxy"] == 4
    assert "best of 8, by truth" not in found


def test_overoptimisation_needs_a_second_judge_and_sees_the_bend(make: Maker) -> None:
    rng = np.random.default_rng(0)
    merit = rng.normal(size=(60, 16))
    scored(make, "proxy", merit, first=True)
    with pytest.raises(UserError, match="two judges"):
        overoptimization.score(make.evidence(), overoptimization.Config())
    scored(make, "truth", -((merit - 0.8) ** 2), first=False)
    found = {e.name: e for e in overoptimization.score(make.evidence(), overoptimization.Config(draws=200))}
    assert found["bend"].low > 0
    late = found["late gain"]
    assert (late.settings["from"], late.settings["to"]) == (4, 16)
    assert late.value == pytest.approx(found["gold of the best of 16"].value - found["gold of the best of 4"].value)
    assert late.high < 0
    assert found["KL of the best of 4"].value < found["KL of the best of 4"].settings["bound"]


def test_tasks_by_program(make: Maker) -> None:
    for n in range(4):
        answers = make.answers(str(n), ["a", "b"], ["m", "m"])
        for k, completion in enumerate(answers):
            strict = [n % 2 == 0, True]
            details = {"instructions": ["x", "y"], "strict": strict, "loose": [True, True]}
            make.judge([completion], (float(n > 0 or k),), metadata=details)
    evidence = make.evidence()
    assert named(gsm8k.score(evidence, gsm8k.Config()))["accuracy"] == 7 / 8
    passed = named(humaneval.score(evidence, humaneval.Config(k=(1, 2, 10))))
    assert passed == {"pass@1": 7 / 8, "pass@2": 1.0, "pass^2": 3 / 4}
    assert named(ifeval.score(evidence, ifeval.Config())) == {
        "prompt_strict": 0.5, "instruction_strict": 0.75, "prompt_loose": 1.0, "instruction_loose": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("benchmark", [arena_hard, best_of_n, gsm8k, humaneval, ifeval, judge_bench, llmbar, mt_bench,
                                       preference, reward_bench, reward_bench_2, wildbench])  # fmt: skip
def test_without_judgments_there_is_no_number(make: Maker, benchmark: Any) -> None:
    with pytest.raises(UserError, match="there is no"):
        benchmark.score(make.evidence(), benchmark.Config())
