"""``demo``: the whole loop in the sandbox, and at its end what the judge says of every model beside what is true."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from rlhf_eval.cli.show import table
from rlhf_eval.cli.show_step import step as show_step
from rlhf_eval.records import Estimate
from rlhf_eval.verbs.evaluate import EvaluateResult
from rlhf_eval.verbs.recipe import Step, find_recipe, read_recipe, run_recipe, with_sets
from rlhf_eval.verbs.session import Session
from rlhf_eval.verbs.train import TrainResult

HEAD = ("  model", "judge: win rate", "95 %", "gold: gained", "95 %", "tokens an answer", "training")


async def demo(session: Session, options: argparse.Namespace) -> None:
    """Run the demo's recipe, or what is left of it, and rank what it made."""
    steps: list[Step] = []
    async for step in run_recipe(session, with_sets(read_recipe(find_recipe("demo")), options.set)):
        show_step(step, session, as_json=options.json)
        steps.append(step)
    measured = [step.result for step in steps if isinstance(step.result, EvaluateResult)]
    if options.json or session.options.dry_run or not measured:
        return
    print(f"\n{_ranking(measured[-1].estimates, _trainings(steps))}")
    print(f"\n  next:    rlhf-eval dashboard{session.options.store_flag}")


def _trainings(steps: Sequence[Step]) -> dict[str, str]:
    """Name of a training in the recipe to what it took."""
    return {
        step.name.partition(".")[2]: f"{step.result.metrics.steps} steps, {step.result.metrics.seconds:.0f} s"
        for step in steps
        if isinstance(step.result, TrainResult) and step.result.metrics
    }


def _ranking(estimates: Sequence[Estimate], trainings: Mapping[str, str]) -> str:
    """Models by the judge's opinion, with the gold reward that they gained over the baseline on the same prompts."""
    found = {(e.name, e.settings.get("model")): e for e in estimates}
    rated = sorted((e for e in estimates if e.name == "win_rate"), key=lambda e: -e.value)
    rows = []
    for e in rated:
        model = str(e.settings["model"])
        gained, tokens = found.get(("gold: difference", model)), found.get((f"answer_tokens: {model}", model))
        rows.append(
            [
                f"  {model}",
                f"{100 * e.value:.1f} %",
                f"{100 * e.low:.1f} to {100 * e.high:.1f}",
                f"{gained.value:+.3f}" if gained else "",
                f"{gained.low:+.3f} to {gained.high:+.3f}" if gained else "",
                f"{tokens.value:.1f}" if tokens else "",
                trainings.get(model, "none"),
            ]
        )
    against = f"against {rated[0].settings['baseline']}, n = {rated[0].n} prompts that nothing was trained on"
    return f"what the judge says and what is true, {against}\n{table(HEAD, rows)}"
