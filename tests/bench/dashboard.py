"""How fast the dashboard is over a million stored judgments: first plot, filter, example, and the server's memory.

A real server, a real browser. The store is written once and kept; one judge is compared with 50 models on both orders of
every prompt, and answers have text.

    python tests/bench/dashboard.py --judgments 1000000 --store /tmp/million
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from leaderboard_speed import MODELS, comparisons, completions, write

from rlhf_eval.records import Completion, Judgment, Prompt, Usage
from rlhf_eval.store.runs import Store

APP = Path(__file__).parents[2] / "dashboards" / "shell" / "app.py"
TARGETS = {"first plot": 3.0, "filter": 1.0, "next example": 0.5}
MEMORY = 600
"""Megabytes that the server may take."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgments", type=int, default=1_000_000)
    parser.add_argument("--store", type=Path, default=Path("/tmp/rlhf-eval-dashboard-million"))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if not (options.store / "runs").exists():
        build(options.store, options.judgments)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.port", str(port), "--", "--store"]
    with subprocess.Popen([*command, str(options.store)], stdout=subprocess.DEVNULL) as server:
        try:
            base = f"http://127.0.0.1:{port}"
            wait(f"{base}/_stcore/health")
            measure(base, server.pid, options.repeats)
        finally:
            server.terminate()


def measure(base: str, pid: int, repeats: int) -> None:
    """Drive the pages and print the medians beside the targets."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_context().new_page()
        page.goto(f"{base}/label")  # fills the browser's cache of the app's scripts, as a first visit does
        settle(page)
        took: dict[str, list[float]] = {"first plot (cold)": [timed(lambda: plot(page, base))]}
        took["first plot"] = [timed(lambda: plot(page, base)) for _ in range(repeats)]
        took["filter"] = [timed(lambda c=c: category(page, c)) for c in ("odd", "even") * (repeats // 2 + 1)]
        took["compare"] = [timed(lambda: heading(page, f"{base}/compare", "Compare"))]
        took["examples (cold)"] = [timed(lambda: heading(page, f"{base}/examples", "Examples"))]
        page.get_by_text(re.compile(r"^1 of ")).wait_for()
        settle(page)
        took["next example"] = [timed(lambda n=n: step(page, n)) for n in range(2, 2 + repeats)]
        browser.close()
    for name, seconds in took.items():
        target = TARGETS.get(name)
        verdict = "" if target is None else f"  target {target:g} s: {'met' if median(seconds) < target else 'MISSED'}"
        print(f"{name:20} {median(seconds):.2f} s   all {', '.join(f'{s:.2f}' for s in seconds)}{verdict}")
    used = resident(pid)
    print(f"{'server memory':20} {used:.0f} MB   target {MEMORY} MB: {'met' if used < MEMORY else 'MISSED'}")


def plot(page: Any, base: str) -> None:
    """Open home and wait for the chart's marks."""
    page.goto(base)
    page.locator("[data-testid=stVegaLiteChart] .mark-symbol path").first.wait_for(timeout=120_000)


def category(page: Any, name: str) -> None:
    """Choose a category and wait for the numbers of its prompts."""
    before = page.locator(".re-card").first.inner_text()
    page.get_by_role("combobox", name=re.compile("Category")).click()
    page.get_by_role("option", name=name, exact=True).click()
    page.wait_for_function("t => document.querySelector('.re-card').innerText !== t", arg=before, timeout=120_000)


def heading(page: Any, url: str, name: str) -> None:
    """Open a page and wait until it is drawn."""
    page.goto(url)
    page.get_by_role("heading", name=name, exact=True).wait_for(timeout=120_000)
    settle(page)


def step(page: Any, number: int) -> None:
    """Go to the next example by key and wait until its answers are there."""
    texts = "[...document.querySelectorAll('.re-text')].map(e => e.innerText).join()"
    before = page.evaluate(texts)
    page.keyboard.press("j")
    page.get_by_text(re.compile(rf"^{number} of ")).wait_for(timeout=60_000)
    page.wait_for_function(f"t => {texts} !== t", arg=before, timeout=60_000)


def settle(page: Any) -> None:
    """Wait until the script has ended."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(timeout=120_000)
    page.wait_for_function("!document.querySelector('[data-stale=true]')", timeout=120_000)


def timed(work: Callable[[], None]) -> float:
    """Seconds that ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def resident(pid: int) -> float:
    """Megabytes in memory now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def wait(address: str) -> None:
    """Until the server answers."""
    for _ in range(300):
        try:
            if urllib.request.urlopen(address, timeout=1).read() == b"ok":
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not answer in 30 seconds")


def build(path: Path, judgments: int) -> None:
    """A store with one run of prompts, answers of about 600 characters, and the judgments, in sealed parts."""
    prompts = judgments // (2 * MODELS)
    asked = [Prompt.of(f"Question {k}?", category="even" if k % 2 == 0 else "odd") for k in range(prompts)]
    store = Store(path)
    with store.begin("judge", {"judge": "planted"}, inputs={}, seed=0, versions={}) as run:
        for prompt in asked:
            run.append("prompts", prompt)
        folder = store.folder(run.run.id) / "parts"
        folder.mkdir(exist_ok=True)
        ids = np.array([prompt.id for prompt in asked], dtype=object)
        written = completions(prompts)
        written["prompt_id"] = np.tile(ids, MODELS + 1).tolist()
        written["text"] = [f"answer {n}: " + "word " * (60 + n % 97) for n in range(len(written["id"]))]
        write(folder, Completion, written)
        for first in range(0, MODELS, 10):
            judged = comparisons(prompts, range(first, first + 10))
            judged["prompt_id"] = np.tile(np.repeat(ids, 2), 10).tolist()
            judged["rationale"] = [f"Because of {n}. " + "reason " * 20 for n in range(len(judged["id"]))]
            write(folder, Judgment, judged, start=first)
        run.finish("done", {"done": prompts, "judgments": judgments}, Usage())
    store.compact("latest")  # by prompt, in which order a run writes what it judges


if __name__ == "__main__":
    main()
