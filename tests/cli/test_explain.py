"""What ``--help`` tells beyond the flags, and how a mistyped flag is refused."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_eval import registry
from rlhf_eval.cli.explain import TAKES, explain
from rlhf_eval.config import describe
from rlhf_eval.errors import UserError


@pytest.mark.parametrize("verb", TAKES)
def test_help_lists_every_plugin_and_every_setting_of_the_one_named(verb: str) -> None:
    taken = TAKES[verb]
    names = list(registry.PLUGINS[taken.kind])
    for named in names:
        first_words = [line.split()[0] for line in explain(taken, named) if line.startswith("  ") and line.split()]
        assert set(names) <= set(first_words)
        config = getattr(registry.load(taken.kind, named), "Config", None)
        assert {setting.name for setting in describe(config)} <= set(first_words) if config else True


def test_help_shows_defaults_words_and_tables_inside_tables(cli: Any) -> None:
    shown = " ".join(cli.done("train", "ppo", "--help").out.split())
    assert "--reward-judge" in shown
    assert "curiosity.eta Weight of the bonus" in shown
    assert (
        "schedule How the learning rates fall after the warm-up. One of constant, linear, cosine. (constant)" in shown
    )


def test_help_without_a_name_shows_the_default_plugin_if_there_is_one(cli: Any) -> None:
    assert "settings of the judge 'pairwise'" in cli.done("judge", "--help").out
    bare = cli.done("train", "--help").out
    assert "trainers (NAME --help shows the settings of one):" in bare
    assert "settings of the" not in bare


@pytest.mark.parametrize(
    ("verb", "flag", "spec", "options"),
    [
        ("generate", "--model", "tonight=openai:gpt@http://localhost:8000/v1", {"extra_body", "timeout", "max_n"}),
        ("doctor", "--model", "openai:", {"extra_body", "key_variable"}),
        ("judge", "--judge-model", "ray:vllm:PATH", {"replicas", "tensor_parallel_size", "seeded"}),
        ("train", "--model", "sandbox:policy", {"dtype", "device"}),
    ],
)
def test_help_shows_the_options_of_a_model(cli: Any, verb: str, flag: str, spec: str, options: set[str]) -> None:
    shown = cli.done(verb, flag, spec, "--help").out
    assert options <= {line.split()[0] for line in shown.splitlines() if line.strip()}
    refused = cli(verb, flag, "opnai:", "--help")
    assert refused.code == 2
    assert refused.err.count("\n") == 1


def test_an_unknown_plugin_is_one_line(cli: Any) -> None:
    with pytest.raises(UserError, match="Did you mean 'pairwise'"):
        list(explain(TAKES["judge"], "pairwis"))
    refused = cli("judge", "--judge", "pairwis", "--help")
    assert refused.code == 2
    assert refused.err.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["generate", "--modle", "x"], "rlhf-eval generate: unrecognized: --modle x (did you mean --model?)"),
        (["train"], "required: trainer; see rlhf-eval train --help"),
        (["generrate"], "invalid choice: 'generrate'"),
        (["runs", "frob"], "'ls', 'show', 'rm'"),
    ],
)
def test_a_mistyped_line_is_refused_in_one_line(cli: Any, typed: list[str], words: str) -> None:
    refused = cli(*typed)
    assert refused.code == 2
    assert words in refused.err
    assert refused.err.count("\n") == 1
