"""Records picked by SQL: each id once, a success before a failure, a newer run before an older one.

pick(store, Judgment, "judge = ? and prompt_id in (select unnest(?))", [judge, prompts])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rlhf_eval.records import Completion, Prompt, R
from rlhf_eval.store import tables
from rlhf_eval.store.reading import files_of
from rlhf_eval.store.runs import Store

MOST = 2_000
"""Prompts that a page reads whole; of more it takes these, by a hash, and says so."""
VERDICTS = 20_000
"""Judgments that a page reads whole; prompts with many judgments are read fewer."""


def once(store: Store, table: str, columns: str = "*", where: str = "true") -> str:
    """A SELECT that shows each id once over all runs."""
    rank = "run_id desc" if table in ("prompts", "pairs", "demonstrations") else "error is not null, run_id desc"
    # Within one run the store shows each id once, and to make sure again costs as much as everything else.
    several = sum(bool(files_of(store.folder(run.id), table)) for run in store.runs()) > 1
    dedupe = f"qualify row_number() over (partition by id order by {rank}) = 1" if several else ""
    return f"(select {columns} from {table} where {where} {dedupe})"


def pick(store: Store, kind: type[R], where: str = "true", params: Sequence[Any] = ()) -> list[R]:
    """The records that a condition fits, as records."""
    found: list[R] = tables.from_batch(
        kind, store.sql(f"select * from {once(store, tables.table_of(kind), where=where)}", params)
    )
    return found


def prompts_of(
    store: Store, where: str, params: Sequence[Any] = (), *, most: int = MOST, verdicts: int = VERDICTS
) -> tuple[list[str], int]:
    """Ids of the prompts of the judgments that a condition fits, and how many there are.

    At most ``most`` by a hash, and no more than hold ``verdicts`` judgments in all, but one.
    """
    query = f"""
        with mine as (select prompt_id, count(*) as told from judgments where {where} group by 1),
        laid as (select prompt_id, count(*) over () as n, sum(told) over (order by hash(prompt_id), prompt_id) as so_far,
                        row_number() over (order by hash(prompt_id), prompt_id) as place from mine)
        select prompt_id, n from laid where place = 1 or (place <= ? and so_far <= ?) order by place"""
    table = store.sql(query, [*params, most, verdicts])
    ids = [str(value) for value in table.column("prompt_id").to_pylist()]
    return ids, int(table.column("n")[0].as_py()) if ids else 0


def about(
    store: Store, prompts: Iterable[str], completions: Iterable[str] = ()
) -> tuple[dict[str, Prompt], dict[str, Completion]]:
    """The prompts of these ids, and the completions of these ids, by id."""
    asked = pick(store, Prompt, "id in (select unnest(?::varchar[]))", [sorted(set(prompts))])
    wanted = sorted(set(completions))
    answers = pick(store, Completion, "id in (select unnest(?::varchar[]))", [wanted]) if wanted else []
    return {p.id: p for p in asked}, {c.id: c for c in answers}
