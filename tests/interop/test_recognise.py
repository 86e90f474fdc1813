"""Every format is told from every other by its layout."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval import interop
from rlhf_eval.errors import UserError
from rlhf_eval.interop.recognise import FORMATS, recognise
from rlhf_eval.registry import PLUGINS

Put = Callable[[str, Any], Path]

SMALL: dict[str, tuple[str, Any]] = {
    "alpaca_eval": ("results/m/model_outputs.json", [{"instruction": "Q", "output": "A"}]),
    "arena_hard": ("data/v2/question.jsonl", [{"uid": "1", "prompt": "Q"}]),
    "mt_bench": ("question.jsonl", [{"question_id": 1, "turns": ["Q"]}]),
    "llmbar": ("Natural/dataset.json", [{"input": "Q", "output_1": "a", "output_2": "b", "label": 1}]),
    "judge_bench": ("data/dataset=judgebench,response_model=m.jsonl", [{"pair_id": "1"}]),
    "pandalm": ("data/testset-v1.json", [{"idx": 0}]),
    "autoj": ("autoj_pairwise.json", [{"label": 0}]),
    "wildbench": ("score.v2/eval=gpt/m.json", [{"session_id": "1"}]),
    "ultrafeedback": ("uf.jsonl", [{"instruction": "Q", "completions": [{"annotations": {}}]}]),
    "reward_bench": ("rb.jsonl", [{"id": 1, "subset": "x", "prompt": "Q", "chosen": "a", "rejected": "b"}]),
}
FILES: dict[str, list[dict[str, Any]]] = {
    "trl": [{"prompt": "Q", "chosen": "a", "rejected": "b"}],
    "gsm8k": [{"question": "1 + 1?", "answer": "Two. #### 2"}],
    "ifeval": [{"key": 1, "prompt": "Q", "instruction_id_list": [], "kwargs": []}],
    "humaneval": [{"task_id": "t", "prompt": "def f():", "test": "", "entry_point": "f"}],
    "human": [{"prompt_id": "p", "completion_ids": ["x", "y"], "choice": "a", "labeler": "ada"}],
    "jsonl": [{"prompt": "Q"}],
}


@pytest.mark.parametrize("name", SMALL)
def test_a_folder(name: str, put: Put, tmp_path: Path) -> None:
    put(*SMALL[name])
    for inside in {"mt_bench": "model_answer", "llmbar": "Natural/evaluators"}.values():
        if (tmp_path / inside).parent.is_dir():
            (tmp_path / inside).mkdir()
    assert recognise(tmp_path) == name


@pytest.mark.parametrize("name", FILES)
def test_a_file(name: str, put: Put) -> None:
    assert recognise(put("rows.jsonl", FILES[name])) == name


def test_what_is_unknown_names_the_formats(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="say the format: alpaca_eval, arena_hard"):
        recognise(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        recognise(tmp_path / "gone")


def test_every_reader_is_listed_and_every_module_imports() -> None:
    modules = {
        file.stem: import_module(f"rlhf_eval.interop.{file.stem}")
        for file in Path(str(interop.__path__[0])).glob("[a-z]*.py")
    }
    readers = {name for name, module in modules.items() if hasattr(module, "read")}
    assert readers == set(FORMATS) == set(PLUGINS["format"])
    assert all(hasattr(modules[name], "detect") for name in readers)


@pytest.mark.groundtruth
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("alpaca_eval", "alpaca_eval"),
        ("arena-hard-auto", "arena_hard"),
        ("FastChat", "mt_bench"),
        ("LLMBar", "llmbar"),
        ("JudgeBench", "judge_bench"),
        ("PandaLM", "pandalm"),
        ("prometheus-eval", "autoj"),
        ("WildBench", "wildbench"),
        ("reward-bench", "reward_bench"),
        ("IFEval/data/input_data.jsonl", "ifeval"),
        ("grade-school-math/grade_school_math/data/test.jsonl", "gsm8k"),
        ("human-eval/data/HumanEval.jsonl.gz", "humaneval"),
    ],
)
def test_a_real_checkout(groundtruth: Path, folder: str, name: str) -> None:
    assert recognise(groundtruth / folder) == name
