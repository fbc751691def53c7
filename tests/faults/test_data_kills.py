"""SIGKILL during `mlpo data`: the step run again ends in the same tables as one that was never disturbed."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from conftest import mlpo
from test_kills import kill_when, stored

PROMPTS = ["Why does bread rise in a warm kitchen?", "Name two uses of old newspapers.", "Describe a quiet lake at dawn."]
STEPS = ("translate", "complete", "score")


def arguments(step: str, build: Path) -> list[str]:
    prompts, profile = build / "mine.csv", build / "mine.yaml"
    if not prompts.exists():
        build.mkdir(exist_ok=True)
        prompts.write_text("id,text\n" + "".join(f"u{i},{text}\n" for i, text in enumerate(PROMPTS)))
        profile.write_text("extends: smoke\nbudget: {block: 2}\n")  # several blocks, so that a kill comes between two
    source = ["--prompts", str(prompts)] if step == "translate" else []
    return ["data", step, "--profile", str(profile), "--out", str(build), *source]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    build = tmp_path_factory.mktemp("undisturbed")
    for step in STEPS:
        done = mlpo(*arguments(step, build), build=build)
        assert done.returncode == 0, done.stderr
    return build


def same_tables(build: Path, other: Path) -> None:
    for name in ("prompts", "completions", "scored"):
        assert (build / f"{name}.parquet").read_bytes() == (other / f"{name}.parquet").read_bytes(), name


def test_data_steps_killed_twice_end_in_the_same_tables(undisturbed, tmp_path):
    build = tmp_path / "build"
    for step, item in (("translate", "translate"), ("complete", "complete")):
        command = arguments(step, build)
        assert kill_when(command, build, lambda item=item: stored(build, item) >= 1)
        kept = stored(build, item)
        assert mlpo(*command, build=build).returncode == 0
        assert 0 < kept < stored(build, item)
    assert mlpo(*arguments("score", build), build=build).returncode == 0
    same_tables(build, undisturbed)


@pytest.mark.long
def test_twenty_kills_at_random_end_in_the_same_tables(undisturbed, tmp_path):
    build, draw, kills = tmp_path / "build", random.Random(0), 0
    while kills < 20:
        for step in STEPS:
            end = time.monotonic() + draw.uniform(3, 25)
            kills += kill_when(arguments(step, build), build, lambda end=end: time.monotonic() > end)
            assert mlpo(*arguments(step, build), build=build).returncode == 0
        same_tables(build, undisturbed)
        if kills < 20:  # all over again
            for path in build.glob("*.sqlite*"):
                path.unlink()
