"""lm-evaluation-harness: the samples that it logs, one row a document and filter (EleutherAI, 0.4).

    <output>/<model>/samples_<task>_<date>.jsonl     {doc_id, doc, target, arguments, resps, filtered_resps, filter,
                                                      metrics: [name, ...], <name>: value, ...}

An output folder, one model's folder, or one file, as ``lm_eval --log_samples --output_path`` writes them. An answer is what
the model wrote, or where it had to choose, the likeliest choice. Each metric of each filter is a judge
``lm_eval/<task>/<filter>/<metric>`` that grades it; a metric that is no number for one document (a list, a pair for a
corpus score) is left out with a warning.

    rlhf-eval load lm_eval path/to/output
    rlhf-eval evaluate lm_eval --judgments latest
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row
from rlhf_eval.interop.loaded import Intake, Loaded
from rlhf_eval.records import Completion, Prompt, Usage

SOURCE = "lm_eval"
_FILE = re.compile(r"samples_(?P<task>.+)_\d{4}-\d\d-\d\dT[\d.:-]+\.jsonl")
_NUMBER = re.compile(r"-?(?:\d+\.?\d*(?:e-?\d+)?|inf)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is known of the requests behind the samples, where they were made here."""

    errors: dict[int, str] = field(default_factory=dict)
    """Document to why it has no answer."""
    usage: dict[int, Usage] = field(default_factory=dict)
    """Document to what its answers used."""
    finish: dict[int, str] = field(default_factory=dict)
    """Document to how its first answer ended: stop, length."""
    origin: str = ""
    """Identity of the model that answered."""


def detect(path: Path) -> bool:
    """Whether there are files named ``samples_<task>_<date>.jsonl``."""
    return bool(_files(path))


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Prompts, answers and metric values; a broken row becomes a warning, or a UserError with ``strict``."""
    intake = Intake(path, strict=strict)
    files = _files(path)
    if not files:
        raise UserError(f"{path}: no samples_TASK_DATE.jsonl here; run lm_eval with --log_samples --output_path")
    for file in files:
        match = _FILE.fullmatch(file.name)
        task = match["task"] if match else file.stem
        add(intake, task, file.parent.name, intake.rows(file), Asked())
    return intake.loaded()


def add(intake: Intake, task: str, model: str, rows: Iterable[Row], asked: Asked) -> None:
    """Take the samples of one model and task into ``intake``."""
    skipped: dict[str, int] = {}
    for row in rows:
        with intake.tolerate():
            answer = _answer(intake, row, task, model, asked)
            for metric in row.items("metrics"):
                judge = f"{SOURCE}/{task}/{row.label('filter', 'none')}/{metric}"
                value = row.values.get(metric)
                if answer.error is not None:
                    intake.judgment(answer, judge=judge, error=answer.error)
                elif isinstance(value, bool | int | float):
                    intake.judgment(answer, judge=judge, scores=(float(value),))
                else:
                    skipped[judge] = skipped.get(judge, 0) + 1
    for judge, count in skipped.items():
        intake.warn(f"{judge}: {count} values are no single number for a document; they are left out")


def _files(path: Path) -> list[Path]:
    files = [path] if path.is_file() else sorted(path.rglob("samples_*.jsonl"))
    return [file for file in files if _FILE.fullmatch(file.name)]


def _answer(intake: Intake, row: Row, task: str, model: str, asked: Asked) -> Completion:
    number = int(row.number("doc_id"))
    arguments = _arguments(row)
    key = f"{task}/{number}"
    metadata = {"target": str(row.values.get("target", ""))}
    prompt = intake.prompt(
        Prompt.of(str(arguments[0][0]) or " (no context)", category=task, source=SOURCE, key=key, metadata=metadata)
    )
    choosing = len(arguments[0]) > 1 and isinstance(arguments[0][1], str)
    texts, told = _chosen(row, arguments) if choosing else (_written(row), {})
    error = asked.errors.get(number)
    made = [
        intake.completion(
            Completion.of(
                prompt_id=prompt.id, model=model, text="" if error else text, sample=sample, generator=SOURCE,
                origin=asked.origin or text, finish_reason=asked.finish.get(number, ""), error=error,
                usage=asked.usage.get(number) if sample == 0 else None, metadata=told,
            )
        )
        for sample, text in enumerate(texts)
    ]  # fmt: skip
    return made[0]


def _arguments(row: Row) -> list[Sequence[Any]]:
    """The arguments of each request, as they are in memory or as they are logged."""
    given = row.get("arguments")
    if isinstance(given, Mapping):
        given = [list(one.values()) if isinstance(one, Mapping) else one for one in given.values()]
    if not isinstance(given, list) or not given or not all(isinstance(one, list | tuple) and one for one in given):
        raise row.wrong("'arguments' must hold the arguments of at least one request")
    return list(given)


def _written(row: Row) -> list[str]:
    """The answers to the one request of a document."""
    answers = row.items("resps")
    if not answers or not isinstance(answers[0], list) or not all(isinstance(text, str) for text in answers[0]):
        raise row.wrong("'resps' must be a list with a list of texts")
    return list(answers[0])


def _chosen(row: Row, arguments: Sequence[Sequence[Any]]) -> tuple[list[str], Mapping[str, Any]]:
    """The likeliest continuation, and the log-probability of each."""
    likelihoods = [_likelihood(row, response) for response in row.items("resps")]
    if len(likelihoods) != len(arguments):
        raise row.wrong(f"{len(likelihoods)} responses for {len(arguments)} requests")
    choices = [str(one[1]) for one in arguments]
    return [choices[int(np.argmax(likelihoods))]], {"choices": choices, "logprobs": likelihoods}


def _likelihood(row: Row, response: Any) -> float:
    """The number in ``[(-1.5, False)]``, also where it was logged as text."""
    while isinstance(response, list | tuple) and response:
        response = response[0]
    found = _NUMBER.search(str(response))
    if found is None:
        raise row.wrong(f"'resps' holds {response!r}, which is no log-likelihood")
    return float(found[0])
