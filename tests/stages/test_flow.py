"""One prompt down the line: no barrier between prompts, one outcome a run, nothing asked twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from rlhf_eval.errors import BudgetExceeded, RequestFailed
from rlhf_eval.records import Completion, Outcome, Prompt, Verdict
from rlhf_eval.stages.flow import Generation, Judging, walk
from rlhf_eval.stages.generate import Writer
from rlhf_eval.stages.judge import Call, Design, Instrument, calls, matches

Clock = Callable[[], float]
Simulate = Callable[[Callable[[Clock], Any]], Any]


def generation(sink: Any, *, fails: bool = False, seconds: float = 0.0, name: str = "m", **changes: Any) -> Generation:
    async def generate(prompts: Sequence[Prompt], models: Any, config: Any) -> AsyncIterator[Completion]:
        for prompt in prompts:
            await asyncio.sleep(seconds)
            for sample in range(2):
                yield Completion.of(prompt_id=prompt.id, model=name, text=f"{name} {sample}", sample=sample)
            if fails:
                raise RequestFailed("server", "oh")

    return Generation(writer=Writer(generate=generate, config=None, models=()), sink=sink, known=set(), **changes)


def judging(
    sink: Any, *, error: Exception | None = None, name: str = "j", arity: int = 2, calls_made: Any = None
) -> Judging:
    async def judge(prompt: Prompt, shown: Sequence[Completion], model: Any, config: Any) -> Verdict:
        if calls_made is not None:
            calls_made.append(prompt.id)
        if error:
            raise error
        return Verdict(scores=(1.0,) if arity == 1 else (1.0, 0.0))

    def plan(prompt: Prompt, completions: Sequence[Completion]) -> list[Call]:
        return calls(matches(completions, arity, "all"), Design(), swapped=False)

    instrument = Instrument(judge=judge, config=None, model=None, arity=arity, name=name)
    return Judging(instrument=instrument, plan=plan, sink=sink, known=set())


@pytest.fixture
def prompt(prompts: list[Prompt]) -> Prompt:
    return prompts[0]


def ends(sink: Any) -> list[tuple[str, str]]:
    return [(outcome.verb, outcome.status) for outcome in sink.tables["outcomes"]]


def test_generated_then_judged_each_in_its_own_run(prompt: Prompt, sink: Any) -> None:
    second = type(sink)()
    outcome = asyncio.run(walk(prompt, [generation(sink)], [judging(second)], {}))
    assert (outcome.verb, outcome.status, outcome.records) == ("judge", "done", 2)
    assert (ends(sink), ends(second)) == ([("generate", "done")], [("judge", "done")])
    assert (len(sink.tables["completions"]), len(second.tables["judgments"])) == (2, 2)


def test_generation_alone_ends_with_its_own_outcome(prompt: Prompt, sink: Any) -> None:
    outcome = asyncio.run(walk(prompt, [generation(sink)], [], {}))
    assert (outcome.verb, outcome.status, ends(sink)) == ("generate", "done", [("generate", "done")])


def test_a_run_that_judges_knows_of_what_failed_before_its_judges_were_asked(prompt: Prompt, sink: Any) -> None:
    second, asked = type(sink)(), []
    outcome = asyncio.run(walk(prompt, [generation(sink, fails=True)], [judging(second, calls_made=asked)], {}))
    assert (outcome.verb, outcome.status, outcome.reason) == ("generate", "failed", "server: oh")
    assert ends(sink) == ends(second) == [("generate", "failed")]
    assert asked == []


def test_one_run_for_all_gets_one_outcome_a_prompt(prompt: Prompt, sink: Any) -> None:
    plans = [generation(sink, name=name, own_account=False) for name in ("a", "b")]
    judges = [judging(sink), judging(sink, name="check", arity=1)]
    assert asyncio.run(walk(prompt, plans, judges, {})).records == 12  # six pairs in both orders
    assert ends(sink) == [("judge", "done")]
    assert len(sink.tables["judgments"]) == 12 + 4


@pytest.mark.parametrize("failing", [0, 1])
def test_a_judge_that_failed_is_not_made_good_by_another(prompt: Prompt, sink: Any, failing: int) -> None:
    failure = RequestFailed("timeout", "none")
    judges = [judging(sink, name=str(k), error=failure if k == failing else None) for k in range(2)]
    outcome = asyncio.run(walk(prompt, [generation(sink, own_account=False)], judges, {}))
    assert outcome.status == "failed"
    assert ends(sink) == [("judge", "failed")]


def test_a_failed_generation_of_one_side_is_in_the_account_of_a_run_for_all(prompt: Prompt, sink: Any) -> None:
    plans = [generation(sink, own_account=False), generation(sink, name="b", fails=True, own_account=False)]
    assert asyncio.run(walk(prompt, plans, [judging(sink)], {})).status == "failed"
    assert ends(sink) == [("generate", "failed")]


def test_what_is_finished_is_taken_from_the_store(prompt: Prompt, sink: Any) -> None:
    stored = [Completion.of(prompt_id=prompt.id, model="old", text=text, origin=text) for text in "xyz"]
    source = generation(sink, fails=True, finished={prompt.id: stored})
    outcome = asyncio.run(walk(prompt, [source], [judging(sink)], {}))
    assert (outcome.status, outcome.records) == ("done", 6)
    assert not sink.tables["completions"]


def test_answers_that_are_there_are_judged(prompt: Prompt, sink: Any) -> None:
    there = {prompt.id: [Completion.of(prompt_id=prompt.id, model="a", text=text, origin=text) for text in "xy"]}
    assert asyncio.run(walk(prompt, [], [judging(sink)], there)).records == 2
    assert asyncio.run(walk(prompt, [generation(type(sink)())], [judging(sink)], there)).records == 12
    assert asyncio.run(walk(prompt, [], [judging(sink)], {})).status == "skipped"


def test_a_fatal_error_waits_for_the_other_generation(simulate: Simulate, prompt: Prompt, sink: Any) -> None:
    async def fatal(*_: Any) -> AsyncIterator[Completion]:
        await asyncio.sleep(1)
        raise BudgetExceeded("spent")
        yield

    async def work(clock: Clock) -> float:
        broken = Generation(writer=Writer(generate=fatal, config=None, models=()), sink=sink, known=set())
        with pytest.raises(BudgetExceeded):
            await walk(prompt, [broken, generation(sink, seconds=2)], [], {})
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return clock()

    assert simulate(work) == 2
    assert len(sink.tables["completions"]) == 2


def test_a_prompt_is_judged_while_others_are_still_written(
    simulate: Simulate, prompts: list[Prompt], sink: Any
) -> None:
    async def work(clock: Clock) -> list[tuple[float, Outcome]]:
        async def one(prompt: Prompt, seconds: float) -> tuple[float, Outcome]:
            return await walk(prompt, [generation(sink, seconds=seconds)], [judging(sink)], {}), clock()

        return await asyncio.gather(one(prompts[0], 100), one(prompts[1], 1))

    slow, quick = simulate(work)
    assert (slow[1], quick[1]) == (100, 1)
