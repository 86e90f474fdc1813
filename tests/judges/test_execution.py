"""Programs run within their limits, and only one that ran to its end has passed."""

from __future__ import annotations

import asyncio
import time

import pytest

from judges.execution import run


def end(program: str, seconds: float = 5.0, megabytes: int = 256):
    return asyncio.run(run(program, seconds=seconds, megabytes=megabytes))


@pytest.mark.parametrize("program", ["", "def f():\n    return 1\nassert f() == 1", "print('x' * 10)"])
def test_a_program_that_reaches_its_end_passes(program: str) -> None:
    assert end(program).status == "passed"


@pytest.mark.parametrize(
    "program",
    [
        "assert 1 + 1 == 3",
        "raise ValueError('no')",
        "def broken(:",
        "import sys; sys.exit(0)",  # an early exit, however it says it went
        "import os; os._exit(0)",
        "import os; os.kill(os.getpid(), 9)",
        "hog = bytearray(1 << 30)",
        "open('big', 'wb').write(b'x' * (2 << 20))",
        "while True: print('x' * 1000)",
        "import sys; sys.stdin.read()",
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
        "import os; assert os.environ.get('RLHF_EVAL_SECRET_OF_THE_TEST')",
    ],
)
def test_a_program_that_does_not_has_failed(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_EVAL_SECRET_OF_THE_TEST", "1")
    assert end(program).status == "failed"


@pytest.mark.parametrize("program", ["while True: pass", "import time; time.sleep(60)"])
def test_a_program_that_takes_too_long_is_stopped(program: str) -> None:
    start = time.perf_counter()
    assert end(program, seconds=0.4).status == "timeout"
    assert time.perf_counter() - start < 8


def test_the_end_of_the_output_is_kept() -> None:
    assert end("print('begin'); raise ValueError('the reason')").output.strip().endswith("ValueError: the reason")


def test_programs_run_beside_each_other() -> None:
    async def several() -> list[str]:
        ends = await asyncio.gather(*(run(f"assert {k} % 2 == 0", seconds=5, megabytes=256) for k in range(4)))
        return [one.status for one in ends]

    assert asyncio.run(several()) == ["passed", "failed", "passed", "failed"]
