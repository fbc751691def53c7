"""The store with many rows: seconds to write them in blocks, to find them again, and the memory that both take.

A plain JSONL file, flushed to the disk block by block and read whole on resuming, is the comparison: what people use when they
have no store. Both hold the same rows; each repeat starts with empty files.
"""

import json
import os
import resource
import tempfile
import time
from pathlib import Path

from mlpo.store import Store, item_id

ROWS, BLOCK, REPEATS = 100_000, 64, 5
TEXT = "A short answer of the usual length, in one or two sentences, as they come out of a small model. " * 2
IDS = [item_id("complete", 1, [str(i)], "model", {"temperature": 0.7}, i) for i in range(ROWS)]
BLOCKS = [IDS[start : start + BLOCK] for start in range(0, ROWS, BLOCK)]


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seconds(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def stored(folder: Path) -> tuple[float, float]:
    """Seconds to write all rows through `complete`, and to find them all on a second call."""
    store = Store(folder / "store.sqlite")
    compute = lambda ids, inputs: [{"text": TEXT, "cut": False} for _ in inputs]
    items = dict.fromkeys(IDS, "")
    _, written = seconds(lambda: store.complete("complete", items, compute, BLOCK))
    again, resumed = seconds(lambda: store.complete("complete", items, compute, BLOCK))
    assert len(again) == ROWS
    return written, resumed


def jsonl(folder: Path) -> tuple[float, float]:
    path = folder / "plain.jsonl"

    def write() -> None:
        with path.open("a", encoding="utf-8") as file:
            for some in BLOCKS:
                file.writelines(json.dumps({"id": item, "text": TEXT, "cut": False}) + "\n" for item in some)
                file.flush()
                os.fsync(file.fileno())

    _, written = seconds(write)
    done, resumed = seconds(lambda: {row["id"]: row for row in map(json.loads, path.open(encoding="utf-8"))})
    assert len(done) == ROWS
    return written, resumed


with tempfile.TemporaryDirectory() as folder:
    before = memory_mb()
    store = Store(Path(folder) / "store.sqlite")
    for some in BLOCKS:
        store.put("complete", {item: {"text": TEXT, "cut": False} for item in some})
    assert sum(len(store.get(some)) for some in BLOCKS) == ROWS
    print(f"{ROWS:,} rows written and read back block by block: memory grew by {memory_mb() - before:.0f} MB", flush=True)

before, ours, plain = memory_mb(), [], []
for _ in range(REPEATS):
    with tempfile.TemporaryDirectory() as folder:
        ours.append(stored(Path(folder)))
        if len(ours) == 1:
            grown = memory_mb() - before
            print(f"with `complete`, which returns them all: {grown:.0f} MB, {grown * 2**20 / ROWS:.0f} bytes a row", flush=True)
        plain.append(jsonl(Path(folder)))
for index, what in enumerate(("written", "found again")):
    mine, theirs = sorted(row[index] for row in ours), sorted(row[index] for row in plain)
    ratios = sorted(a[index] / b[index] for a, b in zip(ours, plain, strict=True))
    middle = REPEATS // 2
    print(
        f"{what} in {mine[middle]:.1f} s ({mine[0]:.1f} to {mine[-1]:.1f}), JSONL {theirs[middle]:.1f} s "
        f"({theirs[0]:.1f} to {theirs[-1]:.1f}); ratio {ratios[middle]:.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
    )
