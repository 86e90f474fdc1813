"""Evaluating a judge: which questions it is asked about answers whose right order is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rlhf_eval.benchmarks.evidence import FLIPPED, GOLD
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, PreferencePair, Prompt, Run
from rlhf_eval.stages.judge import Call, balanced_sides, calls, matches
from rlhf_eval.verbs.flow import Bench
from rlhf_eval.verbs.session import Session


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labelled items of a run: their prompts, answers and labels."""

    prompts: list[Prompt]
    completions: dict[str, Completion]
    labels: list[Judgment]
    """One verdict of the judge ``gold`` for each item, and for each answer that has a label of its own."""

    def answers(self) -> dict[str, list[Completion]]:
        """Prompt to the answers of its items."""
        found: dict[str, list[Completion]] = {}
        for label in self.labels:
            own = found.setdefault(label.prompt_id, [])
            own += [self.completions[i] for i in label.completion_ids if self.completions[i] not in own]
        return found


def labelled(session: Session, source: Run, judge: str) -> Labelled:
    """The items that ``judge`` labelled in a run, or its preference pairs; raises UserError where it has neither."""
    lineage = session.lineage(source)
    given = [j for j in session.store.read(Judgment, run=lineage) if j.judge == judge]
    labels = [_as_gold(j.prompt_id, j.completion_ids, j.scores) for j in given if j.scores]
    if judge == GOLD and not given:
        # What `corrupt` made holds other labels of the same answers than the set that it was made from.
        pairs = session.store.read(PreferencePair, run=source.id) or session.store.read(PreferencePair, run=lineage)
        labels += [_of_pair(pair) for pair in pairs]
    once = list({label.id: label for label in labels}.values())
    if not once:
        raise UserError(
            f"run {source.id} holds no labels by '{judge}'; load a benchmark of judges or a preference file, "
            "or name the judge whose labels count with --set labels=human/NAME"
        )
    wanted = {label.prompt_id for label in once}
    prompts = [prompt for prompt in session.prompts(source) if prompt.id in wanted]
    kept = {prompt.id for prompt in prompts}
    completions = {c.id: c for c in session.store.read(Completion, run=lineage)}
    return Labelled(prompts, completions, [label for label in once if label.prompt_id in kept])


def questions(found: Labelled, bench: Bench, seed: int) -> Callable[[Prompt, Sequence[Completion]], list[Call]]:
    """The plan of what is asked about each prompt's items; raises UserError where the judge cannot take any of them."""
    arity = bench.instrument.arity
    wanted = [label for label in found.labels if len(label.completion_ids) > 1]
    if arity == 2 and not any(len(label.completion_ids) == 2 for label in wanted):
        raise UserError(
            f"none of these items has two answers, and '{bench.instrument.name}' compares two; "
            "use a judge that grades one answer or takes all"
        )
    items: dict[str, list[tuple[Completion, ...]]] = defaultdict(list)
    for label in wanted:
        items[label.prompt_id].append(tuple(found.completions[i] for i in label.completion_ids))
    swapped = balanced_sides((label.prompt_id for label in found.labels), seed)

    def plan(prompt: Prompt, completions: Sequence[Completion]) -> list[Call]:
        if arity == 1:
            return calls(matches(completions, 1, "all"), bench.design, swapped=False)
        own = [item for item in items[prompt.id] if arity == 0 or len(item) == 2]
        return calls(own, bench.design, swapped[prompt.id])

    return plan


def _of_pair(pair: PreferencePair) -> Judgment:
    told = {FLIPPED: pair.metadata[FLIPPED]} if pair.metadata.get(FLIPPED) is not None else {}
    return replace(_as_gold(pair.prompt_id, (pair.chosen_id, pair.rejected_id), (1.0, 0.0)), metadata=told)


def _as_gold(prompt_id: str, ids: tuple[str, ...], scores: tuple[float, ...]) -> Judgment:
    return Judgment.of(prompt_id=prompt_id, completion_ids=ids, judge=GOLD, scores=scores)
