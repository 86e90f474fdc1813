"""The child process of ``judges.execution``: sets its own limits, then runs the program that comes on standard input.

Run as a script, never imported. It reads one JSON object, closes standard input, runs ``program`` as ``__main__``, and
only when that has come to its end writes ``token`` to the file descriptor ``report``. Exiting early, with any status, is
no pass.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def limit(seconds: float, megabytes: int) -> None:
    """Bound CPU time, memory, file size, open files, processes and core dumps; leave the network where that is allowed."""
    whole = int(seconds) + 1
    bounds = {
        resource.RLIMIT_CPU: (whole, whole + 1),
        resource.RLIMIT_AS: (megabytes << 20, megabytes << 20),
        resource.RLIMIT_FSIZE: (1 << 20, 1 << 20),
        resource.RLIMIT_NOFILE: (64, 64),
        resource.RLIMIT_CORE: (0, 0),
    }
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).unshare(CLONE_NEWUSER | CLONE_NEWNET)
    for kind, bound in bounds.items():
        resource.setrlimit(kind, bound)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    """Read the task, take the limits, run it, report."""
    task = json.loads(sys.stdin.buffer.read())
    sys.stdin.close()
    sys.setrecursionlimit(10_000)
    limit(task["seconds"], task["megabytes"])
    report, token = task["report"], task["token"].encode()
    code = compile(task["program"], "<answer>", "exec")
    del task
    exec(code, {"__name__": "__main__", "__builtins__": __builtins__})
    os.write(report, token)


if __name__ == "__main__":
    main()
