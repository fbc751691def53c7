"""One SQLite file holds every generation, score and judgement, so that nothing is made twice and a killed run goes on.

An item's id is the hash of everything that it depends on (INTERFACES, identity). Work goes in fixed blocks of sorted ids; a
block is committed in one transaction, so that a kill loses at most the block in flight.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm

from mlpo import paths
from mlpo.errors import MlpoError
from mlpo.models import digest

SCHEMA_VERSION = 2  # 2: `origin` beside each item
T = TypeVar("T")


class Item(str):
    """The id of an item, which still knows what it is the hash of."""

    origin: dict[str, Any]


def item_id(step: str, version: int, parents: Sequence[str], model: str = "", sampling: Any = None, seed: int = 0) -> Item:
    """Identity of one item: SHA-256 of canonical JSON of step, its version, parents, model fingerprint, sampling, seed."""
    origin = {"step": step, "version": version, "parents": list(parents), "model": model, "sampling": sampling, "seed": seed}
    item = Item(digest(origin))
    item.origin = origin
    return item


class Store:
    """Items by id: `step` made it, `value` is what it made, `origin` from what (both JSON). Several processes may read and
    write one file on one machine (WAL); shards on several machines write files of their own, which `absorb` brings together.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or paths.BUILD / "store.sqlite"
        paths.writable(self.path.parent, "MLPO_BUILD")
        try:
            self._db = sqlite3.connect(self.path, timeout=60)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise MlpoError(f"The store {self.path} cannot be read ({error}): move it away; what it held is made again.") from None
        if version > SCHEMA_VERSION:
            raise MlpoError(
                f"The store {self.path} was written by a newer mlpo (schema {version}, this one knows {SCHEMA_VERSION}): "
                "update mlpo, or set MLPO_BUILD to another folder."
            )
        self._db.execute("PRAGMA journal_mode=WAL")
        with self._writing():
            self._db.execute("CREATE TABLE IF NOT EXISTS items (id TEXT PRIMARY KEY, step TEXT NOT NULL, value TEXT NOT NULL)")
            if not any(column[1] == "origin" for column in self._db.execute("PRAGMA table_info(items)")):
                self._db.execute("ALTER TABLE items ADD COLUMN origin TEXT NOT NULL DEFAULT '{}'")
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of it is written or nothing."""
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield
        except sqlite3.OperationalError as error:
            raise MlpoError(
                f"The store {self.path} cannot be written ({error}): free space on its disk, or wait until the other process that "
                "writes it has finished; what it holds is safe, run again."
            ) from None

    def get(self, ids: Sequence[str]) -> dict[str, Any]:
        """Values of those ids that are there."""
        found: dict[str, Any] = {}
        for start in range(0, len(ids), 500):
            some = list(ids[start : start + 500])
            marks = ",".join("?" * len(some))
            for key, value in self._db.execute(f"SELECT id, value FROM items WHERE id IN ({marks})", some):
                found[key] = json.loads(value)
        return found

    def put(self, step: str, values: Mapping[str, Any]) -> None:
        """Write one block in one transaction."""
        text = lambda value: json.dumps(value, ensure_ascii=False)
        rows = [(str(key), step, text(value), text(getattr(key, "origin", {}))) for key, value in values.items()]
        with self._writing():
            self._db.executemany("INSERT OR IGNORE INTO items (id, step, value, origin) VALUES (?, ?, ?, ?)", rows)

    def origin(self, item: str) -> dict[str, Any]:
        """What an item was made from: step, version, parents, model fingerprint, sampling, seed."""
        row = self._db.execute("SELECT origin FROM items WHERE id = ?", [item]).fetchone()
        return json.loads(row[0]) if row else {}

    def absorb(self, other: Path) -> None:
        """Take in what another store holds (of a shard, say)."""
        Store(other).close()  # checks it and brings it to this version
        self._db.execute("ATTACH ? AS other", [str(other)])
        with self._writing():
            self._db.execute("INSERT OR IGNORE INTO items SELECT id, step, value, origin FROM other.items")
        self._db.execute("DETACH other")

    def count(self, step: str) -> int:
        return int(self._db.execute("SELECT count(*) FROM items WHERE step = ?", [step]).fetchone()[0])

    def close(self) -> None:
        self._db.close()

    def complete(
        self,
        step: str,
        items: Mapping[str, T],
        compute: Callable[[list[str], list[T]], list[Any]],
        block: int,
        order: Callable[[str], str] = lambda item: item,
    ) -> dict[str, Any]:
        """Values of all `items` (id -> input); `compute(ids, inputs) -> values` runs block by block on what is missing.

        Blocks are cut from the sorted list of all ids, whatever is done already, so that a rerun after a kill computes
        the same blocks as an unbroken run. `order(id)`: what to sort by first.
        """
        ids = sorted(items, key=lambda item: (order(item), item))
        done = self.get(ids)
        blocks = [ids[start : start + block] for start in range(0, len(ids), block)]
        todo = [missing for some in blocks if (missing := [key for key in some if key not in done])]
        started, tokens = time.monotonic(), 0
        for some in (bar := tqdm(todo, desc=step, unit="block", disable=not todo)):
            values = compute(some, [items[key] for key in some])
            if made := sum(value.get("tokens", 0) for value in values if isinstance(value, dict)):
                tokens += made
                bar.set_postfix_str(f"{tokens / (time.monotonic() - started):.0f} tokens/s")
            self.put(step, dict(zip(some, values, strict=True)))
            done |= self.get(some)  # what another process may have stored first stands
        return done
