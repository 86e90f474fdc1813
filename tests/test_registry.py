"""The table of contents is true, and what is not in it is named."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest

from rlhf_eval import registry
from rlhf_eval.errors import UserError

EVERY = [(kind, name) for kind, names in registry.PLUGINS.items() for name in names]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to import from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_plugin_offers_what_its_kind_must(kind: str, name: str) -> None:
    module = registry.load(kind, name)
    assert module.__doc__, f"{module.__name__} has no docstring"
    assert all(hasattr(module, offer) for offer in registry.OFFERS[kind])


@pytest.mark.parametrize("name", registry.PLUGINS["judge"])
def test_judges_take_what_the_stage_gives(name: str) -> None:
    module = registry.load("judge", name)
    assert list(inspect.signature(module.judge).parameters) == ["prompt", "completions", "model", "config"]
    assert module.ARITY in (0, 1, 2)


def test_every_file_of_a_plugin_room_is_in_the_table_or_helps_one() -> None:
    listed = {path for names in registry.PLUGINS.values() for path in names.values()}
    home = Path(registry.__file__).parent.parent
    for package in ("generators", "judges", "trainers"):
        for file in (home / package).glob("[a-z]*.py"):
            offers = file.read_text("utf-8")
            is_plugin = "class Config" in offers and any(
                f"def {verb}(" in offers for verb in ("judge", "select", "generate")
            )
            assert not is_plugin or f"{package}.{file.stem}" in listed, f"{file.name} is in no table"


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("judge", "pairwize", "there is no judge 'pairwize'. Did you mean 'pairwise'?"),
        ("generator", "smaple", "Did you mean 'sample'?"),
        ("selection", "best-worst", "Did you mean 'best_worst'?"),
        ("judge", "", "there is no judge ''"),
        ("judge", "no.such.module", "no module named 'no'"),
        ("judge", "judges.nothing", "no module named 'judges.nothing'"),
        ("judge", "os.path", "os.path is no judge: it lacks Config and ARITY and judge"),
        ("judge", ".", "there is no judge '.'"),
        ("judge", ".pairwise", "Did you mean 'pairwise'?"),
        ("judge", "judges.", "there is no judge 'judges.'"),
    ],
)
def test_an_unknown_plugin_is_named(kind: str, name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        registry.load(kind, name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plugin_of_another_package_is_found_by_its_dotted_path(home: Path) -> None:
    (home / "theirs").mkdir()
    (home / "theirs" / "coin.py").write_text("ARITY = 2\nclass Config: ...\nasync def judge(*_): ...\n")
    assert registry.load("judge", "theirs.coin").ARITY == 2


def test_a_plugin_that_needs_an_absent_package_says_what_to_install(home: Path) -> None:
    (home / "needy").mkdir()
    (home / "needy" / "one.py").write_text("import no_such_package.inner\n")
    with pytest.raises(UserError, match=r"'needy.one' needs the package 'no_such_package.*pip install"):
        registry.load("judge", "needy.one")


def test_a_hint_names_the_extra_that_brings_the_package() -> None:
    assert registry.install_hint("torch") == "pip install 'rlhf-eval[train]'"
    assert registry.install_hint("vllm.engine") == "pip install 'rlhf-eval[vllm]'"
    assert registry.install_hint("tomlkit") == "pip install tomlkit"


def test_a_stranger_of_the_same_name_is_found_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.check_packages()
    (home / "judges").mkdir()
    (home / "judges" / "__init__.py").write_text("")
    for name in [name for name in sys.modules if name.partition(".")[0] == "judges"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"'judges' at .* shadows the one of rlhf-eval"):
        registry.check_packages()
