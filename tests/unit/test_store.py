"""The store: nothing twice, nothing half, nothing lost."""

from __future__ import annotations

import sqlite3

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
