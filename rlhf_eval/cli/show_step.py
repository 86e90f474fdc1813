"""A finished step, shown by whoever knows its kind of result."""

from __future__ import annotations

from rlhf_eval.cli import show, show_sets, show_train
from rlhf_eval.verbs.corrupt import CorruptResult
from rlhf_eval.verbs.recipe import Step
from rlhf_eval.verbs.session import Session
from rlhf_eval.verbs.train import TrainResult


def step(found: Step, session: Session, *, as_json: bool) -> None:
    """One finished step of a recipe, or a verb that was typed."""
    if isinstance(found.result, TrainResult):
        show_train.trained(found.result, session, as_json=as_json, name=found.name)
    elif isinstance(found.result, CorruptResult):
        show_sets.corrupt(found.result, session, as_json=as_json)
    else:
        show.step(found, session, as_json=as_json)
