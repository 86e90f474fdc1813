"""How long a leaderboard over a million stored judgments takes, after the imports, and where the time goes.

A store is made of sealed Parquet parts as a run leaves them behind: models against one baseline, both orders of every
prompt. Writing it takes a minute; it is kept for the next time.

    python tests/bench/leaderboard_speed.py --judgments 1000000 --store /tmp/million
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import pstats
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rlhf_eval.records import Completion, Judgment, Usage
from rlhf_eval.stats.arrays import Ints
from rlhf_eval.store import tables
from rlhf_eval.store.runs import Store
from rlhf_eval.verbs.leaderboard import leaderboard
from rlhf_eval.verbs.session import Options, Session

MODELS = 50
ROWS_A_PART = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgments", type=int, default=1_000_000)
    parser.add_argument("--store", type=Path, default=Path("/tmp/rlhf-eval-million"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if not (options.store / "runs").exists():
        build(options.store, options.judgments)
    leaderboard(Session(Options(store=options.store)), run="")  # the imports that a first call makes
    seconds = []
    for _ in range(options.repeats):
        session = Session(Options(store=options.store))
        started = time.perf_counter()
        boards = leaderboard(session)
        seconds.append(time.perf_counter() - started)
    rows = sum(len(board.rows) for board in boards)
    judged = sum(row.settings["judgments"] for board in boards for row in board.rows)
    print(f"{judged:,} judgments, {rows} rows: best {min(seconds):.2f} s, all {', '.join(f'{s:.2f}' for s in seconds)}")
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(leaderboard, Session(Options(store=options.store)))
        pstats.Stats(profile).sort_stats("cumulative").print_stats(18)


def build(path: Path, judgments: int) -> None:
    """A store with one run of ``judgments`` comparisons, in parts."""
    prompts = judgments // (2 * MODELS)
    store = Store(path)
    with store.begin("judge", {"judge": "planted"}, inputs={}, seed=0, versions={}) as run:
        folder = store.folder(run.run.id) / "parts"
        folder.mkdir(exist_ok=True)
        write(folder, Completion, completions(prompts))
        for first in range(0, MODELS, 10):
            write(folder, Judgment, comparisons(prompts, range(first, first + 10)), start=first)
        run.finish("done", {"done": prompts, "judgments": prompts * 2 * MODELS}, Usage())


def write(folder: Path, kind: type, columns: dict[str, Any], *, start: int = 0) -> None:
    """Sealed parts of a table; columns that are not given have the record's defaults."""
    rows = len(columns["id"])
    schema = tables.arrow_schema(kind)
    example = Completion.of(prompt_id="p", model="m", text="t") if kind is Completion else Judgment.of(
        prompt_id="p", completion_ids=("a", "b"), judge="j", scores=(0.5, 0.5)
    )  # fmt: skip
    usual = tables.to_table(kind, [example])
    made = [columns.get(f.name) for f in schema]
    arrays = [
        pa.array(values, f.type) if values is not None else pa.array([usual.column(f.name)[0].as_py()] * rows, f.type)
        for f, values in zip(schema, made, strict=True)
    ]
    table = pa.table(arrays, schema=schema)
    for part, offset in enumerate(range(0, rows, ROWS_A_PART)):
        name = f"{tables.table_of(kind)}-{start:04d}{part:06d}.parquet"
        tables.write_parquet(folder / name, table.slice(offset, ROWS_A_PART))


def completions(prompts: int) -> dict[str, Any]:
    """One answer of every model and of the baseline to every prompt."""
    models = np.repeat(np.arange(MODELS + 1), prompts)
    number = np.tile(np.arange(prompts), MODELS + 1)
    names = [f"model-{m:02d}" if m < MODELS else "baseline" for m in range(MODELS + 1)]
    return {
        "id": identities("answer", models, number),
        "prompt_id": identities("prompt", number),
        "model": [names[m] for m in models],
    }


def comparisons(prompts: int, models: range) -> dict[str, Any]:
    """Both orders of some models against the baseline; the higher the model's number, the more it wins."""
    rng = np.random.default_rng(models.start)
    model = np.repeat(np.arange(models.start, models.stop), prompts * 2)
    number = np.tile(np.repeat(np.arange(prompts), 2), len(models))
    swapped = np.tile([0, 1], prompts * len(models))
    won = (rng.random(len(model)) < 0.35 + 0.006 * model).astype(float)
    return {
        "id": identities("judgment", model, number, swapped),
        "prompt_id": identities("prompt", number),
        "completion_ids": [
            list(pair)
            for pair in zip(
                identities("answer", model, number),
                identities("answer", np.full(len(number), MODELS), number),
                strict=True,
            )
        ],
        "judge": ["planted"] * len(model),
        "order": [[1, 0] if s else [0, 1] for s in swapped],
        "scores": [[w, 1 - w] for w in won],
    }


def identities(kind: str, *numbers: Ints) -> list[str]:
    """Ids as records have them: 20 hexadecimal digits of a hash, which no column encoding can shorten."""
    return [
        hashlib.blake2b(f"{kind} {values}".encode(), digest_size=10).hexdigest()
        for values in zip(*(column.tolist() for column in numbers), strict=True)
    ]


if __name__ == "__main__":
    main()
