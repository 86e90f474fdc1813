"""The manifest of an evaluation: everything that its numbers depend on, by content, in the run's own record.

Two results may be held beside each other where their manifests agree in what should not differ: the prompts' hash, the
judge's templates, the sampling, the token budgets. ``rlhf-eval runs show RUN`` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_eval.records import Prompt, fingerprint
from rlhf_eval.verbs.arms import Arm
from rlhf_eval.verbs.flow import Bench, open_writer
from rlhf_eval.verbs.session import Session


def manifest(session: Session, prompts: Sequence[Prompt], arms: Sequence[Arm], bench: Bench) -> dict[str, Any]:
    """Prompts, models, sampling, token budgets and judge of an evaluation; what a stored side was drawn with, too."""
    sampling = {arm.name: _sampling(session, arm) for arm in arms}
    return {
        "prompts": {"count": len(prompts), "hash": fingerprint(sorted(prompt.id for prompt in prompts))},
        "models": {arm.name: arm.identity for arm in arms},
        "sampling": sampling,
        "token_budgets": {
            **{name: drawn.get("max_tokens") for name, drawn in sampling.items()},
            "judge": bench.settings.get("max_tokens"),
        },
        # The name ends in a hash of the judge's settings, templates, version and models.
        "judge": bench.instrument.name,
    }


def unequal_budgets(made: Mapping[str, Any]) -> str:
    """What to say where models were given different token budgets, which is the commonest unfairness; empty if not."""
    budgets = {name: size for name, size in made["token_budgets"].items() if name != "judge" and size is not None}
    if len(set(budgets.values())) < 2:
        return ""
    return "token budgets differ: " + ", ".join(f"{name} {size}" for name, size in budgets.items())


def _sampling(session: Session, arm: Arm) -> Mapping[str, Any]:
    """The resolved settings of the generator that answers, or of the run that did."""
    if arm.generation is None:
        run = session.store.find(arm.stored)
        drawn = next(
            (session.store.find(i).config for i in session.lineage(run) if _verb(session, i) == "generate"), {}
        )
        return {"run": arm.stored, **{k: v for k, v in drawn.items() if k not in ("model", "names")}}
    _, _, resolved = open_writer(session, arm.generation)
    return {name: value for name, value in resolved.items() if name not in ("model", "names")}


def _verb(session: Session, identity: str) -> str:
    return session.store.find(identity).verb
