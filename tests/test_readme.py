"""Every command of the README is run, in its order, as a reader would type it.

Blocks marked ``bash`` run as they are and ``bash server`` against a local server that stands where the README says
http://localhost:8000/v1, all in this process, which loads torch once; ``bash vllm`` runs in ``make test-vllm``. ``make``
targets must exist.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from server import running_server

from rlhf_eval.cli import main
from rlhf_eval.verbs.recipe import check_tables

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVED = "Qwen/Qwen2.5-7B-Instruct"


def blocks(mark: str) -> list[str]:
    return re.findall(rf"^```{mark}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def typed(line: str, *more: str) -> None:
    """Run a line of the README, which must succeed."""
    command, *words = shlex.split(line)
    assert command == "rlhf-eval"
    assert main([*words, *more]) == 0, line


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("reader")
    (home / "prompts.jsonl").write_text(
        '{"prompt": "Name a prime."}\n{"instruction": "Add 2 and 3."}\n', encoding="utf-8"
    )
    (home / "mine").mkdir()
    (home / "mine" / "brevity.py").write_text(blocks("python")[0], encoding="utf-8")
    return home


def test_the_commands_of_the_sandbox_run_in_order(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(str(home))
    for line in "".join(blocks("bash")).splitlines():
        typed(line)
    everything = capsys.readouterr().out
    assert "win rate of best-of-4 against sandbox:policy" in everything
    assert "gold: difference" in everything
    assert (home / "pairs.jsonl").stat().st_size > 0


def test_the_commands_against_a_server_run_in_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    with running_server(models=f"{SERVED}=0.6") as url:
        for line in "".join(blocks("bash server")).splitlines():
            typed(line.replace("http://localhost:8000/v1", url), "--store", "served")


def test_the_command_is_installed() -> None:
    done = subprocess.run([Path(sys.executable).parent / "rlhf-eval", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("rlhf-eval ")


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_no_block_is_left_out() -> None:
    marks = set(re.findall(r"^```(\S[^\n]*)$", README, flags=re.MULTILINE))
    assert marks == {"bash", "bash server", "bash vllm", "python", "yaml"}


def test_its_recipe_holds_together() -> None:
    check_tables(yaml.safe_load(blocks("yaml")[0]), "README.md")
