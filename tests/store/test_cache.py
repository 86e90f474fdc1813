"""The response cache: what is put is there, for everyone, and damage never stops a run."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.store.cache import ResponseCache


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "responses.sqlite"


def test_get_returns_what_was_put_and_nothing_else(path):
    with ResponseCache(path) as cache:
        cache.put({"a": b"1", "b": b"\x00\xff", "": b""})
        assert cache.get(["b", "missing", "a", ""]) == {"a": b"1", "b": b"\x00\xff", "": b""}
        cache.put({"a": b"2"})
        assert cache.get(["a"]) == {"a": b"2"}
        assert cache.get([]) == {}
        cache.put({})


def test_many_keys_at_once(path):
    items = {f"k{i}": str(i).encode() for i in range(3000)}
    with ResponseCache(path) as cache:
        cache.put(items)
        assert cache.get(list(items)) == items


def test_it_is_write_ahead_and_outlives_its_connection(path):
    with ResponseCache(path) as cache:
        cache.put({"a": b"1"})
        assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with ResponseCache(path) as cache:
        assert cache.get(["a"]) == {"a": b"1"}


def test_stats(path):
    with ResponseCache(path) as cache:
        empty = cache.stats()
        assert (empty.entries, empty.bytes, empty.oldest, empty.newest) == (0, 0, None, None)
        before = time.time()
        cache.put({"a": b"123", "b": b"45"})
        full = cache.stats()
    assert (full.entries, full.bytes) == (2, 5)
    assert before <= full.oldest <= full.newest <= time.time()


def _age(path, key, days):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE responses SET used = used - ? WHERE key = ?", (days * 86_400, key))


def test_prune_by_age_counts_from_the_last_use(path):
    with ResponseCache(path) as cache:
        cache.put({"old": b"1", "used": b"2", "new": b"3"})
        _age(path, "old", 40)
        _age(path, "used", 40)
        assert set(cache.get(["used"])) == {"used"}
        assert cache.prune(older_than_days=30) == 1
        assert set(cache.get(["old", "used", "new"])) == {"used", "new"}


def test_prune_by_size_drops_the_least_recently_used(path):
    with ResponseCache(path) as cache:
        cache.put({f"k{i}": b"x" * 100 for i in range(10)})
        for i in range(10):
            _age(path, f"k{i}", 10 - i)
        assert cache.prune(max_bytes=350) == 7
        assert set(cache.get([f"k{i}" for i in range(10)])) == {"k7", "k8", "k9"}
        assert cache.prune(max_bytes=350) == 0


def test_prune_wants_a_limit(path):
    with ResponseCache(path) as cache, pytest.raises(UserError, match="needs a limit"):
        cache.prune()


@pytest.mark.parametrize(
    "damage",
    [b"this is no database, just text that is long enough to be looked at" * 40, b"SQLite format 3\0" + b"\xff" * 5000],
)
def test_a_damaged_file_is_set_aside_and_a_fresh_cache_begins(path, damage):
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    with pytest.warns(UserWarning, match=r"damaged response cache .* set aside as responses\.sqlite\.corrupt-"):
        cache = ResponseCache(path)
    cache.put({"a": b"1"})
    assert cache.get(["a"]) == {"a": b"1"}
    cache.close()
    (aside,) = path.parent.glob("*.corrupt-*")
    assert aside.read_bytes() == damage


def test_damage_found_in_the_middle_of_a_run_costs_the_cache_but_not_the_run(path):
    cache = ResponseCache(path)
    cache.put({f"k{i}": bytes(2000) for i in range(400)})
    cache.close()
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xaa" * (len(content) - 8192)
    path.write_bytes(content)
    cache = ResponseCache(path)
    with pytest.warns(UserWarning, match="damaged response cache"):
        assert cache.get([f"k{i}" for i in range(400)]) == {}
        cache.put({"b": b"2"})
    assert cache.get(["b"]) == {"b": b"2"}
    cache.close()


def test_a_foreign_database_is_not_written_into(path):
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE responses (id INTEGER, body TEXT)")
    with pytest.warns(UserWarning, match="its columns are"):
        ResponseCache(path).close()
    (aside,) = path.parent.glob("*.corrupt-*")
    with sqlite3.connect(aside) as kept:
        assert kept.execute("SELECT count(*) FROM responses").fetchone() == (0,)


def test_a_place_that_cannot_hold_it_is_the_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot hold the response cache"):
        ResponseCache(tmp_path / "file" / "responses.sqlite")
    with pytest.raises(UserError, match="cannot be opened"):
        (tmp_path / "folder.sqlite").mkdir()
        ResponseCache(tmp_path / "folder.sqlite")


def test_two_processes_at_once_lose_nothing(path):
    code = """
import sys
from pathlib import Path
from rlhf_eval.store.cache import ResponseCache
cache = ResponseCache(Path(sys.argv[1]))
for i in range(400):
    cache.put({f"{sys.argv[2]}-{i}": sys.argv[2].encode(), f"shared-{i}": b"same"})
    assert cache.get([f"{sys.argv[2]}-{i}"])
"""
    workers = [subprocess.Popen([sys.executable, "-W", "error", "-c", code, str(path), name]) for name in "ab"]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    with ResponseCache(path) as cache:
        assert cache.stats().entries == 1200
        assert len(cache.get([f"{name}-{i}" for name in "ab" for i in range(400)])) == 800
