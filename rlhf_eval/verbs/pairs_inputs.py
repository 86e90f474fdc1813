"""What ``pairs`` selects from: stored judgments and people's labels, put together, calibrated, filtered, and tabulated.

inputs = read_inputs(session, settings, needs_scores=True)
run_rule(inputs.book, plugin, config, "best_worst")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rlhf_eval import registry
from rlhf_eval.errors import UserError
from rlhf_eval.interop import human
from rlhf_eval.interop.files import content_of
from rlhf_eval.records import Completion, Judgment, Outcome, Prompt, Run
from rlhf_eval.stages import filters
from rlhf_eval.stages.filters import Filters
from rlhf_eval.stages.labels import aggregate, calibrate, grade_temperature
from rlhf_eval.stages.matrix import Book, tabulate
from rlhf_eval.stages.pairs import VERB
from rlhf_eval.verbs.lint import benchmark_prompts, names
from rlhf_eval.verbs.session import Session

Aggregate = Literal["", "mean", "majority", "dawid_skene", "low_median"]
Calibrate = Literal["", "temperature", "isotonic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to select from, and what to write."""

    judgments: str = "latest"
    """A run that holds judgments; for rules that need none, a run that holds completions."""
    rule: str = "best_worst"
    """The plugin that selects."""
    by: tuple[str, ...] | str = ()
    """The judges whose judgments count, where the run holds several."""
    labels: tuple[str, ...] | str = ()
    """Files of people's labels, as ``route`` made them; each person is a labeler like a judge."""
    aggregate: Aggregate = ""
    """How several labelers become one label: mean, majority, dawid_skene, low_median."""
    calibrate: Calibrate = ""
    """Turn shares into probabilities that fit the labels of ``truth``: temperature, isotonic."""
    truth: str = "human"
    """The judges to calibrate on, by the beginning of their names: human, gold, ..."""
    truth_run: str = ""
    """A run whose judgments are the truth, such as one of ``judge --judge gold`` on the same completions."""
    length_penalty: float = 0.0
    """Score points that 1000 characters cost before the rule looks."""
    filters: Filters = field(default_factory=Filters)
    """What is taken out first: duplicates, language, refusals, truncation, longest, pass_mark, scorer, embedder."""
    against: tuple[str, ...] | str = ()
    """Benchmarks or prompt files whose prompts must not be in the set."""
    policies: tuple[str, ...] | str = ()
    """Names of the models that will be trained, for the card's on-policy share."""
    control: bool = True
    """Also make the matched random set of a rejection-sampling rule, as a run of its own."""
    out: str = ""
    """A file (or, for ``hub``, a folder) for the set; its card and manifest lie beside it."""
    format: str = "trl"
    """Shape of the file: jsonl, trl, trl_text, trl_unpaired, openrlhf, axolotl, axolotl_rm, nemo_rl, handbook,
    ultrafeedback (all graded answers, whatever the rule), hub."""

    def given(self) -> dict[str, Any]:
        """The settings that the set depends on, as the run keeps them; where it is written is none of them."""
        from rlhf_eval.config import as_settings

        plain = as_settings(self)
        return {k: v for k, v in plain.items() if k not in ("judgments", "out", "format", "control", "policies")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything that a rule may look at, and what was set aside before it could."""

    source: Run
    prompts: list[Prompt]
    completions: list[Completion]
    judgments: list[Judgment]
    """As stored and as people gave them, all labelers apart."""
    truth: list[Judgment]
    book: Book
    dropped: Mapping[str, str]
    """Prompt id to the filter that caught it."""
    about: Mapping[str, Any]
    tests: Sequence[str]
    """Benchmark prompts that the set must not hold."""

    def outcomes(self) -> list[Outcome]:
        """The ends of the prompts that a filter caught."""
        return [Outcome.of(p, VERB, "skipped", reason=f"dropped: {why}") for p, why in self.dropped.items()]


def find_source(session: Session, settings: Settings, *, needs_scores: bool) -> Run:
    """The run to select from."""
    verbs = ("judge", "load") if needs_scores else ("judge", "load", "generate")
    return session.find(settings.judgments, verbs=verbs, loaded="judgments" if needs_scores else "completions")


def files_of(settings: Settings) -> dict[str, str]:
    """The files and folders that the set depends on, by the hash of their bytes."""
    paths = [path for path in map(Path, (*names(settings.labels), *names(settings.against))) if path.exists()]
    known: dict[str, str] = {}
    for place, path in enumerate(paths, start=1):
        name = f"file:{path.name}"
        known[f"{name} {place}" if name in known else name] = content_of(path)
    return known


def read_inputs(session: Session, settings: Settings, source: Run, *, needs_scores: bool) -> Inputs:
    """Read, label and filter; raises UserError where no judgment fits, or several judges do and nothing joins them."""
    stored = session.read(Judgment, source)
    people = said_by_people(session, names(settings.labels))
    everything = [*stored, *people]
    if not everything and needs_scores:
        judged = "every prompt failed or was skipped; the same judge command says why"
        other = f"run 'rlhf-eval judge --completions {source.id}' first"
        raise UserError(f"run {source.id} holds no judgments; {judged if source.verb == 'judge' else other}")
    truth = [j for j in everything if settings.calibrate and j.judge.startswith(settings.truth)]
    if settings.truth_run:
        truth += session.read(Judgment, session.store.find(settings.truth_run))
    chosen = _chosen(everything, settings, source, truth)
    labels, temperature, about = _labels(chosen, truth, settings)
    tests = benchmark_prompts(names(settings.against))
    prompts = session.prompts(source)
    completions = session.store.read(Completion, run=session.lineage(source))
    score, embed = _hooks(settings.filters)
    kept = filters.apply(
        prompts, completions, labels, settings.filters, against=tests, score=score, embed=embed,
        seed=session.options.seed,
    )  # fmt: skip
    book = tabulate(
        kept.prompts, kept.completions, labels, temperature=temperature, length_penalty=settings.length_penalty
    )
    if kept.removed:
        about = {**about, "answers removed": kept.removed}
    return Inputs(
        source=source, prompts=prompts, completions=completions, judgments=chosen, truth=truth, book=book,
        dropped=kept.dropped, about=about, tests=tests,
    )  # fmt: skip


def said_by_people(session: Session, paths: Sequence[str]) -> list[Judgment]:
    """The labels in files and folders of people's; raises UserError where one holds none."""
    found: list[Judgment] = []
    for path in paths:
        loaded = human.read(Path(path))
        if not loaded.judgments:
            raise UserError(f"{path}: no row has a label; fill in 'choice' (a, b or tie) and 'labeler' in each")
        for warning in loaded.warnings:
            session.say(f"warning: {warning}")
        found += loaded.judgments
    return found


def _hooks(wanted: Filters) -> tuple[filters.Scorer | None, filters.Embedder | None]:
    """What the filters name: a scorer of somebody's own, and a checkpoint or module that makes vectors."""
    score: filters.Scorer | None = registry.load("scorer", wanted.scorer).score if wanted.scorer else None
    embed: filters.Embedder | None = None
    if wanted.embedder.startswith("hf:"):
        from rlhf_eval.models.local.embedding import embed as by_checkpoint

        embed = partial(by_checkpoint, wanted.embedder)
    elif wanted.embedder:
        embed = registry.load("embedder", wanted.embedder).embed
    return score, embed


def _chosen(
    everything: Sequence[Judgment], settings: Settings, source: Run, truth: Sequence[Judgment]
) -> list[Judgment]:
    """The judgments of the labelers that were asked for; the truth that others are calibrated on is not one of them."""
    judges = sorted({j.judge for j in everything} - {j.judge for j in truth})
    by = names(settings.by)
    fits = [n for n in judges if not by or any(n == b or n.startswith((f"{b}/", f"{b}#")) for b in by)]
    if not settings.aggregate and len(fits) > 1:
        raise UserError(
            f"run {source.id} has {len(fits)} judges that fit; name one with --by, or join them with "
            f"--set aggregate=majority: {', '.join(judges)}"
        )
    if by and not fits:
        raise UserError(f"no judgment is by {', '.join(by)}; run {source.id} has: {', '.join(judges)}")
    return [j for j in everything if j.judge in fits]


def _labels(
    chosen: Sequence[Judgment], truth: Sequence[Judgment], settings: Settings
) -> tuple[list[Judgment], float, dict[str, Any]]:
    """One label an item, the scale of grades, and what the card tells of it."""
    labels = aggregate(chosen, settings.aggregate) if settings.aggregate else list(chosen)
    if not settings.calibrate:
        return labels, 0.0, {"aggregate": settings.aggregate}
    if not truth:
        raise UserError(
            f"nothing to calibrate on: no judge's name begins with '{settings.truth}'; set truth, or labels"
        )
    if any(len(j.completion_ids) == 2 for j in labels):
        made = calibrate(labels, truth, settings.calibrate)
        fit = {"scale": made.scale, "temperature": made.temperature, "fitted on": made.labels}
        return made.judgments, 0.0, {"aggregate": settings.aggregate, "calibration": fit}
    temperature = grade_temperature(labels, truth)
    return labels, temperature, {"calibration": {"scale": "temperature", "temperature": temperature}}
