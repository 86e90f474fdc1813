"""Which questions an evaluation asks its judge: models against a baseline, answers one by one, or labelled items."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_eval.benchmarks.evidence import Shape
from rlhf_eval.records import Completion, Prompt
from rlhf_eval.stages.flow import Judging, Plan
from rlhf_eval.stages.judge import Call, Design, balanced_sides, calls, matches
from rlhf_eval.verbs.flow import Bench, Ledger, open_judge
from rlhf_eval.verbs.labelled import Labelled, questions
from rlhf_eval.verbs.session import Session


def judging_of(
    shape: Shape, bench: Bench, baseline: str, run: Ledger, prompts: Sequence[Prompt], seed: int, items: Labelled | None
) -> Judging:
    """The judging of a benchmark of ``shape``; ``items`` are there where a judge is measured."""
    plan: Plan
    if items:
        plan = questions(items, bench, seed)
    elif shape == "answers":
        plan = _one_by_one(bench)
    else:
        plan = _against_baseline(bench, baseline, prompts, seed)
    return Judging(instrument=bench.instrument, plan=plan, sink=run, known=run.ids("judgments"))


def _one_by_one(bench: Bench) -> Plan:
    def plan(prompt: Prompt, completions: Sequence[Completion]) -> list[Call]:
        return calls(matches(completions, 1, "all"), bench.design, swapped=False)

    return plan


def _against_baseline(bench: Bench, baseline: str, prompts: Sequence[Prompt], seed: int) -> Plan:
    swapped = balanced_sides((prompt.id for prompt in prompts), seed)

    def plan(prompt: Prompt, completions: Sequence[Completion]) -> list[Call]:
        rivals = [c for c in completions if c.model == baseline]
        laid: list[Call] = []
        for name in dict.fromkeys(c.model for c in completions if c.model != baseline):
            mine = [c for c in completions if c.model == name]
            laid += calls(zip(mine, rivals, strict=False), bench.design, swapped[prompt.id])
        return laid

    return plan


def check_of(session: Session, name: str, run: Ledger) -> Judging:
    """A second judge, which looks at every answer beside the first."""
    _, bench = open_judge(session, {"judge": name})

    def plan(prompt: Prompt, completions: Sequence[Completion]) -> list[Call]:
        return calls(matches(completions, bench.instrument.arity, "all"), Design(), swapped=False)

    return Judging(instrument=bench.instrument, plan=plan, sink=run, known=run.ids("judgments"))
