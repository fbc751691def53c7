"""The store: nothing twice, nothing half, nothing lost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest

from mlpo import MlpoError
from mlpo.store import SCHEMA_VERSION, Store, item_id


def test_item_id_is_pinned():
    """Golden: a change of the identity scheme makes every stored item stale and must be wanted."""
    got = item_id("translate", 1, ["a", "tr"], "model", {"temperature": 0}, 3)
    assert got == "3eb14d83694fae3ed7aa646000f7854d37ed8c85cc63818752c44a689b712a75"


def test_only_missing_items_are_computed_in_fixed_blocks(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    seen: list[list[str]] = []

    def compute(ids, inputs):
        seen.append(ids)
        return [x * 2 for x in inputs]

    items = {f"{i:02d}": i for i in range(10)}
    assert store.complete("double", items, compute, block=4) == {k: v * 2 for k, v in items.items()}
    assert seen == [["00", "01", "02", "03"], ["04", "05", "06", "07"], ["08", "09"]]
    seen.clear()
    assert store.complete("double", items, compute, block=4)["09"] == 18
    assert seen == []


def test_an_interrupted_run_keeps_whole_blocks_and_resumes(tmp_path):
    path = tmp_path / "s.sqlite"
    items = {f"{i:02d}": i for i in range(8)}

    def dies(ids, inputs):
        if "04" in ids:
            raise KeyboardInterrupt
        return inputs

    with pytest.raises(KeyboardInterrupt):
        Store(path).complete("step", items, dies, block=4)
    again: list[str] = []
    store = Store(path)
    assert store.count("step") == 4
    store.complete("step", items, lambda ids, x: again.extend(ids) or x, block=4)
    assert again == ["04", "05", "06", "07"]


def test_a_store_of_a_newer_schema_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "s.sqlite"
    Store(path).put("step", {"a": 1})
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with pytest.raises(MlpoError, match=r"newer mlpo .* MLPO_BUILD"):
        Store(path)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM items").fetchone() == (1,)


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"not a database, but somebody's file" * 50)
    with pytest.raises(MlpoError, match="cannot be read"):
        Store(path)
    assert path.read_bytes().startswith(b"not a database")


def test_every_item_answers_where_it_comes_from(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    item = item_id("complete", 2, ["prompt"], "model", {"temperature": 0.7}, 5)
    store.complete("complete", {item: "x"}, lambda ids, x: x, block=4)
    origin = {
        "step": "complete",
        "version": 2,
        "parents": ["prompt"],
        "model": "model",
        "sampling": {"temperature": 0.7},
        "seed": 5,
    }
    assert store.origin(item) == origin
    assert store.origin("unknown") == {}


def test_a_store_of_the_first_schema_is_brought_up_and_loses_nothing(tmp_path):
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE items (id TEXT PRIMARY KEY, step TEXT NOT NULL, value TEXT NOT NULL)")
        db.execute("""INSERT INTO items VALUES ('a', 'step', '{"text": "kept"}')""")
        db.execute("PRAGMA user_version=1")
    store = Store(path)
    assert store.get(["a"]) == {"a": {"text": "kept"}}
    store.put("step", {"b": 2})
    assert Store(path).count("step") == 2


def test_shards_are_brought_together(tmp_path):
    for name, values in (("one", {"a": 1, "b": 2}), ("two", {"b": 2, "c": 3})):
        shard = Store(tmp_path / f"{name}.sqlite")
        shard.put("step", values)
        shard.close()
    store = Store(tmp_path / "all.sqlite")
    for name in ("one", "two", "one"):
        store.absorb(tmp_path / f"{name}.sqlite")
    assert store.get(["a", "b", "c"]) == {"a": 1, "b": 2, "c": 3}


def test_what_sorts_first_is_done_first(tmp_path):
    seen: list[list[str]] = []
    items = {"1": "x", "2": "y", "3": "x", "4": "y"}
    Store(tmp_path / "s.sqlite").complete("s", items, lambda ids, v: seen.append(ids) or v, block=2, order=items.__getitem__)
    assert seen == [["1", "3"], ["2", "4"]]


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    store.put("step", {"a": "kept"})
    store._db.execute(f"PRAGMA max_page_count={store._db.execute('PRAGMA page_count').fetchone()[0] + 2}")
    with pytest.raises(MlpoError, match=r"cannot be written \(database or disk is full\): free space"):
        store.put("step", {f"{i}": "x" * 2000 for i in range(50)})
    assert store.count("step") == 1
    assert Store(tmp_path / "s.sqlite").get(["a"]) == {"a": "kept"}


WRITER = """
import sys
from pathlib import Path
from mlpo.store import Store
store = Store(Path(sys.argv[1]))
items = {f"{sys.argv[2]}{i:04d}": i for i in range(200)} | {f"both{i:04d}": i for i in range(200)}
store.complete("step", items, lambda ids, values: values, block=7)
"""


def test_two_processes_on_one_store(tmp_path):
    path = tmp_path / "s.sqlite"
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in ("p", "q")]
    assert [process.wait(60) for process in processes] == [0, 0]
    store = Store(path)
    assert store.count("step") == 600
    assert store.get(["p0199", "q0199", "both0199"]) == dict.fromkeys(["p0199", "q0199", "both0199"], 199)


def test_a_writer_that_does_not_let_go_is_one_sentence(tmp_path):
    path = tmp_path / "s.sqlite"
    store = Store(path)
    store._db.execute("PRAGMA busy_timeout=50")
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(MlpoError, match="wait until the other process"):
            store.put("step", {"a": 1})
    store.put("step", {"a": 1})
    assert store.count("step") == 1
