"""One SQLite file holds every generation, score and judgement, so that nothing is made twice and a killed run goes on.

An item's id is the hash of everything that it depends on (INTERFACES, identity). Work goes in fixed blocks of sorted ids; a
block is committed in one transaction, so that a kill loses at most the block in flight.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm

from mlpo import paths
from mlpo.errors import MlpoError
from mlpo.models import digest

SCHEMA_VERSION = 1
T = TypeVar("T")


def item_id(step: str, version: int, parents: Sequence[str], model: str = "", sampling: Any = None, seed: int = 0) -> str:
    """Identity of one item: SHA-256 of canonical JSON of step, its version, parents, model fingerprint, sampling, seed."""
    return digest({"step": step, "version": version, "parents": list(parents), "model": model, "sampling": sampling, "seed": seed})


class Store:
    """Items by id: `step` says which step made it, `value` is JSON. Several readers and one writer (WAL)."""

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
        with self._db:
            self._db.execute("CREATE TABLE IF NOT EXISTS items (id TEXT PRIMARY KEY, step TEXT NOT NULL, value TEXT NOT NULL)")
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

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
        rows = [(key, step, json.dumps(value, ensure_ascii=False)) for key, value in values.items()]
        with self._db:
            self._db.executemany("INSERT OR IGNORE INTO items VALUES (?, ?, ?)", rows)

    def count(self, step: str) -> int:
        return int(self._db.execute("SELECT count(*) FROM items WHERE step = ?", [step]).fetchone()[0])

    def close(self) -> None:
        self._db.close()

    def complete(
        self, step: str, items: Mapping[str, T], compute: Callable[[list[str], list[T]], list[Any]], block: int
    ) -> dict[str, Any]:
        """Values of all `items` (id -> input); `compute(ids, inputs) -> values` runs block by block on what is missing.

        Blocks are cut from the sorted list of all ids, whatever is done already, so that a rerun after a kill computes
        the same blocks as an unbroken run.
        """
        ids = sorted(items)
        done = self.get(ids)
        blocks = [ids[start : start + block] for start in range(0, len(ids), block)]
        todo = [missing for some in blocks if (missing := [key for key in some if key not in done])]
        for some in tqdm(todo, desc=step, unit="block", disable=not todo):
            values = compute(some, [items[key] for key in some])
            fresh = dict(zip(some, values, strict=True))
            self.put(step, fresh)
            done |= fresh
        return done
