"""``train``: a checkpoint from data, with its metrics and its lineage.

    rlhf-eval train sft --model sandbox:policy --data latest:pairs
    rlhf-eval train dpo --model run:latest:train --data pairs.jsonl --set beta=0.1
    rlhf-eval train ppo --model run:latest:train --data latest:load --reward-judge gold

A trainer is a plugin ``trainers/x.py``, one line in the registry, and offers four names:

    Config                              frozen settings, each with a default and a doc line
    READS                               the fields of ``Data`` that it can train on, the first being the usual one
    plan(data, config, job) -> Plan     rows, tokens, steps, memory; loads no weights: ``--dry-run``
    train(data, out, config, job) -> Metrics
        writes ``out/checkpoint`` (a standard Hugging Face folder with its tokenizer), keeps in ``out/steps`` what it needs
        to resume, calls ``job.log`` with rows of metrics, and returns with ``stopped`` soon after ``job.stopping()`` has
        become true

It may also say ``NEEDS_REWARD = True``; ``job.reward`` is then the judge that ``--reward-judge`` names. ``train`` is a
plain function and runs in a thread of its own, from which ``job.reward`` may be called. The store, the doors and the
checkpoint's card belong to this module.

In a recipe, ``train.NAME`` is a step like any other, and ``run:train.NAME`` the checkpoint that it made:

    train.sft: {trainer: sft, data: run:pairs.best, model: sandbox:policy}
    train.dpo: {trainer: dpo, data: run:pairs, model: run:train.sft, beta: 0.1}
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from rlhf_eval.config import as_settings
from rlhf_eval.errors import Interrupted, UserError
from rlhf_eval.models.local.checkpoints import fingerprint_folder
from rlhf_eval.records import Estimate, Forecast, Run
from rlhf_eval.stages.drive import Tally
from rlhf_eval.stages.training import Data, Job, Metrics, Plan, Reward
from rlhf_eval.stages.training_card import checkpoint_card
from rlhf_eval.stages.training_progress import TrainingProgress
from rlhf_eval.store.writer import RunWriter
from rlhf_eval.verbs.rewards import Opponent, Part, describe, open_opponent, open_parts, reward_of
from rlhf_eval.verbs.session import Session, split_settings
from rlhf_eval.verbs.train_inputs import read_data
from rlhf_eval.verbs.train_measured import measured
from rlhf_eval.verbs.trained import CHECKPOINT, Base, base_of

STEPS = "steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to train, and on what."""

    trainer: str = "sft"
    """The plugin that trains."""
    model: str = ""
    """The checkpoint that training starts from: sandbox:policy, hf:PATH, or run:REF of an earlier training."""
    data: str | tuple[str, ...] = "latest"
    """A run that holds what the trainer reads, or a file of it; or several of these."""
    heldout: str = ""
    """A run or file with what is measured and never trained on: for online trainers prompts, for reward models pairs. Empty
    takes some of ``data`` away."""
    reward: Mapping[str, Any] | tuple[Mapping[str, Any], ...] | None = None
    """For online trainers: the judge that rewards, as in the table of ``judge``; or several, each with a weight."""
    out: str = ""
    """Also copy the checkpoint to this folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """The run of a training, what it came to, and where the checkpoint lies."""

    run: Run
    trainer: str
    plan: Plan
    metrics: Metrics | None
    """None of a dry run."""
    checkpoint: Path | None
    estimates: Sequence[Estimate] = ()
    """Of a reward model: how it does on pairs that it was not trained on."""
    resumed: bool = False
    """Whether an earlier process had finished it."""


async def train(session: Session, table: Mapping[str, Any]) -> TrainResult:
    """Train what the table names; raises UserError before anything is stored where data or model do not fit."""
    settings, plugin, config = split_settings(table, "train", Settings, "trainer", "trainer")
    base = base_of(session.store, settings.model)
    data, inputs = read_data(session, settings.data, plugin.READS, trainer=settings.trainer)
    if settings.heldout:
        kind = getattr(plugin, "HELDOUT", "prompts")
        held, more = read_data(session, settings.heldout, (kind,), trainer=settings.trainer)
        data = replace(data, heldout=held.prompts, heldout_pairs=held.pairs)
        inputs |= {f"heldout_{name}": value for name, value in more.items()}
    parts = _rewards(session, settings, plugin)
    config, named = _checkpoints(session, plugin, config)
    identity = _identity(base)
    resolved = {
        "trainer": settings.trainer,
        "model": identity,
        **({"reward": describe(parts)} if parts else {}),
        **as_settings(config),
        **named,
        "door": base.door,
    }
    if base.run:
        inputs["model"] = base.run
    about = {"base": identity, "data": dict(inputs), "counts": data.counts(), **_origin(session, inputs)}
    if parts:
        about["reward"] = " + ".join(f"{part.weight:g} {part.bench.instrument.name}" for part in parts)
    plan = plugin.plan(data, config, Job(model=str(base.folder), seed=session.options.seed))
    if session.options.dry_run:
        return TrainResult(
            run=Run(id="", verb="train", config=resolved), trainer=settings.trainer, plan=plan, metrics=None,
            checkpoint=None,
        )  # fmt: skip
    _make_out(settings)
    with session.begin("train", resolved, inputs, alone=True) as run:
        assert isinstance(run, RunWriter)  # a dry run has returned
        folder = run.folder
        if run.run.status == "done":
            metrics = _remembered(session, run.run)
            _copy(folder, settings)
            return TrainResult(
                run=run.run, trainer=settings.trainer, plan=plan, metrics=metrics, checkpoint=folder / CHECKPOINT,
                estimates=session.read(Estimate, run.run), resumed=True,
            )  # fmt: skip
        if run.run.forecast is None:
            run.expect(Forecast(steps=plan.steps))
        opponent = open_opponent(session, parts, settings.model, getattr(config, "max_new_tokens", 256))
        metrics = await _in_thread(session, plugin, data, config, run, plan, parts, opponent, base, about)
        aside = set(metrics.heldout)
        estimates = await measured(session, run, [*data.heldout_pairs, *(p for p in data.pairs if p.id in aside)])
        (folder / CHECKPOINT / "README.md").write_text(
            checkpoint_card(settings.trainer, run.run.id, about, as_settings(config), plan, metrics, estimates),
            encoding="utf-8",
        )
        shutil.rmtree(folder / STEPS, ignore_errors=True)
        counts = {"total": plan.rows, "rows": metrics.rows, "steps": metrics.steps, "tokens": metrics.tokens}
        run.finish("done", counts, session.usage())
    _copy(folder, settings)
    return TrainResult(
        run=run.run, trainer=settings.trainer, plan=plan, metrics=metrics, checkpoint=folder / CHECKPOINT,
        estimates=estimates,
    )  # fmt: skip


def _rewards(session: Session, settings: Settings, plugin: ModuleType) -> tuple[Part, ...]:
    """The judges that reward; raises UserError where the trainer needs one and there is none, or the other way round."""
    if not getattr(plugin, "NEEDS_REWARD", False):
        if settings.reward:
            raise UserError(f"the trainer '{settings.trainer}' learns from data alone and takes no reward")
        return ()
    if not settings.reward:
        raise UserError(
            f"the trainer '{settings.trainer}' needs a reward: --reward-judge gold in the sandbox, or "
            "--reward-judge reward_model --reward-model run:REF"
        )
    return open_parts(session, settings.reward)


def _checkpoints(session: Session, plugin: ModuleType, config: Any) -> tuple[Any, dict[str, str]]:
    """The config with the folders of the checkpoints that it names, and what tells their contents."""
    named = {name: getattr(config, name) for name in getattr(plugin, "CHECKPOINTS", ())}
    bases = {name: base_of(session.store, spec) for name, spec in named.items() if spec}
    folders = {name: str(base.folder) for name, base in bases.items()}
    return replace(config, **folders), {name: _identity(base) for name, base in bases.items()}


def _identity(base: Base) -> str:
    return f"{base.name}#{fingerprint_folder(base.folder)}" if base.folder.is_dir() else base.name


async def _in_thread(
    session: Session,
    plugin: ModuleType,
    data: Data,
    config: Any,
    run: RunWriter,
    plan: Plan,
    parts: Sequence[Part],
    opponent: Opponent | None,
    base: Base,
    about: Mapping[str, Any],
) -> Metrics:
    """Train in a thread, so that judges can answer meanwhile and Ctrl-C saves; raises Interrupted where it did."""
    stop = threading.Event()
    line = TrainingProgress("train", Tally(total=plan.steps), quiet=session.options.quiet)

    def log(row: Mapping[str, Any]) -> None:
        run.metric(row)
        run.heartbeat({"total": plan.rows, "steps": int(row["step"]), "tokens": int(row["tokens"])}, session.usage())
        line.show(row)

    job = Job(
        model=str(base.folder),
        seed=session.options.seed,
        log=log,
        record=run.append,
        say=session.say,
        stopping=stop.is_set,
        reward=reward_of(parts, opponent, asyncio.get_running_loop()) if parts else None,
        gold=_gold(data),
        cache=session.store.path / "cache" / "reference",
        about=about,
        quiet=session.options.quiet,
    )
    work = asyncio.ensure_future(asyncio.to_thread(plugin.train, data, run.folder, config, job))
    try:
        metrics: Metrics = await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        session.say("stopping after this step; the state is being saved")
        metrics = await work
    finally:
        line.close()
    if metrics.stopped:
        raise Interrupted(f"stopped at step {metrics.steps:,} of {plan.steps:,}; what is done is saved")
    return metrics


def _gold(data: Data) -> Reward | None:
    """The sandbox's true reward, where the prompts come from there."""
    prompts = (*data.prompts, *data.heldout)
    if not prompts or not all(prompt.source.startswith("sandbox") for prompt in prompts):
        return None
    from rlhf_eval.sandbox.gold import reward

    return lambda asked, answers: [reward(p, c.text).reward for p, c in zip(asked, answers, strict=True)]


