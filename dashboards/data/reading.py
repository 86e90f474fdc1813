"""Records picked by SQL: each id once, a success before a failure, a newer run before an older one.

pick(store, Judgment, "judge = ? and prompt_id in (select unnest(?))", [judge, prompts])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rlhf_eval.records import Completion, Judgment, Prompt, R
from rlhf_eval.store import tables
from rlhf_eval.store.runs import Store

MOST = 2_000
"""Prompts that a page reads whole; of more it takes these, by a hash, and says so."""


def once(table: str, columns: str = "*", where: str = "true", *, fails: bool = True) -> str:
    """A SELECT that shows each id once over all runs; ``fails`` says that the table has failures."""
    rank = "error is not null, run_id desc" if fails else "run_id desc"
    return (
        f"(select {columns} from {table} where {where} qualify row_number() over (partition by id order by {rank}) = 1)"
    )


def pick(store: Store, kind: type[R], where: str = "true", params: Sequence[Any] = ()) -> list[R]:
    """The records that a condition fits, as records."""
    query = once(tables.table_of(kind), where=where, fails=kind in (Judgment, Completion))
    found: list[R] = tables.from_batch(kind, store.sql(f"select * from {query}", params))
    return found


def prompts_of(store: Store, where: str, params: Sequence[Any] = (), *, most: int = MOST) -> tuple[list[str], int]:
    """Ids of the prompts of the judgments that a condition fits, at most ``most`` by a hash, and how many there are."""
    query = (
        f"select prompt_id, count(*) over () as n from (select distinct prompt_id from judgments where {where}) "
        "order by hash(prompt_id), prompt_id limit ?"
    )
    table = store.sql(query, [*params, most])
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


def note(store: Store, problem: str) -> None:
    """Name something that could not be read among the store's problems, once."""
    if problem not in store.problems:
        store.problems.append(problem)
