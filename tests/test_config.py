"""Settings: an unknown key names its nearest neighbour, a wrong type its field, and nothing is guessed."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval import registry
from rlhf_eval.config import apply_sets, as_settings, build, describe, read_yaml, write_yaml
from rlhf_eval.errors import UserError

# YAML 1.1 takes NEL and the Unicode separators for line ends, so that they are not kept letter for letter.
words = st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029\ufeff"), max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """A table of settings inside another."""

    rate: float = 0.0
    """How much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Settings as a plugin has them."""

    n: int = 1
    """How many,
    on two lines."""
    temperature: float = 1.0
    """How hot."""
    orders: Literal["both", "one"] = "both"
    """Which."""
    how: Literal["both"] | Literal["one"] | None = None
    """How, if at all."""
    stop: tuple[str, ...] = ()
    """What ends it."""
    table: dict[str, Any] = field(default_factory=dict)
    soft: bool = True
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; at least 1 is needed")


def test_a_number_may_begin_with_its_point() -> None:
    assert build(Example, {"temperature": ".5"}, where="x").temperature == 0.5
    assert build(Example, {"temperature": "-.5e1"}, where="x").temperature == -5
    assert build(Example, {"stop": [".5"]}, where="x").stop == (".5",)


def test_settings_become_the_config_and_come_back() -> None:
    given_ = {"n": 8, "temperature": 0, "orders": "one", "stop": ["\n"], "table": {"a": 1}}
    config = build(Example, given_, where="x")
    assert config == Example(n=8, temperature=0.0, orders="one", stop=("\n",), table={"a": 1})
    assert build(Example, as_settings(config), where="x") == config


@pytest.mark.parametrize(("text", "value"), [("8", 8), ("8.0", 8)])
def test_a_number_in_quotes_is_a_number(text: str, value: int) -> None:
    # Options of a model spec come as text: mock:writer?latency=0.1
    assert build(Example, {"temperature": text}, where="x").temperature == value


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temprature": 0}, r"x has no setting 'temprature'\. Did you mean 'temperature'\?"),
        ({"inner": {"raet": 1}}, r"x: inner has no setting 'raet'\. Did you mean 'rate'\?"),
        ({"n": "many"}, r"x: .*int.*`n`"),
        ({"n": 1.5}, r"x: .*`n`"),
        ({"n": None}, r"x: .*`n`"),
        ({"orders": "bth"}, r"x: orders is 'bth'\. Did you mean 'both'\? Allowed: both, one\."),
        ({"orders": 2}, r"x: orders is '2'\. Allowed: both, one\."),
        ({"how": "bth"}, r"x: how is 'bth'\. Did you mean 'both'\?"),
        ({"stop": "###"}, r"x: .*array.*`stop`"),
        ({"n": 0}, r"x: n is 0; at least 1 is needed"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        build(Example, settings, where="x")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_every_setting_of_every_plugin_has_a_default_and_a_doc_line() -> None:
    for kind, names in registry.PLUGINS.items():
        for name in names:
            config = getattr(registry.load(kind, name), "Config", None)
            for setting in describe(config) if config else ():
                assert setting.doc, f"{kind} {name}: '{setting.name}' has no doc line"
            required = [f.name for f in fields(config) if f.default is f.default_factory] if config else []
            assert not required, f"{kind} {name}: {required} have no default"


def test_settings_are_described_with_default_and_doc() -> None:
    found = {s.name: (s.default, s.doc) for s in describe(Example)}
    assert found["n"] == (1, "How many, on two lines.")
    assert found["table"] == ({}, "")
    assert list(found) == ["n", "temperature", "orders", "how", "stop", "table", "soft", "inner"]


@dataclass(frozen=True, kw_only=True)
class Longer(Example):
    """Settings that build on others."""

    temperature: float = 0.5
    """Cooler."""


def test_settings_that_build_on_others_keep_their_docs() -> None:
    found = {s.name: (s.default, s.doc) for s in describe(Longer)}
    assert found["n"] == (1, "How many, on two lines.")
    assert found["temperature"] == (0.5, "Cooler.")


# YAML and --set -------------------------------------------------------------------------------------------------------


@given(st.dictionaries(words, plain, max_size=4))
def test_what_is_written_as_yaml_is_read_back(table: dict[str, Any]) -> None:
    import yaml

    assert yaml.safe_load(write_yaml(table)) == table


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: [1, 2\nc: 3\n", r"bad\.yaml:3: not valid YAML"),
        (b"- a\n", r"a table of settings is wanted, not a list"),
        (b"a: \xff\n", r"not UTF-8 at byte 3"),
        (b"a: !!python/object:os.system {}\n", r"bad\.yaml:1: not valid YAML"),
        (
            b"judge: {judge: gold}\npairs: {}\njudge: {judge: length}\n",
            r"bad\.yaml:3: not valid YAML: 'judge' stands twice",
        ),
        (b"a: {{name}}\n", r"bad\.yaml:1: not valid YAML"),
        (b"a: {b: 1,\n b: 2}\n", r"bad\.yaml:2: not valid YAML: 'b' stands twice"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="directory"):
        read_yaml(tmp_path)
    (tmp_path / "empty.yaml").write_text("")
    assert read_yaml(tmp_path / "empty.yaml") == {}


def test_sets_lie_over_the_table_and_leave_it_as_it_was() -> None:
    table = {"judge": {"soft": True}, "n": 1}
    laid = apply_sets(table, ["judge.soft=false", "judge.temperature=0.5", "n=8", "stop=['a=b', c]", "deep.er.x=null"])
    assert laid == {
        "judge": {"soft": False, "temperature": 0.5}, "n": 8, "stop": ["a=b", "c"], "deep": {"er": {"x": None}},
    }  # fmt: skip
    assert table == {"judge": {"soft": True}, "n": 1}


@pytest.mark.parametrize(
    ("assignment", "words"),
    [("n", "key=value"), ("=1", "key=value"), ("n.x=1", "'n' is a value, not a table"), ("a=[1", "not valid YAML")],
)
def test_a_bad_set_is_named(assignment: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        apply_sets({"n": 1}, [assignment])
