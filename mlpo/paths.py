"""Where things lie. Every path can be moved by an environment variable, so that tests and read-only trees work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlpo.errors import MlpoError

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
RESULTS = Path(os.environ.get("MLPO_RESULTS", ROOT / "results")).resolve()
BUILD = Path(os.environ.get("MLPO_BUILD", ROOT / "build")).resolve()
CACHE = Path(os.environ.get("MLPO_CACHE", Path.home() / ".cache" / "mlpo")).resolve()
PACKAGE = Path(__file__).resolve().parent


def writable(folder: Path, variable: str) -> Path:
    """Create `folder` and prove that it can be written; MlpoError names the variable that moves it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise MlpoError(
            f"The folder {folder} cannot be written ({error.strerror}): free or unlock it, or set {variable} to another folder."
        ) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; what was written replaces `path` in one step, so that a killed process leaves the old file or the
    new one, never half of one. MlpoError where the disk is full or closed to us."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise MlpoError(f"{path} cannot be written ({error.strerror or error}): free space or unlock it, then run again.") from None


def write_atomically(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    with replacing(path) as part:
        frame.to_parquet(part, index=False)
