"""What is paid for is kept and never bought twice; failures are retried, counted, and told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval.errors import BudgetExceeded, Interrupted, ModelUnavailable, RequestFailed, UserError
from rlhf_eval.models import door as module
from rlhf_eval.models.base import ChatRequest, Choice, Conversation, Reply, TokenLogprob
from rlhf_eval.models.door import Door, metered
from rlhf_eval.models.limits import Budget, Limiter, Limits
from rlhf_eval.records import Message, Sampling, Usage

Clock = Callable[[], float]
Simulate = Callable[[Callable[[Clock], Any]], Any]


@dataclass
class Oracle:
    """A model that answers with the number of the sample, and fails as it is told."""

    name: str = "oracle"
    id: str = "oracle#1"
    failures: list[RequestFailed | ModelUnavailable] = field(default_factory=list)
    latency: float = 0.0
    bought: list[tuple[int, int]] = field(default_factory=list)
    """First sample and n of every request that was answered."""
    attempts: int = 0

    async def chat(self, request: ChatRequest) -> Reply:
        self.attempts += 1
        if self.latency:
            await asyncio.sleep(self.latency)
        if self.failures:
            raise self.failures.pop(0)
        self.bought.append((request.first_sample, request.n))
        numbers = range(request.first_sample, request.first_sample + request.n)
        logprobs = (TokenLogprob("x", -0.5, (("x", -0.5), ("y", -1.5))),)
        choices = tuple(Choice(text=f"{request.messages[-1].content} {k}", logprobs=logprobs) for k in numbers)
        return Reply(choices=choices, usage=Usage(prompt_tokens=10, completion_tokens=5 * request.n))

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        self.attempts += 1
        return [float(len(c[-1].content)) for c in conversations]

    async def close(self) -> None:
        self.name = "closed"


class Memory(dict[str, bytes]):
    """A cache."""

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:  # type: ignore[override]
        return {key: self[key] for key in keys if key in self}

    def put(self, items: Mapping[str, bytes]) -> None:
        self.update(items)


@dataclass(frozen=True)
class Tariff:
    """A price that the door knows beforehand."""

    dollars: float

    def of(self, name: str, *_: Any) -> Tariff:
        return self

    def cost(self, usage: Usage) -> float:
        return self.dollars * (usage.prompt_tokens + usage.completion_tokens)


def ask(text: str = "hi", **changes: Any) -> ChatRequest:
    return ChatRequest(messages=(Message("user", text),), **changes)


def texts(reply: Reply) -> list[str]:
    return [choice.text for choice in reply.choices]


# Cache ----------------------------------------------------------------------------------------------------------------


def test_eight_samples_after_four_cost_four() -> None:
    async def work() -> None:
        oracle = Oracle()
        door = Door(oracle, cache=Memory())
        four = await door.chat(ask(n=4))
        eight = await door.chat(ask(n=8))
        assert oracle.bought == [(0, 4), (4, 4)]
        assert texts(eight) == [f"hi {k}" for k in range(8)]
        assert eight.choices[:4] == four.choices
        assert (four.cached, eight.cached) == (0, 4)
        assert eight.usage.completion_tokens == 20

    asyncio.run(work())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6)), min_size=1, max_size=8))
def test_every_sample_is_bought_once_in_whatever_pieces_it_is_asked_for(asked: list[tuple[int, int]]) -> None:
    async def work() -> None:
        oracle, memory = Oracle(), Memory()
        for first, n in asked:
            reply = await Door(oracle, cache=memory).chat(ask(n=n, first_sample=first))
            assert texts(reply) == [f"hi {k}" for k in range(first, first + n)]
        bought = [k for first, n in oracle.bought for k in range(first, first + n)]
        assert sorted(bought) == sorted({k for first, n in asked for k in range(first, first + n)})

    asyncio.run(work())


@pytest.mark.parametrize(
    "other",
    [
        ask("other"),
        ask(sampling=Sampling(seed=1)),
        ask(sampling=Sampling(temperature=0.5)),
        ask(top_logprobs=5),
        ask(choices=("a", "b")),
        ask(first_sample=1),
        ChatRequest(messages=(Message("system", "hi"), Message("user", "hi"))),
    ],
)
def test_another_request_is_another_key(other: ChatRequest) -> None:
    async def work() -> None:
        oracle = Oracle()
        door = Door(oracle, cache=Memory())
        await door.chat(ask())
        assert (await door.chat(other)).cached == 0
        assert (await door.chat(ask())).cached == 1

    asyncio.run(work())


def test_another_model_is_another_key_and_an_alias_is_not() -> None:
    async def work() -> None:
        memory = Memory()
        await Door(Oracle(), cache=memory).chat(ask())
        assert (await Door(Oracle(name="alias"), cache=memory).chat(ask())).cached == 1
        assert (await Door(Oracle(id="oracle#2"), cache=memory).chat(ask())).cached == 0

    asyncio.run(work())


def test_without_a_cache_everything_is_asked_again() -> None:
    async def work() -> None:
        oracle = Oracle()
        door = Door(oracle)
        await door.chat(ask(n=2))
        assert (await door.chat(ask(n=2))).cached == 0
        assert oracle.bought == [(0, 2), (0, 2)]

    asyncio.run(work())


def test_logprobs_come_out_of_the_cache_as_they_went_in() -> None:
    async def work() -> None:
        door = Door(Oracle(), cache=Memory())
        assert (await door.chat(ask(top_logprobs=2))).choices == (await door.chat(ask(top_logprobs=2))).choices

    asyncio.run(work())


def test_each_conversation_is_scored_once() -> None:
    async def work() -> None:
        oracle = Oracle()
        door = Door(oracle, cache=Memory())
        a, b, c = ((Message("user", "x" * k),) for k in (1, 2, 3))
        assert await door.score([a, b, a]) == [1, 2, 1]
        assert await door.score([c, b]) == [3, 2]
        assert await door.score([c, b]) == [3, 2]
        assert oracle.attempts == 2
        assert (door.traffic.samples, door.traffic.cached) == (7, 4)

    asyncio.run(work())


def test_an_answer_is_read_once_and_never_taken_for_its_reward() -> None:
    class Reader(Oracle):
        async def logprobs(self, conversations: Sequence[Conversation]) -> list[float]:
            self.attempts += 1
            return [-float(len(c[-1].content)) for c in conversations]

    async def work() -> None:
        oracle = Reader()
        door = Door(oracle, cache=Memory())
        talk = (Message("user", "hi"), Message("assistant", "hello"))
        assert await door.score([talk]) == [5]
        assert await door.logprobs([talk]) == await door.logprobs([talk]) == [-5]
        assert oracle.attempts == 2
        with pytest.raises(
            UserError, match="oracle does not tell how likely a given text is; name the weights: hf:PATH"
        ):
            await Door(Oracle()).logprobs([talk])

    asyncio.run(work())


# Models that give few samples in one request --------------------------------------------------------------------------


@dataclass
class Stingy(Oracle):
    """Gives at most ``most`` samples, and says so only if it is told to."""

    most: int = 1
    says: bool = True
    flying: int = 0
    together: int = 0

    def most_samples(self, request: ChatRequest) -> int:
        return self.most if self.says else request.n

    async def chat(self, request: ChatRequest) -> Reply:
        self.flying += 1
        self.together = max(self.together, self.flying)
        await asyncio.sleep(1.0)
        self.flying -= 1
        return await Oracle.chat(self, replace(request, n=min(self.most, request.n)))


@pytest.mark.parametrize("says", [True, False])
@given(n=st.integers(1, 9), first=st.integers(0, 5), most=st.integers(1, 10))
def test_samples_come_in_pieces_from_a_model_that_gives_few(
    simulate: Simulate, says: bool, n: int, first: int, most: int
) -> None:
    async def work(clock: Clock) -> None:
        model, memory = Stingy(most=most, says=says), Memory()
        reply = await Door(model, cache=memory).chat(ask(n=n, first_sample=first))
        assert texts(reply) == [f"hi {k}" for k in range(first, first + n)]
        assert [k for start, some in sorted(model.bought) for k in range(start, start + some)] == [
            *range(first, first + n)
        ]
        assert reply.usage.completion_tokens == 5 * n
        assert len(memory) == n
        assert clock() == pytest.approx(1.0 if says or n <= most else -(-n // most), abs=0.1)

    simulate(work)


def test_every_piece_has_a_slot_and_a_retry_of_its_own(simulate: Simulate) -> None:
    async def work(clock: Clock) -> None:
        model = Stingy(failures=[RequestFailed("server", "oh"), RequestFailed("bad_request", "no")])
        memory = Memory()
        door = Door(model, cache=memory, limits=Limits(concurrency=3))
        with pytest.raises(RequestFailed, match="no"):
            await door.chat(ask(n=8))
        assert (model.together, len(memory)) == (3, 7)
        assert (await door.chat(ask(n=8))).cached == 7

    simulate(work)


def test_a_model_without_any_choice_is_asked_again_and_given_up(simulate: Simulate) -> None:
    async def work(clock: Clock) -> None:
        door = Door(Stingy(most=0, says=False), limits=Limits(retries=2))
        with pytest.raises(RequestFailed, match="malformed: oracle answered without any choice"):
            await door.chat(ask())
        assert door.traffic.failures == {"malformed": 3}

    simulate(work)


@given(st.text(max_size=20), st.integers(0, 200), st.integers(1, 5))
def test_keys_are_fingerprints_of_request_and_sample(text: str, first: int, n: int) -> None:
    door, request = Door(Oracle()), ask(text, first_sample=first, n=n, choices=("a", text))
    assert door._keys("chat", request) == [door._key("chat", request, k) for k in range(first, first + n)]


# Failures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["timeout", "connection", "rate_limit", "server", "malformed"])
def test_a_failure_that_may_pass_is_tried_again(simulate: Simulate, kind: str) -> None:
    async def work(clock: Clock) -> Door:
        door = Door(Oracle(failures=[RequestFailed(kind, "oh")] * 3))
        assert texts(await door.chat(ask())) == ["hi 0"]
        return door

    traffic = simulate(work).traffic
    assert (traffic.retried, traffic.failures, traffic.requests) == (3, {kind: 3}, 1)


@pytest.mark.parametrize("kind", ["bad_request", "context_overflow", "content_filter"])
def test_a_failure_that_lasts_is_not(simulate: Simulate, kind: str) -> None:
    async def work(clock: Clock) -> Oracle:
        oracle = Oracle(failures=[RequestFailed(kind, "never")])
        with pytest.raises(RequestFailed, match=f"{kind}: never"):
            await Door(oracle).chat(ask())
        return oracle

    assert simulate(work).attempts == 1


def test_the_retries_end_and_the_waits_between_them_grow(simulate: Simulate) -> None:
    async def work(clock: Clock) -> tuple[int, float]:
        oracle = Oracle(failures=[RequestFailed("server", "oh")] * 20)
        with pytest.raises(RequestFailed, match="server: oh"):
            await Door(oracle, limits=Limits(retries=4)).chat(ask())
        return oracle.attempts, clock()

    attempts, waited = simulate(work)
    assert attempts == 5
    assert 0.5 * (0.25 + 0.5 + 1 + 2) <= waited <= 1.5 * (0.25 + 0.5 + 1 + 2)


def test_a_server_that_says_when_is_asked_then(simulate: Simulate) -> None:
    async def work(clock: Clock) -> list[float]:
        oracle = Oracle(failures=[RequestFailed("rate_limit", "slow down", retry_after=7.0)])
        door = Door(oracle)
        door.limiter = Limiter(door.limits, clock)
        moments = []

        async def one(delay: float) -> None:
            await asyncio.sleep(delay)
            await door.chat(ask(f"{delay}"))
            moments.append(clock())

        await asyncio.gather(one(0), one(1))
        return moments

    bystander, refused = simulate(work)
    assert bystander == pytest.approx(7.0)
    assert 7.0 <= refused <= 7.7


@pytest.mark.parametrize(("takes", "pauses"), [(0.0, (0.125, 0.375)), (0.1, (0.025, 0.275)), (3.0, (0.0, 0.0))])
def test_a_pause_counts_from_when_the_attempt_began(
    simulate: Simulate, takes: float, pauses: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(clock: Clock) -> float:
        monkeypatch.setattr(module.time, "monotonic", clock)
        door = Door(Oracle(failures=[RequestFailed("timeout", "no answer")], latency=takes))
        await door.chat(ask())
        return clock() - 2 * takes

    least, most = pauses
    assert least - 1e-9 <= simulate(work) <= most + 1e-9


def test_pushback_shrinks_the_door_and_success_widens_it(simulate: Simulate) -> None:
    async def work(clock: Clock) -> None:
        oracle = Oracle(failures=[RequestFailed("rate_limit", "slow down")])
        door = Door(oracle, limits=Limits(concurrency=10))
        await door.chat(ask())
        assert door.limiter.limit == pytest.approx(7 + 1 / 7)

    simulate(work)


@pytest.mark.parametrize("idle", [0.0, 3600.0])
def test_a_server_is_dead_after_the_patience_and_not_because_nobody_asked(
    simulate: Simulate, idle: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(clock: Clock) -> float:
        monkeypatch.setattr(module.time, "monotonic", clock)
        door = Door(
            Oracle(failures=[RequestFailed("connection", "refused")] * 99), limits=Limits(retries=50, patience=60)
        )
        await asyncio.sleep(idle)
        with pytest.raises(ModelUnavailable, match=r"oracle has not answered for \d+ s .*refused.*it resumes"):
            await door.chat(ask())
        return clock() - idle

    assert 60 < simulate(work) < 120


def test_one_answer_ends_the_silence(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(clock: Clock) -> None:
        monkeypatch.setattr(module.time, "monotonic", clock)
        oracle = Oracle()
        door = Door(oracle)
        for _ in range(10):
            oracle.failures = [RequestFailed("connection", "refused")]
            await door.chat(ask())
            await asyncio.sleep(50)

    simulate(work)


def test_a_model_that_is_unavailable_is_not_asked_again(simulate: Simulate) -> None:
    async def work(clock: Clock) -> Oracle:
        oracle = Oracle(failures=[ModelUnavailable("401")])
        with pytest.raises(ModelUnavailable):
            await Door(oracle).chat(ask())
        return oracle

    assert simulate(work).attempts == 1


def test_what_a_request_bought_before_it_failed_is_kept() -> None:
    async def work() -> None:
        oracle, memory = Oracle(), Memory()
        await Door(oracle, cache=memory).chat(ask(first_sample=2, n=1))
        oracle.failures = []
        door = Door(oracle, cache=memory, limits=Limits(retries=0))
        refusing = [RequestFailed("bad_request", "no")]

        async def refuse_the_second(request: ChatRequest) -> Reply:
            if request.first_sample == 3:
                raise refusing[0]
            return await Oracle.chat(oracle, request)

        oracle.chat = refuse_the_second  # type: ignore[method-assign]
        with pytest.raises(RequestFailed):
            await door.chat(ask(n=5))
        assert len(memory) == 3  # 0, 1 and the 2 of before

    asyncio.run(work())


def test_cancellation_leaks_neither_slot_nor_money(simulate: Simulate) -> None:
    async def work(clock: Clock) -> None:
        budget = Budget(max_tokens=1000)
        door = Door(Oracle(latency=5), limits=Limits(concurrency=2), budget=budget)
        sampling = Sampling(max_tokens=100)
        tasks = [asyncio.create_task(door.chat(ask(str(k), sampling=sampling))) for k in range(6)]
        await asyncio.sleep(1)
        for task in tasks[:5]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert door.limiter.in_flight == 0
        assert budget.spent.completion_tokens == 5
        async with asyncio.timeout(6):
            await asyncio.gather(*(door.chat(ask(sampling=sampling)) for _ in range(2)))

    simulate(work)


def test_a_reply_whose_asker_is_gone_is_kept_before_the_door_closes() -> None:
    async def work() -> int:
        memory = Memory()
        door = Door(Oracle(latency=0.01), cache=memory)
        tasks = [asyncio.create_task(door.chat(ask(str(k)))) for k in range(50)]
        while not door.traffic.requests:
            await asyncio.sleep(0)
        for task in tasks:  # paid for, and on their way to the cache
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        kept = door.traffic.requests
        await door.close()
        closed = dict(memory)
        await asyncio.sleep(0.01)
        assert memory == closed  # nothing is written into a cache that may be closed by now
        return len(memory) - kept

    assert asyncio.run(work()) == 0


# Money and accounts ---------------------------------------------------------------------------------------------------


@given(st.integers(200, 3000), st.integers(1, 30), st.integers(1, 4), st.text(max_size=30))
def test_a_budget_of_tokens_holds_with_many_in_flight(
    simulate: Simulate, limit: int, count: int, n: int, text: str
) -> None:
    async def work(clock: Clock) -> None:
        oracle, budget = Oracle(latency=1.0), Budget(max_tokens=limit)
        door = Door(oracle, budget=budget)
        asked = [door.chat(ask(f"{text}{k}", n=n, sampling=Sampling(max_tokens=5))) for k in range(count)]
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(end, Reply | BudgetExceeded) for end in ends)
        spent = budget.spent.prompt_tokens + budget.spent.completion_tokens
        assert spent == len(oracle.bought) * (10 + 5 * n) <= limit
        if len(oracle.bought) < count:
            assert spent + 10 + 5 * n + len(text.encode()) + 100 > limit

    simulate(work)


def test_dollars_are_reserved_at_the_price_that_is_known(simulate: Simulate) -> None:
    async def work(clock: Clock) -> None:
        budget = Budget(max_cost=1.0)
        door = Door(Oracle(latency=1.0), budget=budget, prices=Tariff(0.005))  # type: ignore[arg-type]
        asked = (door.chat(ask(str(k), sampling=Sampling(max_tokens=5))) for k in range(64))
        ends = await asyncio.gather(*asked, return_exceptions=True)
        paid = [end for end in ends if isinstance(end, Reply)]
        assert 0 < len(paid) < 64
        assert budget.spent.cost == pytest.approx(0.075 * len(paid))
        assert budget.spent.cost <= 1.0
        assert door.traffic.usage.cost == pytest.approx(budget.spent.cost)

    simulate(work)


def test_no_prompt_has_more_tokens_than_are_reserved_for_it() -> None:
    # A byte-level tokenizer makes at most one token of a byte; these make three of a character.
    for text in ("plain English text", "你好，世界" * 20, "🙂" * 50, "\u202e\u0000ﷺ" * 10):
        assert module._most_tokens(ask(text)) >= len(text.encode())


def test_what_is_cached_costs_nothing(simulate: Simulate) -> None:
    async def work(clock: Clock) -> None:
        memory, budget = Memory(), Budget(max_tokens=600)
        await Door(Oracle(), cache=memory).chat(ask(n=3))
        reply = await Door(Oracle(), cache=memory, budget=Budget(max_tokens=0)).chat(ask(n=3))
        assert (reply.cached, reply.usage, budget.spent) == (3, Usage(), Usage())

    simulate(work)


def test_a_halt_stops_the_door_and_what_is_in_flight_is_kept(simulate: Simulate) -> None:
    async def work(clock: Clock) -> None:
        budget, memory = Budget(), Memory()
        door = Door(Oracle(latency=2), cache=memory, budget=budget, limits=Limits(concurrency=3))
        tasks = [asyncio.create_task(door.chat(ask(str(k)))) for k in range(10)]
        await asyncio.sleep(1)
        budget.halt(Interrupted("stop"))
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end).__name__ for end in ends] == ["Reply"] * 3 + ["Interrupted"] * 7
        assert len(memory) == 3
        assert clock() == pytest.approx(2, abs=0.01)

    simulate(work)


def test_a_meter_counts_what_its_own_block_used() -> None:
    async def work() -> None:
        door = Door(Oracle(), cache=Memory())

        async def metered_calls(text: str, calls: int) -> tuple[int, int, int]:
            with metered() as meter:
                await asyncio.gather(*(door.chat(ask(f"{text}{k % 2}", n=2)) for k in range(calls)))
            return meter.calls, meter.cached, meter.usage.completion_tokens

        await door.chat(ask("a0", n=1))
        assert await asyncio.gather(metered_calls("a", 2), metered_calls("b", 1)) == [(2, 1, 15), (1, 0, 10)]
        assert door.traffic.usage.completion_tokens == 30
        assert (door.traffic.samples, door.traffic.cached) == (7, 1)

    asyncio.run(work())


def test_a_door_looks_like_the_model_behind_it() -> None:
    async def work() -> None:
        oracle = Oracle()
        door = Door(oracle)
        assert (door.name, door.id) == ("oracle", "oracle#1")
        await door.close()
        assert oracle.name == "closed"

    asyncio.run(work())
