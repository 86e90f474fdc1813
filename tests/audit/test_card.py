"""The card: the same to a program and to a reader, and no number without its interval."""

from __future__ import annotations

import re

import pytest

from rlhf_eval.audit.card import Finding, JudgeCard, from_json, headline, markdown, row, summary, text, to_json
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate, Usage


def finding(name: str, value: float, *, alarm: bool = False, unit: str = "share", **settings: object) -> Finding:
    estimate = Estimate(
        name=name, value=value, low=value - 0.05, high=value + 0.05, n=1234, method="wilson", settings=settings
    )
    return Finding(name=name, section="position", says="what it is", unit=unit, estimate=estimate, alarm=alarm)


CARD = JudgeCard(
    judge="pairwise/gpt#1",
    run="20260101T000000-audit-00000000",
    findings=(
        finding("accuracy.gold", 0.81),
        finding("flip_rate", 0.12, to_first=9, to_second=1),
        finding("first_slot", -0.0712, alarm=True, unit="difference"),
        finding("injection_obeyed", 0.2, attacks={"instruction": [3.0, 10.0], "empty": [0.0, 4.0]}),
        Finding(name="circles", section="noise", missing="no three answers met; --buy triples buys that"),
    ),
    settings={"sample": 50},
    prompts=1234,
    judgments=5678,
    bought=90,
    spent=Usage(prompt_tokens=1000, completion_tokens=10, cost=0.25),
)


def test_json_brings_the_card_back() -> None:
    assert from_json(to_json(CARD)) == CARD
    assert from_json(to_json(JudgeCard(judge="j"))) == JudgeCard(judge="j")


@pytest.mark.parametrize(
    ("raw", "words"), [(b"{}", "judge"), (b"[", "no judge card"), (b'{"judge":"j","version":99}', "version 99")]
)
def test_what_is_no_card_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        from_json(raw)


def test_the_summary_says_the_worst_first_hand() -> None:
    line = summary(CARD)
    assert "gold agrees with 81.0 % [76.0 %, 86.0 %] of its verdicts" in line
    assert "12.0 % flip with the order" in line
    assert "-7.1 points to the first place" in line
    assert "ALARM: first_slot" in line
    assert "(1,234 prompts, 5,678 judgments)" in line
    assert "\n" not in line
    assert headline(CARD) == f"pairwise/gpt#1: {line}"
    assert "no alarm" in summary(JudgeCard(judge="j", findings=(finding("flip_rate", 0.1, neutral=0.0),)))
    assert "nothing was measured that could alarm" in summary(JudgeCard(judge="j", findings=CARD.findings[-1:]))


@pytest.mark.parametrize("write", [markdown, text])
def test_every_number_has_its_interval_and_n_and_what_is_missing_is_listed(write: object) -> None:
    shown = write(CARD)  # type: ignore[operator]
    for measured in CARD.measured:
        name, value, interval, n, says = row(measured)
        line = next(line for line in shown.splitlines() if line.lstrip("| ").startswith(name))
        assert all(cell in line for cell in (value, interval, n, says))
    assert re.search(r"circles.*--buy triples", shown)
    assert "90 were asked for" in shown and "$0.2500" in shown
    assert "9 to the first place, 1 to the second" in shown
    assert "instruction 3/10" in shown and "empty 0/4" not in shown


def test_a_card_of_an_audit_that_was_stopped_says_so() -> None:
    stopped = JudgeCard(judge="j", stopped="stopped by --max-cost 1")
    assert "**Incomplete**: stopped by --max-cost 1" in markdown(stopped)
    assert "incomplete: stopped by --max-cost 1" in text(stopped)


def test_a_bar_in_a_sentence_does_not_break_the_table() -> None:
    odd = Finding(name="x", section="s", says="a | b", estimate=CARD.measured[0].estimate)
    line = next(line for line in markdown(JudgeCard(judge="j", findings=(odd,))).splitlines() if line.startswith("| x"))
    assert line.count("|") == 6


def test_what_was_not_measured_has_no_row() -> None:
    with pytest.raises(ValueError, match="was not measured"):
        row(CARD.unmeasured[0])
