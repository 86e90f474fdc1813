"""The rebuild script: a smoke run makes two whole checkpoints, and never over the committed ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_eval.sandbox.pretrain import main


def test_a_quick_run_builds_both_checkpoints_with_cards(tmp_path: Path, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert main(["--quick", "--seed", "1", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["judge", "policy"]
    for name in ("policy", "judge"):
        text = (tmp_path / name / "README.md").read_text(encoding="utf-8")
        assert "seed: 1\n" in text
        assert f"# sandbox:{name}" in text
        assert AutoModelForCausalLM.from_pretrained(tmp_path / name).dtype.itemsize == 4
        assert AutoTokenizer.from_pretrained(tmp_path / name).pad_token == "<|pad|>"
    assert "s left" in capsys.readouterr().err


def test_a_quick_run_refuses_to_overwrite_the_committed_checkpoints(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--quick"])
    assert stopped.value.code == 2
    assert "--out" in capsys.readouterr().err
