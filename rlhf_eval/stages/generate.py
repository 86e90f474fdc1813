"""The verb ``generate``: prompts become completions, or new prompts.

The plugin asks; this stage owns the rest: which prompts are already done, failures, usage, and one outcome a prompt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlhf_eval.errors import RequestFailed
from rlhf_eval.models.base import Model
from rlhf_eval.models.door import metered
from rlhf_eval.records import NOTHING, Completion, Outcome, Prompt
from rlhf_eval.stages.drive import Sink

Generate = Callable[[Sequence[Prompt], Sequence[Model], Any], AsyncIterator[Completion | Prompt]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A generator with its settings and models: what writes the answers."""

    generate: Generate
    config: Any
    models: Sequence[Model]


async def complete(prompt: Prompt, writer: Writer, sink: Sink, known: set[str]) -> tuple[list[Completion], Outcome]:
    """Get the completions of one prompt and store the new ones.

    A failed request ends the prompt's work with the server's words as the reason; what came before it is kept.
    """
    completions: list[Completion] = []
    records = 0
    try:
        with metered() as meter:
            before = meter.usage
            async for record in writer.generate((prompt,), writer.models, writer.config):
                records += 1
                if isinstance(record, Prompt):
                    _store(sink, "prompts", record, known)
                    continue
                # The tokens of one request that drew several samples stand on its first sample.
                paid = NOTHING if meter.usage is before else meter.usage - before
                before = meter.usage
                completion = record if record.usage == paid else replace(record, usage=paid)
                completions.append(completion)
                _store(sink, "completions", completion, known)
    except RequestFailed as failure:
        return completions, Outcome.of(prompt.id, "generate", "failed", reason=str(failure), records=records)
    return completions, Outcome.of(prompt.id, "generate", "done", reason=_flaws(completions), records=records)


def _flaws(completions: Sequence[Completion]) -> str:
    """What is wrong with answers that did come, for the account; nothing, as a rule."""
    flaws = {
        "cut off at max_tokens": any(c.finish_reason == "length" for c in completions),
        "stopped by a content filter": any(c.finish_reason == "content_filter" for c in completions),
        "empty": any(not c.text.strip() for c in completions),
    }
    return ", ".join(f"with answers {name}" for name, seen in flaws.items() if seen)


def _store(sink: Sink, table: str, record: Completion | Prompt, known: set[str]) -> None:
    if record.id not in known:
        sink.append(table, record)
