"""Verify an answer by program against a known truth: 1 if it is right, 0 if it is wrong.

    rlhf-eval judge --judge verifier --set kind=gsm8k

What each ``kind`` looks for: ``exact`` the reference text; ``number`` the last number; ``gsm8k`` what follows ``A:`` or
``####`` (Cobbe et al., arXiv 2110.14168); ``boxed`` the last boxed expression; ``letter`` the chosen option; ``regex`` a
match of ``pattern``, whose first group, if it has one, must be the reference; ``json`` a JSON text that obeys the prompt's
``json_schema``; ``code`` a program that passes the prompt's ``tests``. An answer without the form asked for is wrong, not
a failed judgment: the judge did read it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from judges import answers
from judges.execution import run
from judges.schema import violation
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import Model
from rlhf_eval.records import Completion, Prompt, Verdict

ARITY = 1
NEEDS_MODEL = False

Kind = Literal["exact", "number", "gsm8k", "boxed", "letter", "regex", "json", "code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the verifier."""

    kind: Kind = "exact"
    """What is looked for in the answer."""
    tolerance: float = 0.0
    """Relative error that a number may have (kind number)."""
    pattern: str = ""
    """The regular expression (kind regex); its first group, if any, is compared with the reference."""
    letters: str = "ABCDEFGHIJ"
    """The options that there are (kind letter)."""
    allow_code: bool = False
    """Run programs that models wrote on this machine (kind code); limited in time and memory, but no jail."""
    seconds: float = 10.0
    """Longest run of a program."""
    megabytes: int = 1024
    """Most memory of a program."""

    def __post_init__(self) -> None:
        if self.kind == "code" and not self.allow_code:
            raise ValueError(
                "kind 'code' runs programs that models wrote on this machine; set allow_code=true if you mean that"
            )
        if self.kind == "regex":
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern '{self.pattern}' is no regular expression: {error}") from error
            if not self.pattern:
                raise ValueError("kind 'regex' needs a pattern")
        if self.tolerance < 0 or self.seconds <= 0 or self.megabytes < 64:
            raise ValueError("tolerance must be at least 0, seconds positive, megabytes at least 64")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found in an answer, and whether it is right."""

    right: bool
    found: str | None
    """The answer as it was read; None where it has not the form asked for."""
    why: str = ""


def verify(prompt: Prompt, text: str, config: Config) -> Finding:
    """Check ``text`` as an answer to ``prompt``; every kind but ``code``.

    Raises UserError where the prompt lacks the truth that the kind needs.
    """
    if config.kind == "json":
        return _json(text, _from_metadata(prompt, "json_schema", config.kind))
    if config.kind == "regex":
        return _regex(text, prompt.reference, config.pattern)
    truth = _reference(prompt, config.kind)
    if config.kind == "letter":
        found = answers.last_letter(text, config.letters)
        return Finding(found is not None and found == answers.plain_text(truth).strip("()[]. ").upper(), found)
    if config.kind == "number":
        found = answers.last_number(text)
        wanted = answers.last_number(truth)
        if wanted is None:
            raise UserError(f"prompt {prompt.id}: the reference '{truth[:60]}' holds no number to compare with")
        return Finding(found is not None and answers.same_number(found, wanted, config.tolerance), found)
    read, same = READERS[config.kind]
    found = read(text)
    return Finding(found is not None and same(found, read(truth) or truth.strip()), found)


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model | None, config: Config) -> Verdict:
    """Verify one completion; its score is 1 or 0."""
    text = completions[0].text
    finding = await _code(prompt, text, config) if config.kind == "code" else verify(prompt, text, config)
    metadata = {"found": finding.found[:200] if finding.found is not None else None, "why": finding.why}
    return Verdict(scores=(float(finding.right),), metadata=metadata)


def program_in(text: str, entry_point: str = "") -> str:
    """The program in an answer: its last fenced block (that defines ``entry_point``, if given), else the whole text."""
    blocks = [m.group(1) for m in re.finditer(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```", text, re.MULTILINE | re.DOTALL)]
    defining = [
        b for b in blocks if re.search(rf"^\s*(?:async\s+)?(?:def|class)\s+{re.escape(entry_point)}\b", b, re.M)
    ]
    return (defining if entry_point and defining else blocks or [text])[-1]


def with_tests(program: str, tests: Any, entry_point: str = "") -> str:
    """``program`` followed by its tests, source text or a list of statements; a ``check`` that they define is called."""
    lines = tests if isinstance(tests, str) else "\n".join(str(test) for test in tests)
    call = f"\ncheck({entry_point})" if entry_point and re.search(r"^def check\(", lines, re.MULTILINE) else ""
    return f"{program}\n\n{lines}{call}\n"


async def _code(prompt: Prompt, text: str, config: Config) -> Finding:
    entry_point = str(prompt.metadata.get("entry_point", ""))
    tests = _from_metadata(prompt, "tests", config.kind)
    program = program_in(text, entry_point)
    end = await run(with_tests(program, tests, entry_point), seconds=config.seconds, megabytes=config.megabytes)
    last_line = end.output.strip().rsplit("\n", 1)[-1]
    return Finding(end.status == "passed", program, f"{end.status}: {last_line}" if end.status != "passed" else "")


def _json(text: str, schema: Any) -> Finding:
    bare = text.strip()
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*?)\n?```", bare, re.DOTALL | re.IGNORECASE)
    try:
        value = json.loads(fenced.group(1) if fenced else bare)
    except (ValueError, RecursionError) as error:
        return Finding(False, None, f"not JSON: {error}")
    wrong = violation(value, schema)
    return Finding(wrong is None, fenced.group(1) if fenced else bare, wrong or "")


def _regex(text: str, reference: str | None, pattern: str) -> Finding:
    last = None
    for match in re.finditer(pattern, text):
        last = match
    if last is None:
        return Finding(False, None)
    if not last.re.groups:
        return Finding(True, last.group())
    if reference is None:
        raise UserError("the pattern has a group, which is compared with the reference; this prompt has none")
    return Finding((last.group(1) or "").strip() == reference.strip(), last.group(1))


def _reference(prompt: Prompt, kind: str) -> str:
    if prompt.reference is None:
        raise UserError(f"prompt {prompt.id} has no reference, which the verifier needs (kind {kind})")
    return prompt.reference


def _from_metadata(prompt: Prompt, key: str, kind: str) -> Any:
    if key not in prompt.metadata:
        raise UserError(f"prompt {prompt.id} has no '{key}' in its metadata, which the verifier needs (kind {kind})")
    return prompt.metadata[key]


READERS: Mapping[str, tuple[Callable[[str], str | None], Callable[[str, str], bool]]] = {
    "exact": (answers.plain_text, str.__eq__),
    "gsm8k": (answers.gsm8k_answer, str.__eq__),
    "boxed": (answers.last_boxed, answers.same_expression),
}
"""Kind to how an answer is read and how it is compared with the reference, which is read the same way."""
