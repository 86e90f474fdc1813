"""The model card of a trained checkpoint: where it comes from, how it was trained, what it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_eval.config import write_yaml
from rlhf_eval.records import Estimate
from rlhf_eval.stages.training import Metrics, Plan


def checkpoint_card(
    trainer: str,
    run: str,
    about: Mapping[str, Any],
    settings: Mapping[str, Any],
    plan: Plan,
    metrics: Metrics,
    estimates: Sequence[Estimate] = (),
) -> str:
    """The card as Markdown, with the header that the hub reads."""
    head = write_yaml({"library_name": "transformers", "tags": ["rlhf-eval", trainer], "base_model": about["base"]})
    lineage = [f"- base: `{about['base']}`", *(f"- {role}: `{ref}`" for role, ref in about.get("data", {}).items())]
    lineage += [f"- made from run `{identity}`" for identity in about.get("runs", ())]
    lineage += [f"- judge behind the data: `{judge}`" for judge in about.get("judges", ())]
    if "reward" in about:
        lineage.append(f"- reward: judge `{about['reward']}`")
    counts = ", ".join(f"{count:,} {name}" for name, count in about.get("counts", {}).items())
    notes = "".join(f"- {note}\n" for note in dict.fromkeys((*plan.notes, *metrics.notes)))
    numbers = "\n".join(f"| {name} | {value:.6g} |" for name, value in sorted(metrics.final.items()))
    measured = "".join(f"| {e.name} | {e.value:.4g} | {e.low:.4g} to {e.high:.4g} | {e.n:,} |\n" for e in estimates)
    if estimates:
        judge = estimates[0].settings["judge"]
        head_line = "| | value | 95% interval | prompts |\n|---|---|---|---|\n"
        measured = f"## On held-out pairs\n\n{head_line}{measured}\nRewards by `{judge}`.\n\n"
    told = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
    subject = f"reward_model --judge reward_model --judge-model run:{run}" if estimates else f"--model run:{run}"
    measures = f"rlhf-eval evaluate {subject}"
    return f"""---
{head}---

# {trainer}, run {run}

Trained by rlhf-eval: {metrics.steps:,} steps, {metrics.rows:,} rows, {metrics.tokens:,} tokens, {metrics.seconds:,.0f} s.

## Lineage

{chr(10).join(lineage)}

Data: {counts}.

{notes}
{measured}## Last values

| | |
|---|---|
{numbers}

These are of single batches in training, without intervals; `{measures}` measures the checkpoint.

## Settings

| | |
|---|---|
{told}
"""
