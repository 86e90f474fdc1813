"""``lab`` from the command line: the list with its times, a study of one's own, and what is refused."""

from __future__ import annotations

from typing import Any

from toy_study import TOY

from rlhf_eval.verbs.lab import studies


def test_the_list_names_every_study_with_its_question_and_its_time(cli: Any) -> None:
    shown = cli.done("lab").out
    assert all(f"\n{name}: " in shown for name in studies())
    assert f"with --quick {len(studies())} studies: about" in shown
    assert {event["name"] for event in cli.done("lab", "--json").events} == set(studies())


def test_a_study_of_ones_own_says_its_time_before_and_its_numbers_after(cli: Any) -> None:
    (cli.home / "toy.yaml").write_text(TOY)
    ended = cli.done("lab", "toy.yaml", "--quick")
    assert "1 study: about 0.1 min on two cores" in ended.err
    assert "minus chance" in ended.out
    assert "figure.svg" in ended.out
    again = cli.done("lab", "toy.yaml", "--quick", "--json").events
    assert {event["settings"]["arm"] for event in again} == {"chance", "gold"}


def test_what_cannot_be_meant_is_one_line(cli: Any) -> None:
    assert "no study 'overoptimisation'" in cli("lab", "overoptimisation").err
    assert cli("lab", "choice", "--all").code == 2
    assert "at least 2" in cli("lab", "choice", "--seeds", "1").err
