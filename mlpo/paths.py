"""Where things lie. Every path can be moved by an environment variable, so that tests and read-only trees work."""

import os
import tempfile
from pathlib import Path

from mlpo.errors import MlpoError

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


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a killed process leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
