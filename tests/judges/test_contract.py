"""Every judge of the registry keeps the contract: settings that explain themselves, an arity, and templates that read."""

from __future__ import annotations

import inspect
from importlib.resources import files

import pytest

from rlhf_eval import registry
from rlhf_eval.config import as_settings, build, describe
from rlhf_eval.errors import UserError

JUDGES = registry.PLUGINS["judge"]


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_keeps_the_contract(name: str) -> None:
    plugin = registry.load("judge", name)
    assert plugin.ARITY in (0, 1, 2)
    assert inspect.iscoroutinefunction(plugin.judge)
    assert [*inspect.signature(plugin.judge).parameters] == ["prompt", "completions", "model", "config"]
    assert all(setting.doc.endswith((".", "?", ")")) for setting in describe(plugin.Config))
    assert build(plugin.Config, as_settings(plugin.Config()), where=name) == plugin.Config()
    with pytest.raises(UserError, match="has no setting 'colour'"):
        build(plugin.Config, {"colour": "blue"}, where=name)


@pytest.mark.parametrize("name", JUDGES)
def test_a_judges_settings_do_not_shadow_the_verbs(name: str) -> None:
    own = {setting.name for setting in describe(registry.load("judge", name).Config)}
    assert not own & {"completions", "judge", "judge_model", "matches", "orders", "repeats"}


def test_every_template_belongs_to_a_judge() -> None:
    """A judge's identity hashes the templates whose names begin with its own."""
    stems = {path.rpartition(".")[2] for path in JUDGES.values()}
    for file in files("judges").iterdir():
        if file.name.endswith(".txt"):
            assert any(file.name.startswith(stem) for stem in stems), file.name
            assert file.read_text("utf-8").strip()
