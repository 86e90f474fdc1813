"""From any number to what it was made from, and from any run to what was made from it.

A run names the runs that it read (``inputs``): that is a graph, and this walks it. A leaderboard row is where the walk
begins: the judgments of a judge about a model, then answers, checkpoint, training, preference set, judge and prompts.

    trail(store, run).up
    behind_row(store, judge, model, baseline).runs
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlhf_eval.errors import UserError
from rlhf_eval.records import Run
from rlhf_eval.store.runs import Store

MADE = {
    "load": "prompts", "generate": "answers", "judge": "verdicts", "pairs": "preference set", "train": "checkpoint",
    "evaluate": "evaluation", "audit": "judge card", "lab": "study", "corrupt": "set with planted errors", "suite": "suite",
}  # fmt: skip
"""Verb to what its run is, in a word."""
PAGES = {
    "judge": ("judge_quality", "judge"), "pairs": ("preference_sets", "set"), "train": ("training", "training"),
    "evaluate": ("leaderboard", "run"), "audit": ("judge_quality", "judge"), "lab": ("studies", "study"),
}  # fmt: skip
"""Verb to the page that shows its runs, and the filter of that page which names one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One run on the way."""

    run: Run
    depth: int
    """Steps from where the walk began."""
    via: str
    """The role in which it was read, or in which it reads."""
    parent: str
    """The run through which it was found; empty at the start."""
    holds: Mapping[str, int]
    """Records that lie in it, by table."""
    others: Mapping[str, str]
    """What it read that is no run of this store: role to hash or file."""

    @property
    def made(self) -> str:
        """What it is, in a word."""
        return MADE.get(self.run.verb, self.run.verb)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """A run with everything that it was made from, and everything made from it; nearest first."""

    start: Stop
    up: tuple[Stop, ...]
    down: tuple[Stop, ...]

    def dot(self, *, ink: str) -> str:
        """The graph in Graphviz's language, from the first source to the last result, drawn in the colour ``ink``."""
        stops = {stop.run.id: stop for stop in (*reversed(self.up), self.start, *self.down)}
        look = f'color="{ink}", fontcolor="{ink}"'
        lines = [
            "digraph lineage {",
            f"rankdir=LR; bgcolor=transparent; node [shape=box, style=rounded, fontsize=11, {look}];",
        ]
        lines.append(f"edge [fontsize=9, {look}];")
        for name, stop in stops.items():
            about = ", ".join(f"{count:,} {table}" for table, count in stop.holds.items())
            bold = ", penwidth=3" if name == self.start.run.id else ""
            lines.append(f'"{name}" [label="{stop.made}\\n{name.rpartition("-")[2]}\\n{about}"{bold}];')
        for name, stop in stops.items():
            for role, source in sorted(stop.run.inputs.items()):
                if source in stops:
                    lines.append(f'"{source}" -> "{name}" [label="{_escaped(role)}"];')
        return "\n".join([*lines, "}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """What lies behind one row of a leaderboard."""

    judge: str
    model: str
    baseline: str
    verdicts: Mapping[str, int]
    """Run to how many of the row's verdicts lie in it, newest first."""
    answers: Mapping[str, int]
    """Run to how many of the model's judged answers lie in it; an answer may lie in several."""
    distinct: int
    """The model's judged answers, each once."""
    checkpoints: tuple[str, ...]
    """Trainings that the model comes from."""
    cards: tuple[str, ...]
    """Audits of the judge, newest first."""

    @property
    def runs(self) -> tuple[str, ...]:
        """Where walks begin: the runs with its verdicts."""
        return tuple(self.verdicts)


def trail(store: Store, ref: str) -> Trail:
    """The walk in both directions from one run; raises UserError where there is no such run."""
    runs = {run.id: run for run in store.runs()}
    start = store.find(ref)
    runs.setdefault(start.id, start)
    holds = _holds(store)
    children: dict[str, list[tuple[str, str]]] = defaultdict(list)
    parents: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for run in runs.values():
        for role, source in run.inputs.items():
            if source in runs:
                parents[run.id].append((role, source))
                children[source].append((role, run.id))
    return Trail(
        start=_stop(start, 0, "", "", holds, runs),
        up=tuple(_walk(start.id, parents, runs, holds)),
        down=tuple(_walk(start.id, children, runs, holds)),
    )


def behind_row(store: Store, judge: str, model: str, baseline: str = "") -> Behind:
    """Where the verdicts, answers and checkpoint of a leaderboard row lie; raises UserError where there are none."""
    query = """
        with mine as (select distinct id from completions where model = $2),
        theirs as (select distinct id from completions where $3 = '' or model = $3),
        met as (select run_id, completion_ids[1] as a, completion_ids[2] as b from judgments
                where judge = $1 and len(completion_ids) = 2)
        select run_id as run, count(*) as n, list(distinct case when a in (from mine) then a else b end) as answers
        from met where (a in (from mine) and b in (from theirs)) or (b in (from mine) and a in (from theirs))
        group by 1 order by 1 desc"""
    rows = store.sql(query, [judge, model, baseline]).to_pylist()
    if not rows:
        raise UserError(f"no verdict of '{judge}' is about '{model}'" + (f" and '{baseline}'" if baseline else ""))
    ids = sorted({answer for row in rows for answer in row["answers"]})
    held = store.sql(
        "select run_id as run, count(distinct id) as n from completions where id in (select unnest(?::varchar[])) "
        "group by 1 order by 1 desc",
        [ids],
    ).to_pylist()
    runs = {run.id: run for run in store.runs()}
    audits = [run.id for run in runs.values() if run.verb == "audit" and run.config.get("judge") == judge]
    sources = [row["run"] for row in (*rows, *held)]
    return Behind(
        judge=judge, model=model, baseline=baseline, verdicts={row["run"]: row["n"] for row in rows},
        answers={row["run"]: row["n"] for row in held}, distinct=len(ids),
        checkpoints=tuple(_trained(model, sources, runs)), cards=tuple(sorted(audits, reverse=True)),
    )  # fmt: skip


def _trained(model: str, sources: Sequence[str], runs: Mapping[str, Run]) -> list[str]:
    """The trainings that the runs with a model's answers read in the model's name, or that wrote the answers themselves."""
    found: dict[str, None] = {}
    for name in sources:
        run = runs.get(name)
        if run is None:
            continue
        if run.verb == "train":
            found[run.id] = None
        for role, source in run.inputs.items():
            if (
                source in runs
                and runs[source].verb == "train"
                and role.removeprefix("model_") in (model, "model", role)
            ):
                found[source] = None
    return list(found)


def _walk(
    start: str,
    edges: Mapping[str, Sequence[tuple[str, str]]],
    runs: Mapping[str, Run],
    holds: Mapping[str, Mapping[str, int]],
) -> list[Stop]:
    found: dict[str, Stop] = {}
    waiting = [(start, 0)]
    while waiting:
        name, depth = waiting.pop(0)
        for role, other in edges.get(name, ()):
            if other not in found and other != start:
                found[other] = _stop(runs[other], depth + 1, role, name, holds, runs)
                waiting.append((other, depth + 1))
    return list(found.values())


def _stop(
    run: Run, depth: int, via: str, parent: str, holds: Mapping[str, Mapping[str, int]], runs: Mapping[str, Run]
) -> Stop:
    others = {role: value for role, value in run.inputs.items() if value not in runs}
    return Stop(run=run, depth=depth, via=via, parent=parent, holds=holds.get(run.id, {}), others=others)


def _holds(store: Store) -> dict[str, dict[str, int]]:
    """Run to how many records of each table lie in it."""
    tables = ("prompts", "completions", "judgments", "pairs", "demonstrations", "estimates")
    query = " union all ".join(
        f"select run_id, '{name}' as name, count(*) as n from {name} group by 1" for name in tables
    )
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for row in store.sql(query).to_pylist():
        found[row["run_id"]][row["name"]] = row["n"]
    return found


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
