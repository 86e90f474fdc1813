"""Run a program that a model wrote, in a process of its own with hard limits on time and memory.

The limits stop accidents: endless loops, exhausted memory, filled disks, lingering children. They are not a jail for
hostile code: the process runs as the same user and can read what that user can. Run it in a container where that matters.

    from judges.execution import run
    await run("assert 1 + 1 == 2", seconds=5, megabytes=512)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CHILD = Path(__file__).with_name("execution_child.py")
KEPT = 2000
"""Characters of its output that are kept."""
STARTUP = 10.0
"""Seconds that starting an interpreter may take on top of the program's own."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How a program ended."""

    status: Literal["passed", "failed", "timeout"]
    """``passed`` only if it ran to its last line."""
    output: str
    """The end of what it wrote to standard output and error."""


async def run(program: str, *, seconds: float, megabytes: int) -> Execution:
    """Run ``program`` to its end or to the limit; it sees an empty folder, an empty environment and no input.

    ``seconds`` bounds wall-clock and CPU time, ``megabytes`` the address space. What it started dies with it, unless it
    left the session. Files, not pipes, carry what goes in and out: a child that never reads or never stops writing blocks
    nobody.
    """
    token = secrets.token_hex(16)
    with (
        tempfile.TemporaryDirectory(prefix="rlhf-eval-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as task,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as report,
    ):
        order = {
            "program": program,
            "seconds": seconds,
            "megabytes": megabytes,
            "token": token,
            "report": report.fileno(),
        }
        task.write(json.dumps(order).encode())
        task.seek(0)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-B",
            str(CHILD),
            stdin=task,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            cwd=folder,
            env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"},
            pass_fds=(report.fileno(),),
            start_new_session=True,
        )
        timely = await _ended(process, seconds + STARTUP)
        output.seek(max(0, output.seek(0, os.SEEK_END) - 4 * KEPT))
        text = output.read().decode("utf-8", "replace")[-KEPT:]
        report.seek(0)
        passed = report.read(len(token)) == token.encode()
    if not timely:
        return Execution("timeout", text)
    return Execution("passed" if passed else "failed", text)


async def _ended(process: asyncio.subprocess.Process, wall: float) -> bool:
    """Wait for the child and end its whole session; whether it stayed within its time."""
    timely = True
    try:
        await asyncio.wait_for(process.wait(), wall)
    except TimeoutError:
        timely = False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return timely and process.returncode not in (-signal.SIGXCPU, -signal.SIGALRM)
