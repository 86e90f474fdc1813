"""``lab``: studies over the ordinary verbs, each with a control arm, seeds and intervals.

A study (``stages.study``) is a recipe and what each of its arms changes in it. Nothing here is a pipeline of its own: an
arm is a set of settings of verbs and plugins that anybody can use, what two arms share is computed once, and an
interrupted study goes on where it was.

    rlhf-eval lab                      the studies, with their questions
    rlhf-eval lab r3m --quick          one of them, small
    rlhf-eval lab my_study.yaml        your own
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib.resources import files
from math import sqrt
from pathlib import Path

from rlhf_eval.config import build, read_yaml
from rlhf_eval.errors import UserError, nearest
from rlhf_eval.records import Estimate, Run, Usage, fingerprint
from rlhf_eval.stages.study import FIGURE, Observed, Study, compared, curved, drawn, fitted, overlaid, written
from rlhf_eval.stats.best_of_n import best_of_n_kl
from rlhf_eval.verbs.recipe import Step, check_tables, run_recipe, with_sets
from rlhf_eval.verbs.session import Session

_SIZE = re.compile(r"\d+$")


@dataclass(frozen=True, slots=True)
class LabResult:
    """The run of a study: its numbers, and where its figure and page lie."""

    study: Study
    run: Run
    estimates: list[Estimate]
    figure: Path
    page: Path


def studies() -> dict[str, Path]:
    """The studies that ship with the package, by name."""
    found = files("rlhf_eval.recipes").joinpath("lab").iterdir()
    return {f.name.removesuffix(".yaml"): Path(str(f)) for f in sorted(found, key=str) if f.name.endswith(".yaml")}


def read_study(name: str) -> Study:
    """The study of a name or a file; raises UserError where there is none, or where it does not hold together."""
    known = studies()
    path = known.get(name, Path(name))
    if not path.is_file():
        raise UserError(f"there is no study '{name}': neither a file nor one that ships.{nearest(name, known)}")
    study = build(Study, read_yaml(path), where=str(path))
    for arm, over in study.arms.items():
        check_tables(overlaid(study.line, over), f"{path}: arm '{arm}'")
    return study


async def lab(
    session: Session, name: str, *, quick: bool = False, seeds: int | None = None, sets: Sequence[str] = ()
) -> LabResult:
    """Run a study, or what is left of it; ``sets`` are laid over every arm's tables.

    Raises UserError where a measure names a number that no step has made.
    """
    study = read_study(name)
    if quick:
        study = replace(study, line=overlaid(study.line, study.quick.line))
    if sets:
        arms = {arm: dict(with_sets(overlaid(study.line, over), sets)) for arm, over in study.arms.items()}
        study = replace(study, line={}, arms=arms)
    count = seeds if seeds is not None else study.quick.seeds if quick else study.seeds
    if count < 2:
        raise UserError(f"--seeds is {count}; a study needs at least 2, one has no interval")
    observed = [found async for found in _observe(session, study, count)]
    settings = {
        "study": study.title,
        "recipe": Path(name).stem,
        "seeds": count,
        "quick": quick,
        "content": fingerprint(
            study.line, study.arms, study.control, study.against, study.measures, study.curves, study.gains, study.fits
        ),
    }
    inputs = {f"{o.arm}, seed {o.seed}": o.run for o in observed}
    estimates = [*compared(study, observed), *curved(study, observed)]
    with session.begin("lab", settings, inputs, free=True) as writer:
        if writer.run.status != "done":
            for made in estimates:
                writer.append("estimates", made)
            writer.finish("done", {"arms": len(study.arms), "seeds": count}, Usage())
        folder = session.store.folder(writer.run.id)
        figure, page = folder / FIGURE, folder / "page.md"
        figure.write_text(drawn(study, estimates), encoding="utf-8")
        page.write_text(written(study, estimates), encoding="utf-8")
        return LabResult(study, writer.run, estimates, figure, page)


async def _observe(session: Session, study: Study, seeds: int) -> AsyncIterator[Observed]:
    started, done, total = time.monotonic(), 0, seeds * len(study.arms)
    for seed in range(session.options.seed, session.options.seed + seeds):
        for arm, over in study.arms.items():
            tables = overlaid(study.line, over)
            inner = Session(replace(session.options, seed=seed, quiet=True))
            try:
                steps = [step async for step in run_recipe(inner, tables)]
            finally:
                await inner.close()
            done += 1
            left = (time.monotonic() - started) / done * (total - done)
            session.say(f"{study.title}: {arm}, seed {seed} · {done} of {total} · about {left:,.0f} s left")
            yield _observed(session, study, arm, seed, steps)


def _observed(session: Session, study: Study, arm: str, seed: int, steps: Sequence[Step]) -> Observed:
    by_step = {step.name: step.result.run for step in steps}
    values = {words: _value(session, place, by_step) for words, place in study.measures.items() if _has(place, by_step)}
    points = {words: _points(session, place, by_step) for words, place in study.curves.items() if _has(place, by_step)}
    return Observed(arm, seed, values | fitted(study, points), points, steps[-1].result.run.id)


def _has(place: str, runs: Mapping[str, Run]) -> bool:
    """Whether the arm has the step at all; an arm may leave one out."""
    return place.partition("/")[0] in runs


def _value(session: Session, place: str, runs: Mapping[str, Run]) -> float:
    step, _, name = place.partition("/")
    known = {e.name: e.value for e in session.read(Estimate, runs[step])}
    fits = [made for made in known if made == name or fnmatchcase(made, name)]
    rows = [row for row in session.store.metrics(runs[step].id) if row.get("split") == "eval" and name in row]
    if fits:
        return known[fits[-1]]
    if rows:
        return float(rows[-1][name])
    raise UserError(f"the step '{step}' made no number '{name}'.{nearest(name, known)} It made: {', '.join(known)}")


def _points(session: Session, place: str, runs: Mapping[str, Run]) -> list[tuple[float, float]]:
    """(sqrt of KL, value), in the order in which they were made."""
    step, _, name = place.partition("/")
    made = [e for e in session.read(Estimate, runs[step]) if fnmatchcase(e.name, name)]
    if made:
        sizes = [int(size[0]) for e in made if (size := _SIZE.search(e.name))]
        return [(sqrt(float(best_of_n_kl(n))), e.value) for n, e in zip(sizes, made, strict=True)]
    rows = [
        row for row in session.store.metrics(runs[step].id) if row.get("split") == "eval" and {"kl", name} <= row.keys()
    ]
    return [(sqrt(max(0.0, float(row["kl"]))), float(row[name])) for row in rows]
