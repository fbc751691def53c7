"""The store with many rows: seconds to write them in blocks, to find them again, and the memory that both take.

A plain JSONL file, appended and flushed block by block and read whole on resuming, is the comparison.
"""

import json
import os
import resource
import tempfile
import time
from pathlib import Path

from mlpo.store import Store, item_id

ROWS, BLOCK = 100_000, 64
TEXT = "A short answer of the usual length, in one or two sentences, as they come out of a small model. " * 2


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def jsonl(path: Path, ids: list[str]) -> tuple[float, float]:
    """Seconds to write and to resume with the file that people use when they have no store."""
    start = time.perf_counter()
    with path.open("a", encoding="utf-8") as file:
        for i in range(0, ROWS, BLOCK):
            for item in ids[i : i + BLOCK]:
                file.write(json.dumps({"id": item, "text": TEXT, "cut": False}) + "\n")
            file.flush()
            os.fsync(file.fileno())
    written = time.perf_counter() - start
    start = time.perf_counter()
    done = {row["id"]: row for row in map(json.loads, path.open(encoding="utf-8"))}
    assert len(done) == ROWS
    return written, time.perf_counter() - start


with tempfile.TemporaryDirectory() as folder:
    items = {item_id("complete", 1, [str(i)], "model", {"temperature": 0.7}, i): i for i in range(ROWS)}
    before = memory_mb()
    store = Store(Path(folder) / "store.sqlite")
    start = time.perf_counter()
    compute = lambda ids, inputs: [{"text": TEXT, "cut": False} for _ in inputs]
    first = store.complete("complete", items, compute, BLOCK)
    written = time.perf_counter() - start
    del first
    start = time.perf_counter()
    again = store.complete("complete", items, compute, BLOCK)
    resumed = time.perf_counter() - start
    assert len(again) == ROWS
    grown = memory_mb() - before
    size = store.path.stat().st_size / 2**20
    plain = jsonl(Path(folder) / "plain.jsonl", list(items))
    print(f"store: {ROWS:,} rows in blocks of {BLOCK}: written in {written:.1f} s, found again in {resumed:.1f} s, {size:.0f} MB")
    print(f"memory grew by {grown:.0f} MB, {grown * 2**20 / ROWS:.0f} bytes a row (the values themselves are returned)")
    print(f"JSONL with a flush a block: written in {plain[0]:.1f} s, read again in {plain[1]:.1f} s")
    print(f"ratio of writing {written / plain[0]:.2f}, of resuming {resumed / plain[1]:.2f}")
