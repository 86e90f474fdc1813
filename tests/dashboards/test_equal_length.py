"""Win rates at equal length: the page's are the benchmark's, and a bought win rate is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboards.data.equal_length import at_equal_length
from rlhf_eval.benchmarks import alpaca_eval
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.records import Completion, Judgment, Prompt, Usage
from rlhf_eval.store.runs import Store


@pytest.fixture(scope="module")
def wordy(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A judge that pays for length only; one model writes longer than the baseline, another as long, a third always."""
    rng = np.random.default_rng(3)
    store = Store(tmp_path_factory.mktemp("wordy") / "store")
    with store.begin("judge", {}, inputs={}, seed=0, versions={}) as run:
        for k in range(300):
            prompt = Prompt.of(f"Question {k}?")
            run.append("prompts", prompt)
            base = int(rng.integers(20, 200))
            sizes = {
                "base": base, "same": int(rng.integers(20, 200)), "wordy": int(rng.integers(50, 260)), "endless": base + 500
            }  # fmt: skip
            answers = {m: Completion.of(prompt_id=prompt.id, model=m, text="x" * n) for m, n in sizes.items()}
            for answer in answers.values():
                run.append("completions", answer)
            for model in ("same", "wordy", "endless"):
                won = float(rng.random() < 1 / (1 + np.exp(-(sizes[model] - base) / 60)))
                ids = (answers[model].id, answers["base"].id)
                verdict = Judgment.of(prompt_id=prompt.id, completion_ids=ids, judge="j", scores=(won, 1 - won))
                run.append("judgments", verdict)
        run.finish("done", {}, Usage())
    return store


def test_what_length_bought_is_taken_off(wordy: Store) -> None:
    found = at_equal_length(wordy, "j", "base")
    assert found["wordy"].raw.low > 0.5
    assert found["wordy"].adjusted is not None
    assert found["wordy"].adjusted.low < 0.5 < found["wordy"].adjusted.high
    assert found["endless"].adjusted is None
    assert "not identified" in found["endless"].reason


def test_the_numbers_are_the_benchmarks(wordy: Store) -> None:
    found = at_equal_length(wordy, "j", "base")
    evidence = Evidence.of(wordy.read(Prompt), wordy.read(Completion), wordy.read(Judgment))
    scored = [e for e in alpaca_eval.score(evidence, alpaca_eval.Config()) if e.name == "length_controlled"]
    assert {e.settings["model"] for e in scored} == {"same", "wordy"}
    for e in scored:
        mine = found[str(e.settings["model"])].adjusted
        assert mine is not None
        assert (mine.value, mine.low, mine.high) == pytest.approx((e.value, e.low, e.high), abs=1e-9)


def test_the_page_says_it_or_why_not(app: Callable[..., Any], wordy: Store, tmp_path: Path) -> None:
    page = app(wordy.path)
    page.toggle(key="equal_length").set_value(True).run()
    assert not page.exception
    said = "\n".join(str(part.value) for part in page.html)
    assert "at equal length" in said
    assert "not identified" in said
