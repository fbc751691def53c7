"""Shared fixtures. The models are the real packaged ones; a whole smoke book is run once and then looked at by many tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def mlpo(*arguments: str, build: Path, timeout: int = 1200, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a user would call it, with its own build folder."""
    return subprocess.run(
        [sys.executable, "-m", "mlpo.cli", *arguments],
        env={**os.environ, "MLPO_BUILD": str(build), **environment},
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=timeout,
    )


@pytest.fixture(scope="session")
def smoke_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build folder of a whole book run with the profile smoke through the real runner."""
    build = tmp_path_factory.mktemp("book")
    assert mlpo("models", build=build).returncode == 0  # once on a new machine: converting imports torch
    done = mlpo("book", "--profile", "smoke", build=build, timeout=2400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return build


@pytest.fixture(scope="session")
def base():
    from mlpo.models import load

    return load("base")
