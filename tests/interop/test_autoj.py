"""Auto-J's pairs: a handmade file, and the published counts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.interop import autoj


def test_labels(tmp_path: Path) -> None:
    lines = [
        f'{{"scenario": "rewriting", "label": {label}, "prompt": "Q{n}", "response 1": "a", "response 2": "b"}}'
        for n, label in enumerate((0, 1, 2, 7))
    ]
    path = tmp_path / "autoj_pairwise.json"
    path.write_text("\n".join(lines))
    assert autoj.detect(path)
    loaded = autoj.read(tmp_path)
    assert [j.scores for j in loaded.judgments] == [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]
    assert {j.judge for j in loaded.judgments} == {"human/autoj"}
    assert loaded.prompts[0].category == "rewriting"
    assert "autoj_pairwise.json:4: 'label' must be 0, 1 or 2, not 7" in loaded.warnings[0]


def test_what_is_no_such_file(tmp_path: Path) -> None:
    assert not autoj.detect(tmp_path)
    with pytest.raises(UserError, match=r"no autoj_pairwise\.json"):
        autoj.read(tmp_path)


@pytest.mark.groundtruth
def test_the_published_counts(groundtruth: Path) -> None:
    loaded = autoj.read(groundtruth / "prometheus-eval")
    assert loaded.warnings == ()
    counts = Counter(j.scores for j in loaded.judgments)
    assert counts == {(1.0, 0.0): 520, (0.0, 1.0): 499, (0.5, 0.5): 373}
