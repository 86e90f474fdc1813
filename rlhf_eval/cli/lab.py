"""What ``lab`` does and shows: the studies, then each one's arms beside its control."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlhf_eval.cli.show import table
from rlhf_eval.cli.words import emit
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate, to_row
from rlhf_eval.stages.study import Study
from rlhf_eval.verbs.lab import LabResult, read_study, studies
from rlhf_eval.verbs.lab import lab as run_study
from rlhf_eval.verbs.session import Options, Session


def lab(options: argparse.Namespace) -> int:
    """Run studies, or list them."""
    names = options.study or list(studies())
    if options.dry_run or not (options.study or options.quick or options.all):
        known = {name: read_study(name) for name in names}
        _list(known, as_json=options.json)
        return 0
    if options.study and options.all:
        raise UserError("lab takes names of studies, or --all, not both")
    session = Session(Options(store=Path(options.store), seed=options.seed, quiet=options.quiet or options.json))
    session.say(_beforehand([read_study(name) for name in names], quick=options.quick))
    for name in names:
        result = asyncio.run(run_study(session, name, quick=options.quick, seeds=options.seeds, sets=options.set))
        _study(result, session, as_json=options.json)
    return 0


def _list(known: dict[str, Study], *, as_json: bool) -> None:
    if as_json:
        for name, study in known.items():
            emit({"event": "study", "name": name, **to_row(study)})
        return
    rows = [
        [f"  {name}", study.title, f"{len(study.arms)} arms, {study.seeds} seeds", _minutes(study)]
        for name, study in known.items()
    ]
    print(table([], rows))
    for name, study in known.items():
        print(f"\n{name}: {study.question}")
    print(f"\n  with --quick {_beforehand([*known.values()], quick=True)}")
    print("  next:    rlhf-eval lab --quick, or rlhf-eval lab NAME")


def _beforehand(wanted: Sequence[Study], *, quick: bool) -> str:
    """How long it will take where nothing of it is in the store yet."""
    kind = "quick" if quick else "full"
    known = [study.minutes[kind] for study in wanted if kind in study.minutes]
    told = [f"about {sum(known):g} min on two cores"] if known else []
    if len(known) < len(wanted):
        told.append(f"{len(wanted) - len(known)} never timed")
    return f"{len(wanted)} {'study' if len(wanted) == 1 else 'studies'}: {', '.join(told)}"


def _minutes(study: Study) -> str:
    known = ", ".join(f"{minutes:g} min {kind}" for kind, minutes in study.minutes.items())
    return f"about {known}, on two cores" if known else "never timed"


def _study(result: LabResult, session: Session, *, as_json: bool) -> None:
    if as_json:
        for made in result.estimates:
            emit({"event": "lab", "run": result.run.id, **to_row(made)})
        return
    study = result.study
    print(f"\nlab: {study.title}\n  {study.question}")
    for words in study.words:
        rows = list(_rows(study, [e for e in result.estimates if e.name == words]))
        if rows:
            print(f"\n{table([f'  {words}', 'value', '95 %', study.minus, '95 %', 'seeds'], rows)}")
    print(f"\n  figure:  {result.figure}\n  page:    {result.page}")
    print(f"  results: {session.store.folder(result.run.id)}")
    print(f"  next:    rlhf-eval dashboard{session.options.store_flag}")


def _rows(study: Study, own: Sequence[Estimate]) -> Iterator[list[str]]:
    gaps = {e.settings["arm"]: e for e in own if e.settings["role"] == "difference"}
    for e in own:
        if e.settings["role"] != "mean":
            continue
        gap = gaps.get(e.settings["arm"])
        of = f" ({gap.settings['against']})" if gap and study.against else ""
        gained = [f"{gap.value:+.3f}{of}", f"{gap.low:+.3f} to {gap.high:+.3f}"] if gap else ["", ""]
        lost = f"{e.n}, {e.failed} without" if e.failed else f"{e.n}"
        yield [f"  {e.settings['arm']}", f"{e.value:.3f}", f"{e.low:.3f} to {e.high:.3f}", *gained, lost]
