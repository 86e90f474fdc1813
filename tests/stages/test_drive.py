"""Every item is accounted for, and whatever stops the work, nothing is left running."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval.errors import BudgetExceeded, Interrupted, ModelUnavailable, RlhfEvalError, TooManyFailures
from rlhf_eval.models.limits import Budget
from rlhf_eval.records import Outcome
from rlhf_eval.stages.drive import AT_ONCE, GRACE, Tally, drive

Clock = Callable[[], float]
Simulate = Callable[[Callable[[Clock], Any]], Any]
STATUS = ("done", "failed", "skipped")


class Brake:
    """Something to halt."""

    def __init__(self) -> None:
        self.reasons: list[RlhfEvalError] = []

    def halt(self, reason: RlhfEvalError) -> None:
        self.reasons.append(reason)


async def end(status: str = "done", item: object = "", reason: str = "") -> Outcome:
    return Outcome.of(str(item), "judge", status, reason=reason)  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(STATUS), max_size=60), st.integers(1, 9))
def test_done_failed_and_skipped_sum_to_what_went_in(simulate: Simulate, plan: list[str], width: int) -> None:
    async def work(clock: Clock) -> Tally:
        busy = most = 0

        async def one(item: tuple[int, str]) -> Outcome:
            nonlocal busy, most
            busy, most = busy + 1, max(most, busy + 1)
            await asyncio.sleep(item[0] * 7 % 5)
            busy -= 1
            return await end(item[1], item[0])

        tally = await drive(enumerate(plan), one, tally=Tally(total=len(plan)), halt=Brake(), width=width)
        assert most == min(width, len(plan))
        return tally

    counts = simulate(work).counts()
    assert counts == {"total": len(plan), **{status: plan.count(status) for status in STATUS}}


def test_no_item_waits_for_a_slow_neighbour_and_the_feed_is_not_read_ahead(simulate: Simulate) -> None:
    async def work(clock: Clock) -> list[float]:
        ends, fed = [], []

        def feed() -> Any:
            for item in range(12):
                fed.append(item)
                yield item

        async def one(item: int) -> Outcome:
            assert len(fed) <= len(ends) + 3
            await asyncio.sleep(100 if item == 0 else 1)
            ends.append(clock())
            return await end(item=item)

        await drive(feed(), one, tally=Tally(), halt=Brake(), width=3)
        return ends

    ends = simulate(work)
    assert ends[-1] == 100
    assert ends[-2] == 6


def test_the_first_items_go_on_while_the_last_are_begun(simulate: Simulate) -> None:
    async def work(clock: Clock) -> int:
        begun = 0
        seen: list[int] = []

        async def one(item: int) -> Outcome:
            nonlocal begun
            begun += 1
            await asyncio.sleep(0)
            seen.append(begun)
            return await end("done", item)

        await drive(range(500), one, tally=Tally(total=500), halt=Brake(), width=500)
        return seen[0]

    assert simulate(work) <= 2 * AT_ONCE


def test_too_many_failures_stop_the_work_and_name_the_commonest_reason(simulate: Simulate) -> None:
    async def work(clock: Clock) -> None:
        tally, brake = Tally(total=1000), Brake()

        async def one(item: int) -> Outcome:
            await asyncio.sleep(0.1)
            return await end("failed", item, "server: 500" if item % 3 else "timeout: none")

        with pytest.raises(
            TooManyFailures, match=r"failed, more than --max-errors 5: failed: server: 500 \(\d"
        ) as caught:
            await drive(range(1000), one, tally=tally, halt=brake, width=4, max_errors=5)
        assert caught.value.exit_code == 3
        assert tally.status["failed"] <= 5 + 4 + 4
        assert brake.reasons == [caught.value]

    simulate(work)


@pytest.mark.parametrize("allowed", [3, 4, None])
def test_as_many_failures_as_allowed_stop_nothing(simulate: Simulate, allowed: int | None) -> None:
    async def work(clock: Clock) -> Tally:
        return await drive(
            range(9), lambda k: end("failed" if k < 3 else "done", k),
            tally=Tally(total=9), halt=Brake(), width=2, max_errors=allowed,
        )  # fmt: skip

    assert simulate(work).status == {"failed": 3, "done": 6}


@pytest.mark.parametrize("error", [BudgetExceeded("spent"), ModelUnavailable("gone")])
def test_a_fatal_error_lets_what_is_in_flight_finish(simulate: Simulate, error: RlhfEvalError) -> None:
    async def work(clock: Clock) -> tuple[Tally, list[int], float]:
        tally, brake, started = Tally(total=100), Brake(), []

        async def one(item: int) -> Outcome:
            started.append(item)
            await asyncio.sleep(1 if item == 2 else 3)
            if item == 2:
                raise error
            return await end(item=item)

        with pytest.raises(type(error), match=str(error)):
            await drive(range(100), one, tally=tally, halt=brake, width=5)
        assert brake.reasons == [error]
        return tally, started, clock()

    tally, started, ended = simulate(work)
    assert started == [0, 1, 2, 3, 4]
    assert tally.status == {"done": 4}
    assert ended == 3


def test_what_does_not_finish_in_time_is_cancelled(simulate: Simulate) -> None:
    async def work(clock: Clock) -> tuple[list[int], float]:
        cancelled = []

        async def one(item: int) -> Outcome:
            if item == 0:
                raise BudgetExceeded("spent")
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled.append(item)
                raise
            return await end(item=item)

        with pytest.raises(BudgetExceeded):
            await drive(range(4), one, tally=Tally(), halt=Brake(), width=4)
        return cancelled, clock()

    cancelled, ended = simulate(work)
    assert sorted(cancelled) == [1, 2, 3]
    assert ended == GRACE < 5


def test_a_crash_leaves_no_task_behind(simulate: Simulate) -> None:
    """A defect of a plugin must not let its neighbours write into a run that is closed."""

    async def work(clock: Clock) -> None:
        async def one(item: int) -> Outcome:
            await asyncio.sleep(1)
            if item == 1:
                raise ZeroDivisionError
            await asyncio.sleep(1000)
            return await end(item=item)

        with pytest.raises(ZeroDivisionError):
            await drive(range(4), one, tally=Tally(), halt=Brake(), width=4)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulate(work)


def test_ctrl_c_stops_the_feed_and_keeps_what_is_in_flight() -> None:
    async def work() -> None:
        tally, budget = Tally(total=1000), Budget()

        async def one(item: int) -> Outcome:
            async with budget.reserve(budget.spent):
                if item == 6:
                    os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(0.05)
            return await end(item=item)

        with pytest.raises(Interrupted) as caught:
            await drive(range(1000), one, tally=tally, halt=budget, width=4)
        assert caught.value.exit_code == 130
        assert 4 <= tally.status["done"] <= 12
        with pytest.raises(Interrupted):  # whatever is still running cannot begin another request
            async with budget.reserve(budget.spent):
                pass

    before = signal.getsignal(signal.SIGINT)
    asyncio.run(work())
    assert signal.getsignal(signal.SIGINT) == before


def test_a_second_ctrl_c_ends_the_program_as_usual() -> None:
    async def work() -> None:
        async def one(item: int) -> Outcome:
            await asyncio.sleep(30)
            return await end(item=item)

        loop = asyncio.get_running_loop()
        for moment in (0.05, 0.4):
            loop.call_later(moment, os.kill, os.getpid(), signal.SIGINT)
        await drive(range(4), one, tally=Tally(), halt=Brake(), width=4)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(work())


def test_off_the_main_thread_there_is_no_signal_to_catch() -> None:
    async def work() -> Tally:
        return await drive(range(3), lambda k: end(item=k), tally=Tally(), halt=Brake(), width=2)

    async def elsewhere() -> Tally:
        return await asyncio.to_thread(asyncio.run, work())

    assert asyncio.run(elsewhere()).status == {"done": 3}


def test_progress_is_told_while_nothing_ends(simulate: Simulate) -> None:
    async def work(clock: Clock) -> int:
        beats = []

        async def one(item: int) -> Outcome:
            await asyncio.sleep(10)
            return await end(item=item)

        await drive(range(2), one, tally=Tally(), halt=Brake(), width=2, progress=lambda: beats.append(clock()))
        return len(beats)

    assert simulate(work) >= 30
