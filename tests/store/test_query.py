"""SQL sees exactly what reading sees, changes nothing, fetches nothing; compaction changes nothing but the files."""

from __future__ import annotations

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.records import TABLES, Completion, Estimate, Judgment, Message, Prompt, Usage
from rlhf_eval.store.reading import files_of
from rlhf_eval.store.runs import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "it's [a] store")


def begin(store, seed=0, rows_a_part=7, **more):
    return store.begin("judge", {"n": {"deep": 1}}, inputs={}, seed=seed, versions={}, rows_a_part=rows_a_part, **more)


def judgment(i, **more):
    scores = {} if "error" in more else {"scores": (0.25, 0.75)}
    return Judgment.of(prompt_id=f"p{i % 5}", completion_ids=("a", "b"), judge="j", repeat=i, **scores, **more)


def rows(store, query, params=()):
    return store.sql(query, params).to_pylist()


def test_views_hold_sealed_and_live_rows_of_every_run(store):
    with begin(store, seed=1) as one:
        for i in range(10):
            one.append("judgments", judgment(i, metadata={"i": i}))
    two = begin(store, seed=2)
    for i in range(10):
        two.append("judgments", judgment(i))
    counts = rows(store, "SELECT run_id, count(*) AS n, count(DISTINCT id) AS ids FROM judgments GROUP BY 1 ORDER BY 1")
    assert counts == [{"run_id": run, "n": 10, "ids": 10} for run in sorted([one.run.id, two.run.id])]
    query = "SELECT scores[1] AS first, metadata->>'$.i' AS i FROM judgments WHERE run_id = ? AND repeat = ?"
    assert rows(store, query, [one.run.id, 3]) == [{"first": 0.25, "i": "3"}]


def test_every_table_has_a_view_even_when_it_is_empty(store):
    with begin(store) as run:
        run.append("prompts", Prompt(id="p", messages=(Message("user", "caf\u00e9 \0 \U0001f9d1"),), reference=None))
    for table in TABLES:
        (row,) = rows(store, f"SELECT count(*) AS n FROM {table}")
        assert row["n"] == (table == "prompts")
    (row,) = rows(store, "SELECT run_id, messages[1].content AS text, reference FROM prompts")
    assert row == {"run_id": run.run.id, "text": "caf\u00e9 \0 \U0001f9d1", "reference": None}


def test_runs_are_a_view_too(store):
    with begin(store) as run:
        run.finish("done", {"judged": 3}, Usage(cost=0.5))
    columns = "id, status, usage.cost AS cost, CAST(config->>'$.n.deep' AS INT) AS deep, counts->>'$.judged' AS n"
    assert rows(store, f"SELECT {columns} FROM runs") == [
        {"id": run.run.id, "status": "done", "cost": 0.5, "deep": 1, "n": "3"}
    ]


def test_repeated_ids_are_one_row_wherever_they_lie(store):
    with begin(store, rows_a_part=3) as one:
        for i in range(6):
            one.append("judgments", judgment(i, error="timeout"))
        for i in range(4):
            one.append("judgments", judgment(i))
        one.finish("interrupted", {}, Usage())
    two = begin(store)
    two.append("judgments", judgment(4))
    two.append("judgments", judgment(0, error="late"))
    found = rows(store, "SELECT repeat, error FROM judgments ORDER BY repeat")
    assert found == [{"repeat": i, "error": "timeout" if i == 5 else None} for i in range(6)]
    assert found == sorted(
        ({"repeat": j.repeat, "error": j.error} for j in store.read(Judgment)), key=lambda row: row["repeat"]
    )


def test_estimates_carry_their_derived_id(store):
    with begin(store) as run:
        run.append("estimates", Estimate(name="w", value=0.5, low=0.4, high=float("inf"), n=9, settings={"k": "v"}))
        live = rows(store, "SELECT * FROM estimates")
    assert rows(store, "SELECT * FROM estimates") == live
    assert (live[0]["high"], live[0]["settings"]) == (float("inf"), '{"k":"v"}')


@pytest.mark.parametrize(
    "query",
    [
        "DROP VIEW runs",
        "COPY (SELECT 1) TO 'x.csv'",
        "CREATE TABLE t AS SELECT 1",
        "INSTALL httpfs",
        "ATTACH 'x.duckdb'",
        "SET threads = 1",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x.csv'",
        "SELECT 1; SELECT 2",
        "",
        "-- nothing",
    ],
)
def test_only_one_select_is_answered(store, query):
    begin(store)
    with pytest.raises(UserError, match="one SELECT is wanted"):
        store.sql(query)


