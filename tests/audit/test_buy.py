"""What an audit asks: each question once, the same after an interruption, and nothing that was not wanted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from judges import pairwise
from rlhf_eval.audit.buy import KINDS, Shopping, base_pair, purchases
from rlhf_eval.models.door import Door
from rlhf_eval.models.mock import Config, MockModel
from rlhf_eval.records import Completion, Judgment, Prompt, Verdict
from rlhf_eval.stages.flow import walk
from rlhf_eval.stages.judge import Instrument

PROMPTS = [Prompt.of(f"Question {k}?") for k in range(6)]


def answers(count: int = 3) -> dict[str, list[Completion]]:
    return {
        p.id: [
            Completion.of(prompt_id=p.id, model=f"m{i}", text=f"answer {i} of {n} quality=0.{2 * i + 1}")
            for i in range(count)
        ]
        for n, p in enumerate(PROMPTS)
    }


def instrument(**options: Any) -> Instrument:
    model = Door(MockModel("judge", config=Config(**options)))
    return Instrument(judge=pairwise.judge, config=pairwise.Config(), model=model, arity=2, name="mock#0")


def shopping(**changes: Any) -> Shopping:
    return replace(Shopping(prompts=frozenset(p.id for p in PROMPTS)), **changes)


def buy(sink: Any, wanted: Shopping, judge: Instrument | None = None, known: set[str] | None = None, n: int = 3) -> Any:
    written = answers(n)
    for prompt in PROMPTS:
        judgings = purchases(judge or instrument(), wanted, sink, known or set())
        asyncio.run(walk(prompt, [], judgings, written))
    return sink


def kinds_of(sink: Any) -> Counter[str]:
    generators = {c.id: c.generator for c in sink.tables["completions"]}
    found: Counter[str] = Counter()
    for j in sink.tables["judgments"]:
        probes = [generators[c] for c in j.completion_ids if c in generators]
        found[probes[0].removeprefix("audit:") if probes else f"repeat {j.repeat}"] += 1
    return found


def test_every_kind_is_bought_once_a_prompt(sink: Any) -> None:
    bought = kinds_of(buy(sink, shopping(attacks=2)))
    count = len(PROMPTS)
    assert bought["repeat 0"] == count * 6  # the base pair and two more make a triangle, each in both orders
    assert bought["repeat 1"] == count * 2
    assert [bought[kind] for kind in ("padded", "listed", "bold", "control")] == [2 * count] * 4
    attacks = sum(bought.values()) - bought["repeat 0"] - bought["repeat 1"] - 8 * count
    assert 2 * count <= attacks <= 4 * count  # an attack by letter is tried in its own place only
    assert len({j.id for j in sink.tables["judgments"]}) == len(sink.tables["judgments"])
    assert {o.status for o in sink.tables["outcomes"]} == {"done"}
    assert len(sink.tables["outcomes"]) == count


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_alone_brings_nothing_of_the_others(sink: Any, kind: str) -> None:
    bought = set(kinds_of(buy(sink, shopping(kinds=(kind,)))))
    probes = {"padded", "listed", "bold"}
    assert bool(bought & probes) == (kind == "copies")
    assert ("repeat 1" in bought) == (kind == "repeats")
    # without the other order no verdict is sure enough to be attacked
    assert "control" not in bought


def test_what_is_known_is_not_asked_again_and_the_choice_of_pairs_stays(sink: Any) -> None:
    first = buy(sink, shopping())
    known = {j.id for j in first.tables["judgments"]}
    paid: dict[str, list[Judgment]] = {}
    for j in first.tables["judgments"]:
        paid.setdefault(j.prompt_id, []).append(j)
    again = type(sink)()
    buy(again, shopping(paid=paid), known=known)
    assert again.tables["judgments"] == []


def test_prompts_outside_the_sample_cost_nothing(sink: Any) -> None:
    buy(sink, shopping(prompts=frozenset([PROMPTS[0].id])))
    assert {j.prompt_id for j in sink.tables["judgments"]} == {PROMPTS[0].id}


def test_the_base_pair_is_one_that_has_met_and_holds_an_own_answer_where_it_can(sink: Any) -> None:
    group = answers()[PROMPTS[0].id]
    met = Judgment.of(
        prompt_id=PROMPTS[0].id, completion_ids=(group[2].id, group[1].id), judge="mock#0", scores=(1.0, 0.0)
    )
    pair = base_pair(group, instrument(), shopping(met={PROMPTS[0].id: [met]}), PROMPTS[0].id)
    assert pair == (group[2], group[1])
    for seed in range(10):
        pair = base_pair(group, instrument(), shopping(own=("m1",), seed=seed), PROMPTS[0].id)
        assert pair is not None and "m1" in {c.model for c in pair}
    assert base_pair(group[:1], instrument(), shopping(), PROMPTS[0].id) is None


def test_a_grading_judge_is_asked_about_answers_not_pairs(sink: Any) -> None:
    async def judge(prompt: Prompt, shown: Sequence[Completion], model: Any, config: Any) -> Verdict:
        return (
            Verdict(scores=(float(shown[0].text.rpartition("=")[2][:3]),))
            if "=" in shown[0].text
            else Verdict(scores=(0.0,))
        )

    grader = Instrument(judge=judge, config=None, model=None, arity=1, name="mock#0")
    bought = kinds_of(buy(sink, shopping(), grader))
    assert all(len(j.completion_ids) == 1 for j in sink.tables["judgments"])
    assert bought["padded"] == len(PROMPTS)
    assert bought["repeat 1"] == 2 * len(PROMPTS)
    assert not {"letter_a", "verdict_b"} & set(bought)
    assert bought["control"] == len(PROMPTS)


def test_a_prompt_with_one_answer_is_skipped(sink: Any) -> None:
    buy(sink, shopping(), n=1)
    assert sink.tables["judgments"] == []
    assert {o.status for o in sink.tables["outcomes"]} == {"skipped"}


def test_repeats_of_a_noisy_judge_differ_behind_a_cache(sink: Any) -> None:
    class Memory(dict[str, bytes]):
        def get(self, keys: Sequence[str]) -> dict[str, bytes]:  # type: ignore[override]
            return {key: self[key] for key in keys if key in self}

        def put(self, items: dict[str, bytes]) -> None:
            self.update(items)

    model = Door(MockModel("judge", config=Config(noise=2.0)), cache=Memory())
    judge = replace(instrument(), model=model)
    buy(sink, shopping(kinds=("swaps", "repeats"), repeats=2), judge)
    by_question: dict[Any, set[float]] = {}
    for j in sink.tables["judgments"]:
        by_question.setdefault((j.completion_ids, j.order), set()).add(j.scores[0])
    assert all(len(scores) == 3 for scores in by_question.values())


def test_a_rehearsal_counts_the_attacks_on_a_loser_that_it_must_guess(sink: Any) -> None:
    async def silent(prompt: Prompt, shown: Sequence[Completion], model: Any, config: Any) -> Verdict:
        return Verdict(error="unparsed: rehearsed")

    mute = replace(instrument(), judge=silent)
    assert "control" not in kinds_of(buy(sink, shopping(), mute))
    again = type(sink)()
    assert kinds_of(buy(again, shopping(rehearse=True), mute))["control"] == 2 * len(PROMPTS)
