"""Run manifests: every number of the book comes from one, with its interval, n, parameters, timing and environment."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from mlpo import paths, profiles
from mlpo.errors import MlpoError

if TYPE_CHECKING:
    import pandas as pd

    from mlpo.evaluate.stats import Estimate
    from mlpo.store import Store

SCHEMA_VERSION = 1
Where = Literal["recorded", "build", "any"]


class Metric(BaseModel):
    """One number: `lo` and `hi` are the 95 % interval, `n` what it was counted over."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    value: float
    lo: float | None = None
    hi: float | None = None
    n: int
    unit: str = ""


class Manifest(BaseModel):
    """results/<run_id>/manifest.json; tables lie beside it as Parquet."""

    model_config = ConfigDict(extra="forbid")
    schema_version: int = SCHEMA_VERSION
    run_id: str
    kind: str
    key: str
    inputs: list[str]
    parameters: dict[str, Any]
    payload: dict[str, Metric]
    timing: dict[str, Any]
    environment: dict[str, Any]
    _folder: Path = Path()

    @property
    def folder(self) -> Path:
        return self._folder

    def table(self, name: str) -> pd.DataFrame:
        """A Parquet table that the run wrote; MlpoError where it has none of that name."""
        import pandas as pd

        path = self._folder / f"{name}.parquet"
        if not path.exists():
            have = ", ".join(sorted(p.stem for p in self._folder.glob("*.parquet"))) or "none"
            raise MlpoError(f"The run {self.run_id} has no table {name!r}: it has {have}.")
        return pd.read_parquet(path)


def runs_folder(where: Literal["recorded", "build"]) -> Path:
    return paths.RESULTS if where == "recorded" else paths.BUILD / "runs"


def load(run_id: str, where: Where = "recorded") -> Manifest | None:
    """The manifest of a run, or None where there is none. `any`: this build's, else the recorded one."""
    if where == "any":
        return load(run_id, "build") or load(run_id, "recorded")
    path = runs_folder(where) / run_id / "manifest.json"
    if not path.exists():
        return None
    manifest = Manifest(**json.loads(path.read_text(encoding="utf-8")))
    manifest._folder = path.parent
    return manifest


def metric(key: str, where: Where = "recorded") -> Metric:
    """The metric of `run_id/name` or `run_id/name[lang]`; MlpoError names the key where it is unknown."""
    run_id, _, name = key.partition("/")
    manifest = load(run_id, where)
    if manifest is None:
        raise MlpoError(f"No run {run_id!r} is recorded (wanted for {key!r}): run and record it, or correct the key.")
    if name not in manifest.payload:
        raise MlpoError(f"The run {run_id!r} has no metric {name!r}: it has {', '.join(sorted(manifest.payload)[:20])}.")
    return manifest.payload[name]


def format_metric(m: Metric) -> str:
    """The text of a number in the book: value, unit, 95 % interval, n; e.g. "0.54 [0.48, 0.60], n = 120"."""
    signed = m.lo is not None and m.lo < 0
    width = (m.hi - m.lo) if m.lo is not None and m.hi is not None else abs(m.value)
    digits = 0 if width >= 20 else 1 if width >= 2 else 2 if width >= 0.1 else 3
    if m.lo is None and float(m.value).is_integer():
        digits = 0

    def show(value: float) -> str:
        value = round(value, digits) + 0.0  # no minus before a zero
        text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
        return text.replace("-", "−")

    unit = f" {m.unit}" if m.unit else ""
    interval = f" [{show(m.lo)}, {show(m.hi)}]" if m.lo is not None and m.hi is not None else ""
    return f"{show(m.value)}{unit}{interval}, n = {m.n}"


def environment(torch_used: bool) -> dict[str, Any]:
    """Versions and machine, for the manifest. Nothing here enters an identity."""
    names = ("numpy", "pandas", "scipy", "torch", "transformers", "trl", "peft", "bitsandbytes", "papermill")
    info: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "packages": {name: metadata.version(name).split("+")[0] for name in names},
    }
    if torch_used:
        import torch

        from mlpo.models import compute_dtype

        info |= {
            "threads": torch.get_num_threads(),
            "dtype": str(compute_dtype()).removeprefix("torch."),
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        }
    return info


