"""``verify SET``: make every label of a set again, from the stored raw replies, and compare.

Two walks. The rule is run again over the stored judgments, and its records must be those of the set. And each judgment is
made again: the judge's question is put to a door that only looks into the response cache, so the reply is the very one
that was paid for, and is read anew. A judge by program is simply run again. What the cache no longer holds is counted.

    rlhf-eval verify latest
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from rlhf_eval.config import build
from rlhf_eval.errors import GateFailed, RequestFailed, UserError
from rlhf_eval.models import open_model
from rlhf_eval.models.base import ChatRequest, Conversation, Model, Reply
from rlhf_eval.models.door import Door
from rlhf_eval.models.limits import Limits
from rlhf_eval.models.rehearsal import ReadOnly
from rlhf_eval.records import Completion, Demonstration, Judgment, PreferencePair, Prompt, Run
from rlhf_eval.stages.judge import Call, Instrument, put
from rlhf_eval.verbs.flow import open_judge
from rlhf_eval.verbs.pairs import selected
from rlhf_eval.verbs.pairs_inputs import Settings as PairsSettings
from rlhf_eval.verbs.pairs_inputs import read_inputs
from rlhf_eval.verbs.session import Session, split_settings

MISSING = "not in the cache"
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to verify."""

    set: str = "latest"
    """A run of ``pairs``, or a file that it wrote (its manifest names the run)."""
    judge: dict[str, Any] = field(default_factory=dict)
    """The judge's settings, where they cannot be told from its run: judge_model above all."""
    strict: bool = False
    """Exit with 4 where a label differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """What was made again, and whether it is the same."""

    run: Run
    records: int
    """Pairs and demonstrations of the set."""
    same: int
    """Those that the rule makes again, to the last field."""
    lost: int
    """Those that it does not make any more."""
    extra: int
    """Those that it makes now and the set does not hold."""
    judgments: Mapping[str, int]
    """How the judgments behind the set fared: same, differs, not in the cache, not replayable."""
    differences: tuple[str, ...] = ()
    """The first few things that differ, in words."""

    @property
    def good(self) -> bool:
        """Whether nothing differs; what could not be looked at is no difference."""
        return not (self.lost or self.extra or self.judgments.get("differs"))


class Sealed:
    """Stands in for a model, under its name and identity, and answers nothing: what is not in the cache fails."""

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.id = model.id
        self._model = model

    async def chat(self, request: ChatRequest) -> Reply:
        """Refuse: whoever comes here asked for a reply that is not stored."""
        raise RequestFailed("bad_request", MISSING)

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """Refuse, like ``chat``."""
        raise RequestFailed("bad_request", MISSING)

    async def close(self) -> None:
        """Close the model behind."""
        await self._model.close()


async def verify(session: Session, table: Mapping[str, Any]) -> VerifyResult:
    """Make a set again; raises UserError where its run or an input is gone, GateFailed on a difference with ``strict``."""
    settings = build(Settings, table, where="verify")
    run = _run_of(session, settings.set)
    # As the set was made: the limit and the seed that it was made with, not those of this command.
    session = Session(replace(session.options, seed=run.seed, limit=run.config.get("limit")))
    stored = _by_id(session.read(PreferencePair, run), session.read(Demonstration, run))
    again, judgments, source = _select_again(session, run)
    same = sum(again.get(identity) == record for identity, record in stored.items())
    lost, extra = stored.keys() - again.keys(), again.keys() - stored.keys()
    words = [f"the rule does not make {identity} any more" for identity in sorted(lost)]
    words += [f"the rule now also makes {identity}" for identity in sorted(extra)]
    words += [f"{i} has changed" for i in sorted(stored.keys() & again.keys()) if stored[i] != again[i]]
    try:  # by doors of its own: one that another verb has opened would ask the model
        fates, told = await _replay(session, source, judgments, settings.judge)
    finally:
        await session.close()
    changed = len(stored) - len(lost) - same
    result = VerifyResult(
        run=run, records=len(stored), same=same, lost=len(lost) + changed, extra=len(extra), judgments=fates,
        differences=tuple([*words, *told][:20]),
    )  # fmt: skip
    if settings.strict and not result.good:
        raise GateFailed(f"{run.id} cannot be made again as it is: {result.differences[0]}")
    return result


def _run_of(session: Session, ref: str) -> Run:
    path = Path(ref)
    manifests = [path / "manifest.json", path.with_suffix(".manifest.json")]
    if path.exists():
        manifest = next((m for m in manifests if m.is_file()), None)
        if manifest is None:
            raise UserError(f"{ref}: no manifest beside it, so nothing says which run made it; name the run")
        try:
            ref = str(msgspec.json.decode(manifest.read_bytes())["run"])
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise UserError(f"{manifest}: not a manifest: {error}") from error
    run = session.find(ref, verbs=("pairs",))
    if run.verb != "pairs":
        raise UserError(f"{run.id} is a run of '{run.verb}'; verify looks at runs of pairs")
    return run


def _select_again(session: Session, run: Run) -> tuple[dict[str, PreferencePair | Demonstration], list[Judgment], Run]:
    """The set as its rule makes it now, and the stored judgments that it was made from."""
    config = {k: v for k, v in run.config.items() if k != "limit"}
    files = [name for name in run.inputs if name.startswith("file:")]
    settings, plugin, rule_config = split_settings(config, "pairs", PairsSettings, "rule", "selection")
    if files and not all(Path(p).exists() for p in _paths(settings)):
        raise UserError(f"{run.id} was made with {', '.join(files)}; run verify where these files lie")
    source = session.store.find(run.inputs["judgments"])
    needs_scores = getattr(plugin, "NEEDS_SCORES", True)
    inputs = read_inputs(session, settings, source, needs_scores=needs_scores)
    made = selected(inputs, plugin, rule_config, settings.rule)
    return _by_id(made.pairs, made.demonstrations), inputs.judgments, source


def _by_id(
    pairs: Sequence[PreferencePair], demonstrations: Sequence[Demonstration]
) -> dict[str, PreferencePair | Demonstration]:
    records: list[PreferencePair | Demonstration] = [*pairs, *demonstrations]
    return {record.id: record for record in records}


def _paths(settings: PairsSettings) -> list[str]:
    given = (settings.labels, settings.against)
    return [path for value in given for path in ((value,) if isinstance(value, str) else value) if path]


async def _replay(
    session: Session, source: Run, judgments: Sequence[Judgment], judge_table: Mapping[str, Any]
) -> tuple[dict[str, int], list[str]]:
    """Make the judgments again from the cache; how they fared, and what differs."""
    fates: Counter[str] = Counter()
    told: list[str] = []
    lineage = session.lineage(source)
    prompts = {p.id: p for p in session.store.read(Prompt, run=lineage)}
    answers = {c.id: c for c in session.store.read(Completion, run=lineage)}
    instruments: dict[str, Instrument | None] = {}
    for judgment in judgments:
        if judgment.judge not in instruments:
            instruments[judgment.judge] = _instrument(session, source, judgment.judge, judge_table, told)
        fate = await _one(judgment, instruments[judgment.judge], prompts, answers)
        fates["differs" if fate.startswith("differs") else fate] += 1
        if fate.startswith("differs"):
            told.append(f"judgment {judgment.id} {fate}")
    return dict(fates), told


def _instrument(
    session: Session, source: Run, name: str, given: Mapping[str, Any], told: list[str]
) -> Instrument | None:
    """The judge of a run, behind a door that asks nobody; None, and words, where it cannot be had."""
    asked = name.rpartition("#")[0] or name
    plugin, _, model = asked.partition("/")
    known = {k: v for k, v in source.config.items() if k not in ("judge", "limit")}
    table = {"judge": plugin, "judge_model": model, **known, **given}
    spec = str(table["judge_model"])
    try:
        if spec and spec not in session.doors:
            cache = session.cache
            if cache is None:
                raise UserError("verify reads replies from the cache; leave out --no-cache")
            sealed = Sealed(open_model(spec))
            session.doors[spec] = Door(
                sealed, cache=ReadOnly(cache), limits=Limits(retries=0), seed=session.options.seed
            )
        _, bench = open_judge(session, table)
    except UserError as error:
        told.append(f"{name} cannot be replayed: {error}")
        return None
    if bench.instrument.name != name:
        told.append(
            f"{name} cannot be replayed: its settings, templates or weights are now those of {bench.instrument.name}; "
            "give the ones it had with --set judge.judge_model=..."
        )
        return None
    return bench.instrument


async def _one(
    judgment: Judgment, instrument: Instrument | None, prompts: Mapping[str, Prompt], answers: Mapping[str, Completion]
) -> str:
    """How one judgment fares: same, differs, missing, or not replayable."""
    if instrument is None or judgment.prompt_id not in prompts:
        return "not replayable"
    shown = tuple(answers[i] for i in judgment.completion_ids if i in answers)
    if len(shown) != len(judgment.completion_ids):
        return "not replayable"
    try:
        call = Call(shown, judgment.order, judgment.repeat)
        again = await put(prompts[judgment.prompt_id], call, instrument)
    except RequestFailed as failure:
        return MISSING if MISSING in str(failure) else "not replayable"
    if again.error != judgment.error or len(again.scores) != len(judgment.scores):
        return f"differs: it reads {again.error or again.scores}, and is stored as {judgment.error or judgment.scores}"
    gap = max((abs(a - b) for a, b in zip(again.scores, judgment.scores, strict=True)), default=0.0)
    return "same" if gap <= TOLERANCE else f"differs: the reply says {again.scores}, the store {judgment.scores}"
