"""Two models that met on no common prompt: nobody can say which is better, and no page says that they are alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dashboards import report
from rlhf_eval.benchmarks.boards import Behind, told_apart
from rlhf_eval.records import Completion, Judgment, Prompt, Usage
from rlhf_eval.stats.intervals import paired
from rlhf_eval.store.runs import Store

WORDS = "shares no prompt with the first"


@pytest.fixture
def apart(tmp_path: Path) -> Store:
    """Two models against one baseline, each on prompts of its own."""
    store = Store(tmp_path / "store")
    with store.begin("judge", {"planted": "apart"}, inputs={}, seed=0, versions={}) as run:
        for n in range(80):
            prompt = Prompt.of(f"question {n}")
            met = [Completion.of(prompt_id=prompt.id, model=m, text=f"{m} {n}") for m in ("ab"[n % 2], "base")]
            share = float(n % 8 > 1)
            run.append("prompts", prompt)
            for answer in met:
                run.append("completions", answer)
            ids = (met[0].id, met[1].id)
            run.append(
                "judgments",
                Judgment.of(prompt_id=prompt.id, completion_ids=ids, judge="j", scores=(share, 1 - share)),
            )
        run.finish("done", {"judgments": 80}, Usage())
    return store


def test_the_leaderboard_and_the_report_say_that_they_never_met(app: Callable[..., Any], apart: Store) -> None:
    page = app(apart.path)
    assert not page.exception
    board = page.dataframe(key="board").value
    assert board["note"].tolist() == ["", WORDS]
    said = "\n".join(str(part.value) for part in (*page.markdown, *page.get("html")))
    assert "1 of 1 share no prompt with it" in said
    assert "cannot be told from first place" not in said
    text = report.main(apart)
    assert WORDS in text
    assert "cannot be told from the first" not in text


def test_what_a_board_says_of_first_place() -> None:
    first, unmet = Behind(gap=None, p_holm=None), Behind(gap=None, p_holm=None)
    tied, behind = (Behind(gap=paired([1, 0, 1], [0, 1, 1]), p_holm=p) for p in (0.4, 0.01))
    assert told_apart([first, behind]) == "first place is separable from all"
    said = told_apart([first, behind, tied, unmet], marks=("= ", "? "))
    assert said == "= 1 of 3 cannot be told from first place, ? 1 of 3 share no prompt with it"
    assert (behind.note, tied.note, unmet.note) == ("", "cannot be told from the first", WORDS)