def _origin(session: Session, inputs: Mapping[str, str]) -> dict[str, Any]:
    """The runs behind the data, each with its verb and what it was told: the lineage that the card tells."""
    if "data" not in inputs:
        return {}
    known = {run.id: run for run in session.store.runs()}
    given = [run for name, run in inputs.items() if name.partition(" ")[0] == "data"]
    line = {identity: known[identity] for run in given for identity in session.lineage(known[run])}.values()
    judges = sorted({str(run.config["judge"]) for run in line if run.verb == "judge" and "judge" in run.config})
    return {"runs": [run.id for run in line], "judges": judges}


def _remembered(session: Session, run: Run) -> Metrics:
    """What a finished run came to, from what it stored."""
    rows = session.store.metrics(run.id)
    final: dict[str, float] = {}
    for row in rows:
        prefix = "" if row["split"] == "train" else "eval_"
        final |= {f"{prefix}{k}": v for k, v in row.items() if k not in ("step", "split", "seconds", "tokens")}
    return Metrics(
        steps=run.counts.get("steps", 0),
        rows=run.counts.get("rows", 0),
        tokens=run.counts.get("tokens", 0),
        seconds=max((row["seconds"] for row in rows), default=0.0),
        final=final,
    )


def _make_out(settings: Settings) -> None:
    """Make the folder of ``--out``; raises UserError where it cannot be, before hours are spent."""
    if settings.out:
        try:
            Path(settings.out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{settings.out}: no checkpoint can be copied here: {error.strerror}") from error


def _copy(folder: Path, settings: Settings) -> None:
    if settings.out:
        try:
            shutil.copytree(folder / CHECKPOINT, settings.out, dirs_exist_ok=True)
        except OSError as error:  # shutil.Error, which gathers several, is one
            why = error.strerror or error
            raise UserError(f"{settings.out}: no checkpoint can be copied here ({why}); it lies in {folder}") from error