def test_mistakes_are_answered_in_one_line(store):
    begin(store)
    for query in ("SELEC 1", "SELECT * FROM judgements", "SELECT wrong FROM judgments", "SELECT ? + 1"):
        with pytest.raises(UserError, match=r"^query: ") as caught:
            store.sql(query)
        assert "\n" not in str(caught.value)


def test_files_outside_the_store_and_local_variables_are_out_of_reach(store, tmp_path):
    begin(store)
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    table = store.sql("SELECT 1 AS x")
    assert table.num_rows == 1
    for query in (f"SELECT * FROM read_csv('{secret}')", f"SELECT * FROM '{secret}'", "SELECT * FROM table_"):
        with pytest.raises(UserError):
            store.sql(query)
    table_ = table  # what a replacement scan would find
    with pytest.raises(UserError, match="table_"):
        store.sql("SELECT * FROM table_")
    assert table_ is table


def test_common_table_expressions_and_joins_are_selects(store):
    with begin(store) as run:
        run.append("judgments", judgment(1))
    query = "WITH j AS (SELECT * FROM judgments) SELECT r.verb FROM j JOIN runs r ON r.id = j.run_id"
    assert rows(store, query) == [{"verb": "judge"}]


def test_what_changed_since_the_last_query_is_seen(store):
    count = "SELECT count(*) AS n FROM judgments"
    with begin(store, seed=1) as run:
        for i in range(20):
            run.append("judgments", judgment(i))
        assert rows(store, count) == [{"n": 20}]
        run.append("judgments", judgment(20))
        assert rows(store, count) == [{"n": 21}]
    assert rows(store, count) == rows(store, count) == [{"n": 21}]
    store.compact(run.run.id)
    assert rows(store, count) == rows(store, count) == [{"n": 21}]
    with begin(store, seed=2) as other:
        other.append("judgments", judgment(1))
    assert rows(store, count) == [{"n": 22}]
    store.remove(run.run.id)
    assert rows(store, count) == [{"n": 1}]


def test_compaction_keeps_every_record_once_and_sorts_by_prompt(store):
    sent = [judgment(i, metadata={"i": [i, None, "x"]}) for i in range(60)]
    prompts = [Prompt.of(f"question {9 - i}") for i in range(10)]
    with begin(store) as run:
        for record in sent:
            run.append("judgments", record)
        run.append("judgments", sent[0])
        for prompt in prompts:
            run.append("prompts", prompt)
        run.append("completions", Completion.of(prompt_id="p", model="m", text="\0'\""))
    counts = store.compact(run.run.id)
    assert (counts["judgments"], counts["prompts"], counts["completions"], counts["pairs"]) == (9, 2, 1, 0)
    assert {t: len(files_of(run.folder, t)) for t in ("judgments", "prompts", "completions")} == {
        "judgments": 1,
        "prompts": 1,
        "completions": 1,
    }
    back = store.read(Judgment)
    assert [j.prompt_id for j in back] == sorted(j.prompt_id for j in sent)
    assert sorted(back, key=lambda j: j.id) == sorted(sent, key=lambda j: j.id)
    assert store.read(Prompt) == prompts
    assert rows(store, "SELECT count(*) AS n FROM judgments") == [{"n": 60}]
    assert store.compact(run.run.id)["judgments"] == 1
    assert store.problems == []


def test_compaction_beside_a_living_writer(store):
    run = begin(store)
    for i in range(20):
        run.append("judgments", judgment(i))
    store.compact("latest")
    for i in range(20, 30):
        run.append("judgments", judgment(i))
    assert sorted(j.repeat for j in store.read(Judgment)) == list(range(30))
    run.finish("done", {}, Usage())
    store.compact("latest")
    assert sorted(j.repeat for j in store.read(Judgment)) == list(range(30))
    assert len(files_of(run.folder, "judgments")) == 1


def test_a_compaction_killed_before_it_tidied_up_shows_nothing_twice(store):
    with begin(store) as run:
        for i in range(20):
            run.append("judgments", judgment(i))
    old = {path: path.read_bytes() for path in files_of(run.folder, "judgments")}
    store.compact("latest")
    for path, content in old.items():
        path.write_bytes(content)
    assert sorted(j.repeat for j in store.read(Judgment)) == list(range(20))
    assert rows(store, "SELECT count(*) AS n FROM judgments") == [{"n": 20}]
    store.compact("latest")
    assert len(files_of(run.folder, "judgments")) == 1
    assert sorted(j.repeat for j in store.read(Judgment)) == list(range(20))
