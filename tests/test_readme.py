"""Every command of the README is run, in its order, as a reader would type it.

Blocks marked ``bash`` run as they are; ``bash server`` runs against a local server that stands where the README says
http://localhost:8000/v1; ``bash vllm`` runs in ``make test-vllm``. ``make`` targets must exist.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlhf_eval.verbs.recipe import check_tables
from tests.server import running_server

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVED = "Qwen/Qwen2.5-7B-Instruct"


def blocks(mark: str) -> list[str]:
    return re.findall(rf"^```{mark}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def run(command: str, cwd: Path) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(cwd),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, shell=True, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("reader")
    (home / "prompts.jsonl").write_text(
        '{"prompt": "Name a prime."}\n{"instruction": "Add 2 and 3."}\n', encoding="utf-8"
    )
    (home / "mine").mkdir()
    (home / "mine" / "brevity.py").write_text(blocks("python")[0], encoding="utf-8")
    return home


def test_the_commands_of_the_sandbox_run_in_order(home: Path) -> None:
    shown = [run(line, home) for block in blocks("bash") for line in block.strip().splitlines()]
    everything = "\n".join(shown)
    assert "win rate of best-of-4 against sandbox:policy" in everything
    assert "gold: difference" in everything
    assert (home / "pairs.jsonl").stat().st_size > 0


def test_the_commands_against_a_server_run_in_order(home: Path) -> None:
    with running_server(models=f"{SERVED}=0.6") as url:
        for block in blocks("bash server"):
            for line in block.strip().splitlines():
                run(line.replace("http://localhost:8000/v1", url) + " --store served", home)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_no_block_is_left_out() -> None:
    marks = set(re.findall(r"^```(\S[^\n]*)$", README, flags=re.MULTILINE))
    assert marks == {"bash", "bash server", "bash vllm", "python", "yaml"}


def test_its_recipe_holds_together() -> None:
    check_tables(yaml.safe_load(blocks("yaml")[0]), "README.md")
