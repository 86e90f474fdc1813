"""Every module imports, the arrows of the design hold, and the library does no work when it is imported."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
PACKAGES = ("rlhf_eval", "generators", "judges", "trainers", "dashboards")
OPTIONAL = {"vllm": "vllm", "ray": "ray"}
"""Last part of a module's name to the package without which it cannot be imported."""
HEAVY = ("torch", "transformers", "vllm", "ray", "streamlit", "pandas", "matplotlib", "scipy.stats")


def modules() -> list[str]:
    """The dotted names of all modules, found by walking."""
    files = sorted(file for package in PACKAGES for file in (HOME / package).rglob("*.py"))
    paths = [file.relative_to(HOME).with_suffix("") for file in files]
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def test_there_is_something_to_import() -> None:
    found = modules()
    assert len(found) > 50
    assert {"rlhf_eval.records", "judges.pairwise", "generators.sample"} <= set(found)


@pytest.mark.parametrize("name", modules())
def test_every_module_imports_and_says_what_it_is(name: str) -> None:
    needed = OPTIONAL.get(name.rpartition(".")[2])
    if needed and find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    module = import_module(name)
    empty = module.__file__ is not None and not Path(module.__file__).read_text("utf-8").strip()
    assert module.__doc__ or empty, f"{name} has no docstring"


def test_the_arrows_of_the_design_hold() -> None:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", command, "--no-cache"], cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "0 broken" in done.stdout


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, rlhf_eval.cli.commands; print([m for m in sys.argv[1:] if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
