"""Slots are fair and never leak, rates and Retry-After hold, and a budget is never overrun."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval.errors import BudgetExceeded, Interrupted
from rlhf_eval.models.limits import Budget, Limiter, Limits
from rlhf_eval.records import Usage

Clock = Callable[[], float]
Simulate = Callable[[Callable[[Clock], Any]], Any]
seconds = st.integers(0, 40).map(lambda tenths: tenths / 10)


# Slots ----------------------------------------------------------------------------------------------------------------


def test_no_more_are_in_flight_than_may_be_and_all_get_their_turn_in_order(simulate: Simulate) -> None:
    async def work(clock: Clock) -> tuple[list[int], int]:
        limiter, started, most = Limiter(Limits(concurrency=4), clock), [], 0

        async def one(number: int) -> None:
            nonlocal most
            await asyncio.sleep(number * 0.01)
            async with limiter.slot(0):
                started.append(number)
                most = max(most, limiter.in_flight)
                await asyncio.sleep(1 + (number * 7 % 5))

        await asyncio.gather(*(one(number) for number in range(40)))
        assert limiter.in_flight == 0
        return started, most

    started, most = simulate(work)
    assert started == list(range(40))
    assert most == 4


def test_a_newcomer_does_not_overtake_those_who_wait(simulate: Simulate) -> None:
    async def work(clock: Clock) -> list[str]:
        limiter, order = Limiter(Limits(concurrency=1), clock), []

        async def one(name: str) -> None:
            async with limiter.slot(0):
                order.append(name)

        async with limiter.slot(0):
            waiting = asyncio.create_task(one("waiting"))
            await asyncio.sleep(0)
        # The slot is free now, and promised: whoever asks in this very step stands behind.
        await asyncio.gather(one("newcomer"), waiting)
        return order

    assert simulate(work) == ["waiting", "newcomer"]


def test_a_request_that_is_sent_again_has_stood_in_the_line_before(simulate: Simulate) -> None:
    async def work(clock: Clock) -> list[str]:
        limiter, order = Limiter(Limits(concurrency=1), clock), []

        async def one(name: str, again: bool) -> None:
            async with limiter.slot(0, again=again):
                order.append(name)
                await asyncio.sleep(1)

        await asyncio.gather(one("holds", False), one("first", False), one("second", False), one("again", True))
        return order

    assert simulate(work) == ["holds", "again", "first", "second"]


def test_the_limit_falls_by_a_share_once_a_second_and_grows_by_a_share_a_round_trip(simulate: Simulate) -> None:
    async def work(clock: Clock) -> None:
        limiter = Limiter(Limits(concurrency=100), clock)
        for _ in range(50):
            limiter.pushback(None)
        assert limiter.limit == pytest.approx(70)
        for _ in range(70):  # as many replies as there are slots: one round trip
            limiter.success()
        assert limiter.limit == pytest.approx(73.5)
        for _ in range(30):
            await asyncio.sleep(1)
            limiter.pushback(None)
        assert limiter.limit == 1
        for _ in range(20):  # one slot more a round trip, where a twentieth is less
            for _ in range(int(limiter.limit)):
                limiter.success()
        assert 18 < limiter.limit < 21
        for _ in range(2_000):
            limiter.success()
        assert limiter.limit == 100

    simulate(work)


@pytest.mark.parametrize(
    ("answers", "cuts"),
    [("x", True), ("xx", True), (".x", False), ("....x.x.x", False), ("....x.x.x.x", True), (19 * "." + "xxxx", False)],
)
def test_one_failure_among_the_first_answers_is_no_overload(simulate: Simulate, answers: str, cuts: bool) -> None:
    async def work(clock: Clock) -> float:
        limiter = Limiter(Limits(concurrency=100), clock)
        for answer in answers:
            if answer == "x":
                limiter.pushback(None)
            else:
                limiter.success()
        return limiter.limit

    assert (simulate(work) < 100) is cuts


def test_a_server_that_fails_whatever_its_load_is_not_slowed_down(simulate: Simulate) -> None:
    async def work(clock: Clock) -> tuple[float, float]:
        limiter, rng = Limiter(Limits(concurrency=100), clock), random.Random(0)
        done = 0

        async def worker() -> None:
            nonlocal done
            while done < 10_000:
                async with limiter.slot(0):
                    await asyncio.sleep(0.2)
                if rng.random() < 0.05:
                    limiter.pushback(0.5)
                else:
                    limiter.success()
                    done += 1

        await asyncio.gather(*(worker() for _ in range(100)))
        return limiter.limit, clock()

    limit, seconds = simulate(work)
    assert limit > 60
    assert seconds < 2 * 10_000 / 100 * 0.2


def test_an_overloaded_server_gets_about_what_it_takes(simulate: Simulate) -> None:
    async def work(clock: Clock) -> tuple[float, float]:
        limiter = Limiter(Limits(concurrency=100), clock)
        there = done = refused = 0

        async def worker() -> None:
            nonlocal there, done, refused
            while clock() < 60:
                async with limiter.slot(0):
                    if there == 20:
                        refused += 1
                        await asyncio.sleep(0.05)
                        limiter.pushback(None)
                        break
                    there += 1
                    await asyncio.sleep(0.2)
                    there -= 1
                    done += 1
                    limiter.success()

        async def patient() -> None:
            while clock() < 60:
                await worker()
                await asyncio.sleep(0.1)

        await asyncio.gather(*(patient() for _ in range(100)))
        return done / (60 / 0.2 * 20), refused / done

    used, refusals = simulate(work)
    assert used > 0.7
    assert refusals < 0.5


def test_fewer_are_let_in_after_a_pushback(simulate: Simulate) -> None:
    async def work(clock: Clock) -> int:
        limiter, most = Limiter(Limits(concurrency=10), clock), 0
        for _ in range(4):
            limiter.pushback(None)
            await asyncio.sleep(1)
        assert int(limiter.limit) == 2

        async def one() -> None:
            nonlocal most
            async with limiter.slot(0):
                most = max(most, limiter.in_flight)
                await asyncio.sleep(1)

        await asyncio.gather(*(one() for _ in range(12)))
        return most

    assert simulate(work) == 2


def test_nobody_starts_before_the_server_wants_to_be_asked_again(simulate: Simulate) -> None:
    async def work(clock: Clock) -> list[float]:
        limiter, starts = Limiter(Limits(concurrency=3), clock), []

        async def one(delay: float) -> None:
            await asyncio.sleep(delay)
            async with limiter.slot(0):
                starts.append(clock())

        limiter.pushback(5.0)
        waiting = asyncio.gather(one(0), one(1), one(2), one(9))
        await asyncio.sleep(4)
        limiter.pushback(2.5)  # one who waits already is told too
        limiter.pushback(1.0)  # a shorter wait does not undo a longer one
        await waiting
        return starts

    assert simulate(work) == [6.5, 6.5, 6.5, 9]


def test_requests_a_minute_are_spread_evenly(simulate: Simulate) -> None:
    async def work(clock: Clock) -> list[float]:
        limiter, starts = Limiter(Limits(rpm=120), clock), []

        async def one() -> None:
            async with limiter.slot(0):
                starts.append(clock())

        await asyncio.gather(*(one() for _ in range(60)))
        return starts

    assert simulate(work) == pytest.approx([0.5 * k for k in range(60)])


@pytest.mark.parametrize(("expected", "used"), [(100, 100), (100, 50), (10, 100)])
def test_tokens_a_minute_hold_whatever_was_expected(simulate: Simulate, expected: float, used: float) -> None:
    async def work(clock: Clock) -> float:
        limiter = Limiter(Limits(concurrency=2, tpm=6000), clock)

        async def one() -> None:
            async with limiter.slot(expected):
                await asyncio.sleep(0.01)
            limiter.success(expected, used)

        await asyncio.gather(*(one() for _ in range(100)))
        return clock()

    assert simulate(work) == pytest.approx(100 * used / 100, rel=0.05)


@given(st.lists(st.tuples(seconds, seconds, st.none() | seconds), min_size=1, max_size=25), st.integers(1, 4))
def test_no_slot_leaks_whoever_is_cancelled_when(
    simulate: Simulate, plans: list[tuple[float, float, float | None]], width: int
) -> None:
    """Tasks arrive, hold a slot, and are cancelled: waiting, in the moment they are woken, or working."""

    async def work(clock: Clock) -> None:
        limiter = Limiter(Limits(concurrency=width), clock)

        async def one(arrives: float, works: float) -> None:
            await asyncio.sleep(arrives)
            async with limiter.slot(0):
                assert limiter.in_flight <= width
                await asyncio.sleep(works)

        tasks = [asyncio.create_task(one(arrives, works)) for arrives, works, _ in plans]
        for task, (_, _, cancelled) in zip(tasks, plans, strict=True):
            if cancelled is not None:
                asyncio.get_running_loop().call_later(cancelled, task.cancel)
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        wrong = [end for end in ends if end is not None and not isinstance(end, asyncio.CancelledError)]
        assert not wrong
        assert limiter.in_flight == 0
        async with asyncio.timeout(1):
            for _ in range(width):
                await limiter.slot(0).__aenter__()

    simulate(work)


def test_a_waiter_that_is_cancelled_while_others_are_woken_is_passed_over(simulate: Simulate) -> None:
    async def work(clock: Clock) -> list[str]:
        limiter, order = Limiter(Limits(concurrency=1), clock), []

        async def one(name: str) -> None:
            async with limiter.slot(0):
                order.append(name)

        async with limiter.slot(0):
            doomed, lucky = asyncio.create_task(one("doomed")), asyncio.create_task(one("lucky"))
            await asyncio.sleep(0)
            doomed.cancel()  # it has not run again when the slot is given back below
        ends = await asyncio.gather(doomed, lucky, return_exceptions=True)
        assert isinstance(ends[0], asyncio.CancelledError)
        assert limiter.in_flight == 0
        return order

    assert simulate(work) == ["lucky"]


# Money ----------------------------------------------------------------------------------------------------------------


def tokens(count: int) -> Usage:
    return Usage(prompt_tokens=count // 3, completion_tokens=count - count // 3, cost=count / 1000)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), seconds, st.booleans()), min_size=1, max_size=30),
    st.integers(0, 120),
    st.booleans(),
)
def test_a_budget_is_never_overrun(
    simulate: Simulate, plans: list[tuple[int, int, float, bool]], limit: int, in_dollars: bool
) -> None:
    """Whatever is asked at once, what is spent stays within the limit; who is refused could not have been paid."""

    async def work(clock: Clock) -> None:
        budget = Budget(max_cost=limit / 1000) if in_dollars else Budget(max_tokens=limit)
        refused: list[int] = []

        async def one(most: int, used: int, takes: float, fails: bool) -> None:
            try:
                async with budget.reserve(tokens(most)) as book:
                    await asyncio.sleep(takes)
                    if fails:
                        raise ConnectionError
                    book(tokens(min(most, used)))
                    assert budget.spent.cost * 1000 <= limit + 1e-6
            except BudgetExceeded:
                refused.append(most)
            except ConnectionError:
                pass

        await asyncio.gather(*(one(*plan) for plan in plans))
        spent = budget.spent.prompt_tokens + budget.spent.completion_tokens
        assert spent <= limit
        if refused:
            assert spent + max(refused) > limit
        paid = sum(min(most, used) for most, used, _, fails in plans if not fails)
        assert spent == paid or refused

    simulate(work)


def test_who_needs_what_others_hold_waits_for_it(simulate: Simulate) -> None:
    async def work(clock: Clock) -> list[float]:
        budget, starts = Budget(max_tokens=100), []

        async def one(most: int, used: int) -> None:
            async with budget.reserve(tokens(most)) as book:
                starts.append(clock())
                await asyncio.sleep(1)
                book(tokens(used))

        await asyncio.gather(*(one(60, 20) for _ in range(3)))
        return starts

    assert simulate(work) == [0, 1, 2]


def test_a_refusal_names_the_limit_and_what_is_spent(simulate: Simulate) -> None:
    async def work(clock: Clock) -> None:
        budget = Budget(max_cost=0.05, max_tokens=1000)
        async with budget.reserve(tokens(40)) as book:
            book(tokens(40))
        async with budget.reserve(tokens(20)):
            pass

    with pytest.raises(
        BudgetExceeded, match=r"--max-cost 0\.05 and --max-tokens 1000: \$0\.0400 and 40 tokens"
    ) as caught:
        simulate(work)
    assert caught.value.exit_code == 5


def test_without_limits_nobody_waits(simulate: Simulate) -> None:
    async def work(clock: Clock) -> float:
        budget = Budget()

        async def one() -> None:
            async with budget.reserve(tokens(10**9)) as book:
                await asyncio.sleep(1)
                book(tokens(10**9))

        await asyncio.gather(*(one() for _ in range(100)))
        return clock()

    assert simulate(work) == 1


def test_a_halt_refuses_those_who_wait_and_those_who_come_and_lets_the_others_finish(simulate: Simulate) -> None:
    async def work(clock: Clock) -> list[Any]:
        budget = Budget(max_tokens=100)

        async def one(most: int) -> str:
            async with budget.reserve(tokens(most)) as book:
                await asyncio.sleep(5)
                book(tokens(most))
            return "finished"

        running, waiting = asyncio.create_task(one(90)), asyncio.create_task(one(20))
        await asyncio.sleep(1)
        budget.halt(Interrupted("stop"))
        budget.halt(BudgetExceeded("the second reason is no reason"))
        ends = [str(end) for end in await asyncio.gather(running, waiting, one(1), return_exceptions=True)]
        return [*ends, budget.spent.prompt_tokens + budget.spent.completion_tokens]

    assert simulate(work) == ["finished", "stop", "stop", 90]