class Run:
    """One execution of a chapter: its profile, inputs and outputs. Made by `chapters.start`."""

    def __init__(self, run_id: str, key: str, parameters: dict[str, Any], inputs: dict[str, list[str]]) -> None:
        self.id, self.key = run_id, key
        self.profile = profiles.load(parameters["profile"])
        self.parameters = {**parameters, "profile": self.profile.name}  # not the path of a file of this machine
        self.languages = list(self.profile.languages)
        self.seed = int(parameters.get("seed", 0))
        self._sources = inputs  # "04/completions" -> candidate run ids, best first
        self._used: dict[str, str] = {}
        self._payload: dict[str, Metric] = {}
        self.timing: dict[str, float] = {}  # speeds measured on the way; not part of what must be the same again
        self._started = time.monotonic()
        self._store: Store | None = None
        self.folder = paths.writable(runs_folder("build") / run_id, "MLPO_BUILD")
        for stale in [self.folder / "manifest.json", *self.folder.glob("*.parquet")]:
            stale.unlink(missing_ok=True)  # so that a run that fails leaves nothing that looks finished

    @property
    def store(self) -> Store:
        if self._store is None:
            from mlpo.store import Store

            self._store = Store()
        return self._store

    def _source(self, name: str) -> Manifest:
        where: Where = "build" if self.parameters.get("inputs") == "build" else "recorded"
        if name not in self._sources:
            raise MlpoError(f"The chapter does not declare the input {name!r}: add it to `mlpo.inputs` in its header.")
        for run_id in self._sources[name]:
            if manifest := load(run_id, where):
                self._used[name] = f"{manifest.run_id}:{manifest.key[:12]}"
                return manifest
        chapter = name.split("/")[0]
        raise MlpoError(
            f"The input {name!r} of {self.id} has no {'recorded run' if where == 'recorded' else 'run in this build'}: "
            f"run `mlpo run {chapter} --profile {self.profile.name} --upstream` first, then start this chapter with inputs=build."
        )

    def input(self, name: str) -> pd.DataFrame:
        """A table that another chapter wrote, cut to this profile's languages."""
        frame = self._source(name).table(name.split("/")[1])
        if "lang" in frame:
            frame = frame[frame["lang"].isin(self.languages)].reset_index(drop=True)
        return frame

    def input_dir(self, name: str) -> Path:
        """A folder that another chapter wrote (an adapter)."""
        return self._source(name).folder / name.split("/")[1]

    def table(self, name: str, frame: pd.DataFrame) -> pd.DataFrame:
        """Write a table of this run as Parquet and return it."""
        paths.write_parquet(self.folder / f"{name}.parquet", frame)
        return frame

    def keep(self, name: str, folder: Path) -> Path:
        """Copy a folder (an adapter) into this run."""
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("training.json"))
        return target

    def metric(
        self, name: str, value: float, lo: float | None = None, hi: float | None = None, *, n: int, unit: str = ""
    ) -> Metric:
        """Record one number of this run; a nan interval is stored as none, a nan value is refused."""
        if value != value or not n:
            raise MlpoError(f"The metric {name!r} of {self.id} has no value (n = {n}): its data are empty.")
        clean = lambda x: None if x is None or x != x else float(x)
        self._payload[name] = Metric(value=float(value), lo=clean(lo), hi=clean(hi), n=int(n), unit=unit)
        return self._payload[name]

    def estimate(self, name: str, e: Estimate, unit: str = "") -> Metric:
        """Record an estimate of `mlpo.evaluate.stats` with its interval."""
        return self.metric(name, e.value, e.lo, e.hi, n=e.n, unit=unit)

    def save(self) -> Manifest:
        """Write the manifest: the last act of a chapter."""
        manifest = Manifest(
            run_id=self.id,
            kind="chapter",
            key=self.key,
            inputs=sorted(f"{name}={run}" for name, run in self._used.items()),
            parameters=self.parameters,
            payload=dict(sorted(self._payload.items())),
            timing=self.timing
            | {
                "seconds": round(time.monotonic() - self._started, 1),
                "peak_memory_mb": peak_memory_mb(),
                "finished": datetime.now(UTC).strftime("%Y-%m-%d"),
            },
            environment=environment("torch" in sys.modules),
        )
        manifest._folder = self.folder
        paths.write_atomically(self.folder / "manifest.json", manifest.model_dump_json(indent=1) + "\n")
        return manifest


def peak_memory_mb() -> int:
    """Largest resident size of this process so far (ru_maxrss is in KiB on Linux, bytes on macOS)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def record(run_ids: Sequence[str]) -> list[Path]:
    """Copy finished runs of this build into results/, from where the book reads its recorded numbers.

    Policies stay behind: their answers are recorded, and results/ is kept small.
    """
    copied = []
    for run_id in run_ids:
        source, target = runs_folder("build") / run_id, runs_folder("recorded") / run_id
        if not (source / "manifest.json").exists():
            raise MlpoError(f"The run {run_id!r} is not in this build: run its chapter first.")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*", "policy", "check", "human-*"))
        for config in target.rglob("adapter_config.json"):
            write_card(config.parent, run_id)
        copied.append(target)
    return copied


def write_card(folder: Path, run_id: str) -> None:
    """The card beside a recorded adapter: what it stands on, what it is for, its terms."""
    base = "`base` (`pretrained` with the adapter of `sft`)"
    if run_id in ("sft", "translator"):
        base = "the packaged Gemma 3 270M (`pretrained`)"
    card = (paths.PACKAGE / "cards" / "adapter.md").read_text(encoding="utf-8")
    paths.write_atomically(folder / "README.md", card.format(name=folder.name, run_id=run_id, base=base))
