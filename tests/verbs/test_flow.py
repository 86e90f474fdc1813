"""Generating and judging as runs of a store: the account adds up, lineage holds, and work in one flow is the same work."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from rlhf_eval.errors import BudgetExceeded, RequestFailed, TooManyFailures, UserError
from rlhf_eval.models.base import ChatRequest, Reply
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Judgment, Outcome, Prompt, Usage
from rlhf_eval.templates import read_file
from rlhf_eval.verbs.flow import FlowResult, generate, generate_and_judge, judge
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.pairs import pairs
from rlhf_eval.verbs.session import Session

WRITE = {"model": "mock:writer", "n": 3}
JUDGE = {"judge_model": "mock:judge"}


def held(world: Any, kind: Any, run: Any) -> list[Any]:
    return world.session().store.read(kind, run=run.id)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Words that no model answers to, while they are in this set."""
    words: set[str] = set()
    plain = MockModel.chat

    async def chat(self: MockModel, request: ChatRequest) -> Reply:
        if any(word in message.content for word in words for message in request.messages):
            raise RequestFailed("content_filter", "no")
        return await plain(self, request)

    monkeypatch.setattr(MockModel, "chat", chat)
    return words


def test_one_flow_makes_the_runs_and_records_that_two_verbs_make(world: Any) -> None:
    world.load()
    written, judged = world.do(lambda s: generate_and_judge(s, WRITE, JUDGE))
    records = {kind: held(world, kind, run) for kind, run in ((Completion, written.run), (Judgment, judged.run))}
    alone = world.do(lambda s: generate(s, WRITE), fresh=True)
    after = world.do(lambda s: judge(s, {**JUDGE, "completions": alone.run.id}), fresh=True)
    assert alone.run.id != written.run.id
    for kind, run in ((Completion, alone.run), (Judgment, after.run)):
        again = held(world, kind, run)
        assert {r.id: (getattr(r, "text", None), getattr(r, "scores", None)) for r in again} == {
            r.id: (getattr(r, "text", None), getattr(r, "scores", None)) for r in records[kind]
        }


def test_the_cost_of_each_run_is_that_of_its_own_records(world: Any) -> None:
    world.load()
    price = "?price=1000000"
    written, judged = world.do(
        lambda s: generate_and_judge(
            s, {**WRITE, "model": f"mock:writer{price}"}, {"judge_model": f"mock:judge{price}"}
        )
    )
    for result, kind in ((written, Completion), (judged, Judgment)):
        total = sum((r.usage for r in held(world, kind, result.run)), Usage())
        assert result.run.usage.cost == pytest.approx(total.cost)
        assert result.run.usage.completion_tokens == total.completion_tokens
        assert total.cost > 0


def test_each_run_of_a_flow_has_an_account_of_its_own(world: Any, failing: set[str]) -> None:
    world.load(10)
    failing |= {"Question 3?", "Answer A:\n"}
    with pytest.raises(TooManyFailures, match=r"all 10 prompts failed"):
        world.do(lambda s: generate_and_judge(s, WRITE, JUDGE))
    failing.discard("Answer A:\n")
    written, judged = world.do(lambda s: generate_and_judge(s, WRITE, JUDGE))
    for result in (written, judged):
        assert dict(result.run.counts) == {"total": 10, "done": 9, "failed": 1, "skipped": 0}
        assert {o.prompt_id for o in held(world, Outcome, result.run) if o.status == "failed"}
    again = world.do(lambda s: generate_and_judge(s, WRITE, JUDGE))
    assert [r.tally.counts() for r in again] == [dict(written.run.counts), dict(judged.run.counts)]
    failing.clear()
    healed = world.do(lambda s: generate_and_judge(s, WRITE, JUDGE), retry_failed=True)
    assert [dict(r.run.counts)["done"] for r in healed] == [10, 10]
    assert [r.run.id for r in healed] == [written.run.id, judged.run.id]
    assert len(held(world, Judgment, judged.run)) == 60


def test_done_failed_and_skipped_sum_to_the_prompts(world: Any, failing: set[str]) -> None:
    world.load(10)
    failing |= {"Question 1?"}
    one = world.do(lambda s: generate(s, {"model": "mock:writer", "n": 1}))
    assert one.tally.counts() == {"total": 10, "done": 9, "failed": 1, "skipped": 0}
    compared = world.do(lambda s: judge(s, JUDGE))  # one answer a prompt: nothing to compare
    assert compared.tally.counts() == {"total": 10, "done": 0, "failed": 0, "skipped": 10}
    assert compared.tally.reasons == {"skipped: too few completions to judge": 10}


