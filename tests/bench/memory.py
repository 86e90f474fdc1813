"""What a run costs its machine: memory at 1,000 and at 100,000 prompts, and CPU a request, through the mock.

Each size is a process of its own that loads prompts, generates one answer to each and judges it; memory is that process's
peak, CPU all that it used. CPU a request is the slope between the sizes, so that imports do not count.

    python tests/bench/memory.py --prompts 1000 100000 --json memory.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """\
generate: {model: "mock:writer"}
judge: {judge: grade, judge_model: "mock:echo"}
"""
FILLER = "Explain in plain words why the sky is blue, and name one thing that most people get wrong about it."
REQUESTS = 2
"""Of each prompt: one to the writer and one to the judge."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run."""

    prompts: int
    seconds: float
    peak_mb: float
    cpu_seconds: float


def run(folder: Path, *words: str) -> tuple[float, float, float]:
    """Wall seconds, peak megabytes and CPU seconds of one command."""
    command = [sys.executable, "-m", "rlhf_eval", *words, "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (folder / "output.txt").read_text()
    return time.perf_counter() - started, used.ru_maxrss / 1024, used.ru_utime + used.ru_stime


def measure(prompts: int) -> Row:
    """Load in one process, generate and judge in another: that one is measured."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = (json.dumps({"prompt": f"{k}: {FILLER}", "id": str(k)}) for k in range(prompts))
        (folder / "prompts.jsonl").write_text("\n".join(rows) + "\n")
        (folder / "line.yaml").write_text(RECIPE)
        run(folder, "load", "jsonl", "prompts.jsonl")
        seconds, peak, cpu = run(folder, "run", "line.yaml")
    return Row(prompts, round(seconds, 1), round(peak, 1), round(cpu, 1))


def show(rows: Sequence[Row]) -> str:
    """The rows as a table, and what lies between the first and the last."""
    lines = ["prompts  seconds  peak MB  CPU s"]
    lines += [f"{row.prompts:7,}  {row.seconds:7.1f}  {row.peak_mb:7.1f}  {row.cpu_seconds:5.1f}" for row in rows]
    first, last = rows[0], rows[-1]
    if last.prompts > first.prompts:
        more = REQUESTS * (last.prompts - first.prompts)
        lines.append(f"between them: {last.peak_mb - first.peak_mb:.1f} MB")
        lines.append(f"CPU a request: {1000 * (last.cpu_seconds - first.cpu_seconds) / more:.3f} ms")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompts", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    given = parser.parse_args()
    rows = [measure(prompts) for prompts in given.prompts]
    print(show(rows))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
