"""The progress line: drawn on a terminal, printed now and then elsewhere, silent when told."""

from __future__ import annotations

import io

import pytest

from rlhf_eval.models.door import Door
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Outcome, Usage
from rlhf_eval.stages import progress as module
from rlhf_eval.stages.drive import Tally
from rlhf_eval.stages.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def tally() -> Tally:
    found = Tally(total=100)
    for k in range(20):
        found.add(Outcome.of(str(k), "judge", "failed" if k < 3 else "done", reason="x" if k < 3 else ""))
    return found


def test_the_line_says_what_went_in_and_what_is_left(tally: Tally) -> None:
    door = Door(MockModel("echo"))
    door.traffic.usage = Usage(completion_tokens=5000, cost=0.25)
    door.traffic.cached = 7
    line = Progress("judge", tally, [door]).line(10.0)
    assert line == "judge 20/100 prompts · 3 failed · 7 cached · 2.0/s · 500 tok/s · $0.2500 · 40 s left"


def test_what_was_resumed_is_no_speed(tally: Tally) -> None:
    assert "0.5/s · 160 s left" in Progress("judge", tally, resumed=15).line(10.0)
    assert Progress("judge", tally, resumed=20).line(10.0) == "judge 20/100 prompts · 3 failed · 0.0/s"
    assert Progress("judge", Tally(total=0)).line(0.0) == "judge 0/0 prompts · 0.0/s"


def test_on_a_terminal_one_line_is_redrawn_and_no_rest_of_a_longer_one_stays(tally: Tally) -> None:
    stream = Terminal()
    shown = Progress("judge", tally, stream=stream)
    shown()
    shown()  # too soon
    assert stream.getvalue().count("\r") == 1
    wide = len(stream.getvalue()) - 1
    tally.total = 20
    shown.close()
    assert stream.getvalue().endswith("\n")
    last = stream.getvalue().rpartition("\r")[2]
    assert len(last.rstrip("\n")) >= wide
    assert "left" not in last


def test_elsewhere_a_line_is_printed_every_ten_seconds(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    shown = Progress("judge", tally, stream=stream, started=1000.0)
    for clock[0] in (1001.0, 1009.0, 1010.5, 1015.0, 1021.0):
        shown()
    shown.close()
    assert stream.getvalue().count("\n") == 2
    assert "\r" not in stream.getvalue()


def test_quiet_is_silent(tally: Tally) -> None:
    stream = Terminal()
    shown = Progress("judge", tally, stream=stream, quiet=True)
    shown()
    shown.close()
    assert stream.getvalue() == ""