@pytest.mark.parametrize(
    ("orders", "expected"), [("both", {(0, 1): 30, (1, 0): 30}), ("one", {(0, 1): 15, (1, 0): 15})]
)
def test_sides_are_balanced_over_the_run(world: Any, orders: str, expected: dict[tuple[int, int], int]) -> None:
    world.load(10)
    world.do(lambda s: generate(s, WRITE))
    result = world.do(lambda s: judge(s, {**JUDGE, "orders": orders}))
    assert Counter(j.order for j in held(world, Judgment, result.run)) == expected


def test_a_judge_is_known_by_all_that_its_verdicts_depend_on(world: Any) -> None:
    world.load(2)
    world.do(lambda s: generate(s, WRITE))
    tables = [
        JUDGE, {**JUDGE, "ties": True}, {"judge_model": "mock:judge?bias=1"}, {"judge_model": "mine=mock:judge"},
        {"judge": "grade", "judge_model": "mock:judge"},
    ]  # fmt: skip
    names = [held(world, Judgment, world.do(lambda s, t=t: judge(s, t)).run)[0].judge for t in tables]
    assert len(set(names)) == 5
    template, jury = world.home / "mine.txt", []
    for words in ("Which is better?", "Which is kinder?"):
        template.write_text(words + " {question} {answer_a} {answer_b}")
        read_file.cache_clear()  # as a new process would
        member = {"judge": "pairwise", "settings": {"template": str(template)}}
        made = world.do(lambda s, m=member: judge(s, {**JUDGE, "judge": "jury", "members": [m, m]}))
        jury.append(made.run.config["judge"])
    assert len(set(jury)) == 2  # a member's template is the judge's too
    assert names[0].startswith("pairwise/mock:judge#")
    assert names[3].startswith("pairwise/mine#")
    assert names[3].rpartition("#")[2] == names[0].rpartition("#")[2]  # a name is no property


def test_a_file_that_writers_read_tells_their_runs_apart(world: Any) -> None:
    world.load(2)
    people, made = world.home / "people.txt", []
    for words in ("a pirate", "a baker", "a baker"):
        people.write_text(words)
        read_file.cache_clear()  # as a new process would
        table = {**WRITE, "generator": "persona", "personas": str(people)}
        made.append(world.do(lambda s, t=table: generate(s, t)).run.id)
    assert made[0] != made[1] == made[2]


def test_judging_twice_with_repeats_adds_the_repeats(world: Any) -> None:
    world.load(2)
    world.do(lambda s: generate(s, {"model": "mock:writer", "n": 2}))
    once = world.do(lambda s: judge(s, JUDGE))
    thrice = world.do(lambda s: judge(s, {**JUDGE, "repeats": 3}))
    first, second = (held(world, Judgment, r.run) for r in (once, thrice))
    assert (len(first), len(second)) == (4, 12)
    assert {j.id for j in first} < {j.id for j in second}


def test_repeats_are_samples_of_their_own_and_cached_as_such(world: Any) -> None:
    world.load(6)
    world.do(lambda s: generate(s, {"model": "mock:writer", "n": 2}))
    noisy = {"judge_model": "mock:judge?noise=3", "repeats": 4}
    once = held(world, Judgment, world.do(lambda s: judge(s, noisy)).run)
    asked: dict[tuple[str, tuple[int, ...]], set[float]] = {}
    for judgment in once:
        asked.setdefault((judgment.prompt_id, judgment.order), set()).add(judgment.scores[0])
    assert len(asked) == 12
    assert all(len(said) == 4 for said in asked.values())
    seen: list[int] = []

    async def judged_again(session: Session) -> FlowResult:
        result = await judge(session, noisy)
        seen.extend(door.traffic.cached for door in session.doors.values())
        return result

    again = held(world, Judgment, world.do(judged_again, fresh=True).run)
    assert {j.id: j.scores for j in again} == {j.id: j.scores for j in once}
    assert seen == [48]


