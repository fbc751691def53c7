"""Real kills: SIGKILL to the runner and its kernel, then the same command again; the bytes must be those of an unbroken run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, mlpo


def kill_when(arguments: list[str], build: Path, ready: Callable[[], bool]) -> bool:
    """Start the command, wait until `ready`, kill it with everything below it. False where it had ended before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlpo.cli", *arguments],
        env={**os.environ, "MLPO_BUILD": str(build)},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not ready():
        time.sleep(0.02)
    if process.poll() is not None:
        return False
    for child in [*psutil.Process(process.pid).children(recursive=True), process]:
        os.kill(child.pid, signal.SIGKILL)
    process.wait()
    return True


def content(run: Path) -> dict[str, bytes]:
    """What "same bytes" means: tables, adapters and the manifest's payload."""
    found = {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*")) if p.suffix in (".parquet", ".safetensors")}
    payload = json.loads((run / "manifest.json").read_text())["payload"]
    return found | {"payload": json.dumps(payload, sort_keys=True).encode()}


def stored(build: Path, step: str) -> int:
    try:
        with sqlite3.connect(f"file:{build / 'store.sqlite'}?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM items WHERE step = ?", [step]).fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def upstream_of(smoke_book: Path, build: Path, *names: str) -> None:
    for name in names:
        shutil.copytree(smoke_book / "runs" / f"{name}-smoke", build / "runs" / f"{name}-smoke")


def test_generation_killed_twice_ends_in_the_same_bytes(smoke_book, tmp_path):
    command = ["run", "04", "--profile", "smoke"]
    assert kill_when(command, tmp_path, lambda: stored(tmp_path, "complete") >= 1)
    assert kill_when(command, tmp_path, lambda: stored(tmp_path, "translate") >= 2)
    assert not (tmp_path / "runs" / "04_completions-smoke" / "manifest.json").exists()
    before = stored(tmp_path, "complete")
    assert mlpo(*command, build=tmp_path).returncode == 0
    assert 0 < before < stored(tmp_path, "complete")
    assert content(tmp_path / "runs" / "04_completions-smoke") == content(smoke_book / "runs" / "04_completions-smoke")


def test_training_killed_between_steps_ends_in_the_same_bytes(smoke_book, tmp_path):
    upstream_of(smoke_book, tmp_path, "06_pairs_and_mixtures")
    command = ["run", "07", "--profile", "smoke", "-p", "inputs=build"]
    assert kill_when(command, tmp_path, lambda: bool(list(tmp_path.glob("adapters/*.checkpoints/checkpoint-1/trainer_state.json"))))
    (checkpoints,) = tmp_path.glob("adapters/*.checkpoints")
    torn = checkpoints / "checkpoint-2"  # and one that a kill cut in the middle
    torn.mkdir(exist_ok=True)
    (torn / "trainer_state.json").write_text('{"global_step": 2, ')
    assert mlpo(*command, build=tmp_path).returncode == 0
    assert content(tmp_path / "runs" / "07_dpo-smoke") == content(smoke_book / "runs" / "07_dpo-smoke")
    assert not checkpoints.exists()


def test_a_book_build_that_is_killed_builds_again(smoke_book, tmp_path):
    out = tmp_path / "html"
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "-n", "-b", "html", "book", str(out)]
    environment = {**os.environ, "MLPO_BUILD": str(smoke_book), "MLPO_BOOK_PROFILE": "smoke"}
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(out.glob(".doctrees/**/*.doctree")):
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (out / "chapters" / "10_win_rates.html").exists()


@pytest.mark.long
def test_the_whole_smoke_book_killed_again_and_again_ends_in_the_same_bytes(smoke_book, tmp_path):
    command = ["book", "--profile", "smoke"]
    started = [time.monotonic()]
    for seconds in (20, 35, 50, 65, 80):
        started[0] = time.monotonic()
        if not kill_when(command, tmp_path, lambda limit=seconds: time.monotonic() - started[0] > limit):
            break
    done = mlpo(*command, build=tmp_path)
    assert done.returncode == 0, done.stderr
    for run in sorted((smoke_book / "runs").glob("*-smoke")):
        assert content(tmp_path / "runs" / run.name) == content(run), run.name
