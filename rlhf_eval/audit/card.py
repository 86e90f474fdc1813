"""The judge card: what an audit found, to be read by people (Markdown, plain text) and programs (JSON).

headline(card)     one line, shown beside every result that used the judge
markdown(card)     the whole card
from_json(to_json(card)) == card
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate, Usage

VERSION = 1
"""Of the JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One question about a judge: its answer with an interval, or what it would take to have one."""

    name: str
    section: str
    says: str = ""
    """What the number is, in one sentence."""
    unit: str = "share"
    estimate: Estimate | None = None
    missing: str = ""
    """Why there is no number, and what brings it."""
    alarm: bool = False
    """Whether this is surely a fault, counting all that was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeCard:
    """All that is known about a judge."""

    judge: str
    run: str = ""
    """The run of the audit; empty where it is not stored."""
    findings: tuple[Finding, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    prompts: int = 0
    judgments: int = 0
    bought: int = 0
    """Judgments that this audit asked for."""
    spent: Usage = Usage()
    stopped: str = ""
    """Why it ended before everything was bought; empty where it did not."""
    version: int = VERSION

    def find(self, name: str) -> Finding | None:
        """The finding of a name; None where the audit has none such."""
        return next((finding for finding in self.findings if finding.name == name), None)

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """What is surely wrong with it."""
        return tuple(finding for finding in self.findings if finding.alarm)

    @property
    def measured(self) -> tuple[Finding, ...]:
        """What has a number."""
        return tuple(finding for finding in self.findings if finding.estimate is not None)

    @property
    def unmeasured(self) -> tuple[Finding, ...]:
        """What has none."""
        return tuple(finding for finding in self.findings if finding.estimate is None)


def to_json(card: JudgeCard) -> bytes:
    """The card as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"


def from_json(raw: bytes) -> JudgeCard:
    """The card in JSON; raises UserError where it is none, or of a newer version."""
    try:
        card = msgspec.json.decode(raw, type=JudgeCard)
    except msgspec.MsgspecError as error:
        raise UserError(f"this is no judge card: {error}") from error
    if card.version > VERSION:
        raise UserError(f"this judge card has version {card.version}; this rlhf-eval reads up to {VERSION}")
    return card


def headline(card: JudgeCard) -> str:
    """The judge's name and the summary."""
    return f"{card.judge}: {summary(card)}"


def summary(card: JudgeCard) -> str:
    """One line: right how often, flips, lean, unreadable, alarms."""
    parts = []
    accuracy = next((f for f in card.measured if f.name.startswith("accuracy.")), None)
    if accuracy is not None and accuracy.estimate is not None:
        parts.append(f"{accuracy.name.partition('.')[2]} agrees with {_value(accuracy, interval=True)} of its verdicts")
    for name, words in (
        ("flip_rate", "{} flip with the order"),
        ("first_slot", "{} to the first place"),
        ("padded_wins", "padding wins {}"),
        ("unreadable", "{} unreadable"),
    ):
        finding = card.find(name)
        if finding is not None and finding.estimate is not None:
            parts.append(words.format(_value(finding)))
    alarms = ", ".join(finding.name for finding in card.alarms)
    asked = any(f.estimate is not None and "neutral" in f.estimate.settings for f in card.measured)
    parts.append(f"ALARM: {alarms}" if alarms else "no alarm" if asked else "nothing was measured that could alarm")
    return f"{'; '.join(parts)} ({card.prompts:,} prompts, {card.judgments:,} judgments)"


def markdown(card: JudgeCard) -> str:
    """The card as Markdown."""
    lines = [f"# Judge card: {card.judge}", "", headline(card), ""]
    if card.stopped:
        lines += [f"**Incomplete**: {card.stopped}", ""]
    lines += [_spent(card), ""]
    for section, findings in _sections(card.measured):
        lines += [f"## {section.capitalize()}", "", "| measure | value | 95 % interval | n | what it is |"]
        lines += ["|---|---:|---:|---:|---|"]
        lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row(finding))} |" for finding in findings]
        lines.append("")
    if card.unmeasured:
        lines += ["## Not measured", ""]
        lines += [f"- **{finding.name}** ({finding.section}): {finding.missing}" for finding in card.unmeasured]
        lines.append("")
    return "\n".join(lines)


def text(card: JudgeCard) -> str:
    """The card for a terminal."""
    lines = [headline(card)]
    if card.stopped:
        lines.append(f"incomplete: {card.stopped}")
    lines.append(_spent(card))
    rows = [row(finding) for finding in card.measured]
    widths = [max((len(r[i]) for r in rows), default=0) for i in range(4)]
    for section, findings in _sections(card.measured):
        lines += ["", section]
        for finding in findings:
            cells = row(finding)
            numbers = f"{cells[0].ljust(widths[0])}  {cells[1].rjust(widths[1])}  {cells[2].ljust(widths[2])}"
            lines.append(f"  {numbers}  n={cells[3].ljust(widths[3])}  {cells[4]}")
    if card.unmeasured:
        lines += ["", "not measured"]
        lines += [f"  {finding.name}: {finding.missing}" for finding in card.unmeasured]
    return "\n".join(lines)


def row(finding: Finding) -> tuple[str, str, str, str, str]:
    """Name, value, interval, n and meaning of a measured finding."""
    estimate = finding.estimate
    if estimate is None:
        raise ValueError(f"{finding.name} was not measured")
    mark = "ALARM: " if finding.alarm else ""
    low, high = (_number(bound, finding.unit) for bound in (estimate.low, estimate.high))
    extra = _extra(estimate.settings)
    return (
        finding.name,
        _number(estimate.value, finding.unit),
        f"[{low}, {high}]",
        f"{estimate.n:,}",
        f"{mark}{finding.says}{f' ({extra})' if extra else ''}",
    )


def _extra(settings: Mapping[str, Any]) -> str:
    """Counts that belong to a number."""
    parts = []
    if "to_first" in settings:
        parts.append(f"{settings['to_first']} to the first place, {settings['to_second']} to the second")
    if "attacks" in settings:
        worked = {name: tally for name, tally in settings["attacks"].items() if tally[0]}
        parts.append(", ".join(f"{name} {won:g}/{tried:g}" for name, (won, tried) in worked.items()) or "none worked")
    if settings.get("kind"):
        parts.append(str(settings["kind"]))
    return "; ".join(parts)


def _sections(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    names = dict.fromkeys(finding.section for finding in findings)
    return [(name, [finding for finding in findings if finding.section == name]) for name in names]


def _value(finding: Finding, *, interval: bool = False) -> str:
    estimate = finding.estimate
    if estimate is None:
        raise ValueError(f"{finding.name} was not measured")
    value = _number(estimate.value, finding.unit)
    bounds = f" [{_number(estimate.low, finding.unit)}, {_number(estimate.high, finding.unit)}]" if interval else ""
    return value + bounds


def _number(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "difference":
        return f"{100 * value:+.1f} points"
    if unit == "dollars":
        return f"${value:.3g}"
    if unit == "log-odds":
        return f"{value:+.3f}"
    return f"{value:,.0f}" if unit == "tokens" or abs(value) >= 100 else f"{value:#.3g}"


def _spent(card: JudgeCard) -> str:
    tokens = card.spent.prompt_tokens + card.spent.completion_tokens
    return (
        f"Made from {card.judgments:,} judgments on {card.prompts:,} prompts, of which {card.bought:,} were asked for by "
        f"this audit ({tokens:,} tokens, ${card.spent.cost:.4f})."
    )