def test_only_what_changed_is_paid_for(world: Any) -> None:
    def bought(asked: str, writer: dict[str, Any], judge: dict[str, Any]) -> tuple[int, int]:
        """Samples that the writer and the judge were asked for, and that the cache did not have."""
        (world.home / "prompts.jsonl").write_text(asked)
        left: list[int] = []

        async def work(session: Session) -> None:
            load(session, {"source": "jsonl", "path": str(world.home / "prompts.jsonl")})
            await generate_and_judge(
                session, {"model": "mock:writer", **writer}, {**JUDGE, "matches": "ring:1", **judge}
            )
            left.extend(door.traffic.samples - door.traffic.cached for door in session.doors.values())

        world.do(work, fresh=True)
        return left[0], left[1]

    plain = "".join(f'{{"prompt": "Question {k}?"}}\n' for k in range(5))
    system = plain.replace('"prompt": ', '"system": "Be brief.", "prompt": ')
    rubric = world.home / "rubric.txt"
    rubric.write_text("Which is kinder?\n{question}\nAnswer A:\n{answer_a}\nAnswer B:\n{answer_b}\n")
    assert bought(plain, {"n": 4}, {}) == (20, 40)
    assert bought(plain, {"n": 4}, {}) == (0, 0)
    assert bought(plain, {"n": 4}, {"template": str(rubric)}) == (0, 40)
    assert bought(plain, {"n": 8}, {"template": str(rubric)})[0] == 20
    assert bought(plain, {"n": 4, "temperature": 0.5}, {})[0] == 20
    assert bought(system, {"n": 4}, {})[0] == 20


def test_from_any_run_one_can_walk_to_its_prompts(world: Any) -> None:
    loaded = world.load(4)
    written, judged = world.do(lambda s: generate_and_judge(s, WRITE, JUDGE))
    session = world.session()
    assert session.lineage(judged.run) == [judged.run.id, written.run.id, loaded.run.id]
    assert [p.id for p in session.prompts(judged.run)] == [p.id for p in session.prompts(loaded.run)]
    assert {p.id for p in session.store.read(Prompt)} == {j.prompt_id for j in held(world, Judgment, judged.run)}


def test_what_is_missing_is_named_with_the_command_that_makes_it(world: Any) -> None:
    with pytest.raises(UserError, match=r"no store here|no load run yet"):
        world.do(lambda s: generate(s, WRITE))
    loaded = world.load(2)
    with pytest.raises(UserError, match=r"holds no completions; run 'rlhf-eval generate"):
        world.do(lambda s: judge(s, {**JUDGE, "completions": loaded.run.id}))


def test_another_seed_is_another_run_over_the_same_samples(world: Any) -> None:
    world.load(2)
    one, two = (world.do(lambda s: generate(s, WRITE), seed=seed) for seed in (0, 1))
    assert one.run.id != two.run.id
    assert one.run.seed == 0
    assert two.run.seed == 1


def test_a_run_that_was_judged_before_it_was_whole_is_judged_again_when_it_is(world: Any) -> None:
    loaded = world.load(10)
    writes = {**WRITE, "prompts": loaded.run.id, "max_tokens": 30}
    with pytest.raises(BudgetExceeded):
        world.do(lambda s: generate(s, writes), max_tokens=400)
    partial = world.do(lambda s: judge(s, JUDGE))
    assert 0 < partial.tally.status["done"] < 10
    early = world.do(lambda s: pairs(s, {}))
    world.do(lambda s: generate(s, writes))
    whole = world.do(lambda s: judge(s, JUDGE))
    assert whole.run.id != partial.run.id
    assert whole.tally.counts() == {"total": 10, "done": 10, "failed": 0, "skipped": 0}
    assert len(held(world, Judgment, whole.run)) == 60
    again = world.do(lambda s: judge(s, JUDGE))
    assert again.run.id == whole.run.id
    assert len(early.pairs) < len(world.do(lambda s: pairs(s, {})).pairs) == 10


def test_what_was_retried_is_judged_too(world: Any, failing: set[str]) -> None:
    world.load(6)
    failing |= {"Question 2?"}
    world.do(lambda s: generate(s, WRITE))
    first = world.do(lambda s: judge(s, JUDGE))
    assert first.tally.status == {"done": 5, "skipped": 1}
    failing.clear()
    world.do(lambda s: generate(s, WRITE), retry_failed=True)
    assert world.do(lambda s: judge(s, JUDGE)).tally.status == {"done": 6}
