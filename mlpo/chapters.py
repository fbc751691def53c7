"""Run chapters: jupytext -> check parameters -> cache key -> papermill -> manifest -> executed notebook."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from mlpo import paths, profiles, results
from mlpo.errors import MlpoError
from mlpo.models import digest, file_sha256, fingerprint

TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


class ChapterFailed(Exception):
    """A cell raised, or a limit was passed; the message shows the cell and the end of its error."""


@dataclass(frozen=True)
class Parameter:
    """A line of a chapter's parameters cell. `low`..`high` or `choices` come from the start of its comment."""

    name: str
    type: str
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def valid(self) -> str:
        if self.choices:
            return " | ".join(self.choices)
        return f"{self.type} in {self.low:g}..{self.high:g}" if self.low is not None else self.type


def names() -> list[str]:
    """All chapters, in order, e.g. "07_dpo"."""
    return sorted(path.stem for path in paths.NOTEBOOKS.glob("[0-9]*.py"))


def find(chapter: str) -> str:
    """Full name of a chapter given by number or name; MlpoError lists the chapters where there is none."""
    wanted = chapter.zfill(2)
    for name in names():
        if name == chapter or name.split("_")[0] == wanted:
            return name
    raise MlpoError(f"Unknown chapter {chapter!r}: choose one of {', '.join(names())}.")


def read(name: str) -> nbformat.NotebookNode:
    """The chapter's source (percent format) as a notebook, with cell ids derived from the content and no outputs."""
    notebook = jupytext.read(paths.NOTEBOOKS / f"{name}.py")
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        base = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[base] = seen.get(base, 0) + 1
        cell.id = base if seen[base] == 1 else f"{base}-{seen[base]}"
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def metadata(name: str) -> dict[str, Any]:
    """What the chapter's header says under `mlpo`, e.g. its inputs."""
    return dict(read(name).metadata.get("mlpo", {}))


@cache
def parameters(name: str) -> tuple[Parameter, ...]:
    """The parameters of a chapter, as papermill infers them from the tagged cell. MlpoError where one is not documented."""
    from papermill import inspect_notebook

    source = _source_file(name)
    found = []
    for entry in inspect_notebook(str(source)).values():
        kind, help_text = entry["inferred_type_name"], entry["help"] or ""
        if kind not in TYPES or not help_text:
            raise MlpoError(f"Chapter {name}, parameter {entry['name']!r}: write `{entry['name']}: type = value  # help`.")
        rule, _, rest = help_text.partition(";")
        low = high = None
        choices: tuple[str, ...] = ()
        if match := re.fullmatch(r"\s*(\S+?)\.\.(\S+?)\s*", rule):
            low, high, help_text = float(match[1]), float(match[2]), rest.strip()
        elif " | " in rule and rest:
            choices, help_text = tuple(part.strip() for part in rule.split(" | ")), rest.strip()
        default = _literal(entry["default"], kind)
        found.append(Parameter(entry["name"], kind, default, help_text, low, high, choices))
    return tuple(found)


def _source_file(name: str) -> Path:
    path = paths.writable(paths.BUILD / "source", "MLPO_BUILD") / f"{name}.ipynb"
    paths.write_atomically(path, nbformat.writes(read(name)) + "\n")
    return path


def _literal(text: str, kind: str) -> Any:
    if kind == "str":
        return text.strip("\"'")
    return text == "True" if kind == "bool" else TYPES[kind](text)


def check(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a chapter with `given` values (or texts) put in; MlpoError lists the valid ones."""
    known = {parameter.name: parameter for parameter in parameters(name)}
    values = {parameter.name: parameter.default for parameter in known.values()}
    listing = "; ".join(f"{p.name}: {p.valid}" for p in known.values())
    for key, raw in given.items():
        if key not in known:
            raise MlpoError(f"Chapter {name} has no parameter {key!r}; it has: {listing}.")
        parameter = known[key]
        try:
            if isinstance(raw, str) and parameter.type == "bool":
                value: Any = {"true": True, "false": False}[raw.lower()]
            else:
                value = TYPES[parameter.type](raw)
                if parameter.type == "int" and float(raw) != value:
                    raise ValueError
        except (ValueError, KeyError, TypeError):
            raise MlpoError(f"Chapter {name}, parameter {key!r}: {raw!r} is not {parameter.valid}.") from None
        outside = parameter.low is not None and not parameter.low <= value <= (parameter.high or 0)
        # `profile` also takes the path of a YAML file, which profiles.load checks
        unlisted = parameter.choices and key != "profile" and value not in parameter.choices
        if outside or unlisted:
            raise MlpoError(f"Chapter {name}, parameter {key!r}: {value!r} is not {parameter.valid}.")
        values[key] = value
    profiles.load(values["profile"])
    if values["profile"] not in profiles.NAMES:
        values["profile"] = str(Path(values["profile"]).resolve())  # the notebook runs in another folder
    return values


def run_id(name: str, values: Mapping[str, Any]) -> str:
    """`07_dpo-cpu`; with parameters off their defaults a hash of those is appended. `inputs` does not count."""
    profile = profiles.load(values["profile"]).name if "profile" in values else "cpu"
    other = {
        p.name: values[p.name] for p in parameters(name) if p.name not in ("profile", "inputs") and values[p.name] != p.default
    }
    return f"{name}-{profile}" + (f"-{digest(other)[:8]}" if other else "")


def _candidates(name: str, profile: profiles.Profile) -> dict[str, list[str]]:
    """Run ids that may hold each declared input. Profiles on the packaged base fall back on what `cpu` recorded."""
    found = {}
    for entry in metadata(name).get("inputs", []):
        chapter = find(entry.split("/")[0])
        fallback = [f"{chapter}-cpu"] if profile.models.base == "base" and profile.name != "cpu" else []
        found[entry] = [f"{chapter}-{profile.name}", *fallback]
    return found


def start(name: str, **values: Any) -> results.Run:
    """Begin a chapter: called by its second code cell with all of its parameters."""
    checked = check(name, values)
    profile = profiles.load(checked["profile"])
    return results.Run(run_id(name, checked), key(name, checked)["key"], checked, _candidates(name, profile))


# --- cache -----------------------------------------------------------------------------------------------------------


@cache
def _package_hash() -> str:
    """Content of everything in mlpo/ (code, profiles, seed set), so that no chapter goes stale when a helper changes."""
    whole = hashlib.sha256()
    for path in sorted(paths.PACKAGE.rglob("*")):
        if path.suffix in (".py", ".yaml", ".jsonl", ".json"):
            whole.update(path.relative_to(paths.PACKAGE).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()


def key(name: str, values: Mapping[str, Any]) -> dict[str, str]:
    """The parts of a chapter's cache key and, under "key", their hash."""
    code = [cell.source for cell in read(name).cells if cell.cell_type == "code"]
    lock = paths.ROOT / "requirements.lock"
    profile = profiles.load(values["profile"])
    where: results.Where = "build" if values.get("inputs") == "build" else "recorded"
    inputs = {}
    for entry, candidates in _candidates(name, profile).items():
        manifest = next((m for candidate in candidates if (m := results.load(candidate, where))), None)
        inputs[entry] = _state(manifest)
    for entry in metadata(name).get("recorded", []):  # runs that are no chapter, e.g. the reward model
        inputs[entry] = _state(results.load(entry))
    parts = {
        "code cells": digest(code),
        "parameters": digest({**values, "profile": profile.model_dump()}),
        "models": digest([fingerprint(getattr(profile.models, role)) for role in ("base", "weak", "translator")]),
        "prompts": file_sha256(Path(profile.prompts)) if profile.prompts and Path(profile.prompts).exists() else "",
        "mlpo/": _package_hash(),
        "requirements.lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else "none",
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "inputs": digest(inputs),
    }
    return {**parts, "key": digest(parts)}


def _state(manifest: results.Manifest | None) -> str:
    return digest([manifest.key, manifest.model_dump(include={"payload"})]) if manifest else "missing"


def executed(name: str, values: Mapping[str, Any]) -> Path:
    """Where the executed notebook of a run lies."""
    identity = run_id(name, values)
    profile = profiles.load(values["profile"]).name
    file = f"{name}.ipynb" if identity == f"{name}-{profile}" else f"{identity}.ipynb"
    return paths.BUILD / "chapters" / profile / file


def why_stale(name: str, values: Mapping[str, Any]) -> str:
    """Empty where the chapter's last run still stands, else the reason why it runs again."""
    record = executed(name, values).with_suffix(".key.json")
    if not record.exists() or results.load(run_id(name, values), "build") is None:
        return "it has not run yet"
    before, now = json.loads(record.read_text(encoding="utf-8")), key(name, values)
    changed = [part for part in now if part != "key" and before.get(part) != now[part]]
    return f"changed: {', '.join(changed)}" if changed else ""


# --- running ---------------------------------------------------------------------------------------------------------


@contextmanager
def _limit(seconds: int, name: str) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise ChapterFailed(f"Chapter {name} passed its limit of {seconds} s (profile key limits.chapter_seconds).")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def run(
    chapter: str, given: Mapping[str, Any], *, upstream: bool = False, force: bool = False, say: Any = print
) -> results.Manifest:
    """Execute one chapter unless its last run still stands; `upstream` first does the same for the chapters it reads from.

    Raises MlpoError for bad parameters and inputs, and ChapterFailed where a cell fails or a limit is passed.
    """
    name = find(chapter)
    if upstream:
        shared = {k: v for k, v in given.items() if k in ("profile",)}
        for source in dict.fromkeys(find(entry.split("/")[0]) for entry in metadata(name).get("inputs", [])):
            run(source, shared, upstream=True, say=say)
        if any(p.name == "inputs" for p in parameters(name)):
            given = {**given, "inputs": "build"}
    values = check(name, given)
    identity, out = run_id(name, values), executed(name, values)
    reason = "asked to" if force else why_stale(name, values)
    if not reason:
        say(f"{identity}: nothing changed, kept")
    else:
        say(f"{identity}: runs ({reason}; {_last_time(identity)})")
        started = time.monotonic()
        _execute(name, values, out)
        say(f"{identity}: done in {time.monotonic() - started:.0f} s")
    manifest = results.load(identity, "build")
    if manifest is None:
        raise ChapterFailed(f"Chapter {name} ended without a manifest: its last code cell must be `run.save()`.")
    return manifest


def _last_time(identity: str) -> str:
    manifest = results.load(identity, "any")
    return f"last time {manifest.timing['seconds']:.0f} s" if manifest else "never timed"


def _execute(name: str, values: dict[str, Any], out: Path) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    limits = profiles.load(values["profile"]).limits
    paths.writable(out.parent, "MLPO_BUILD")
    part = out.with_suffix(".part.ipynb")
    stamp = key(name, values)
    quiet = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_TELEMETRY": "1"}
    before = {k: os.environ.get(k) for k in quiet}
    os.environ.update(quiet)
    try:
        with _limit(limits.chapter_seconds, name):
            papermill.execute_notebook(
                str(_source_file(name)),
                str(part),
                parameters=values,
                cwd=str(paths.NOTEBOOKS),
                kernel_name="python3",
                execution_timeout=limits.cell_seconds,
                progress_bar=False,
            )
    except PapermillExecutionError as error:
        if error.ename == "MlpoError":
            raise MlpoError(f"{error.evalue} (Chapter {name}; what ran is in {part}.)") from None
        end = "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", line) for line in error.traceback)[-1500:]
        raise ChapterFailed(f"Chapter {name} failed in this cell:\n\n{error.source}\n\n{end}\n\nWhat ran is in {part}.") from None
    except DeadKernelError:
        hint = "the memory was probably exhausted: lower budget.block, or take a smaller profile"
        raise ChapterFailed(f"Chapter {name}: its kernel died; {hint}. What ran is in {part}.") from None
    except TimeoutError as error:
        raise ChapterFailed(
            f"Chapter {name}: a cell passed its limit of {limits.cell_seconds} s; what ran is in {part}."
        ) from error
    finally:
        for variable, value in before.items():
            os.environ.pop(variable) if value is None else os.environ.__setitem__(variable, value)
    os.replace(part, out)
    paths.write_atomically(out.with_suffix(".key.json"), json.dumps(stamp, indent=1))


def book(profile: str, say: Any = print) -> list[results.Manifest]:
    """Every chapter in order, each on what this build's earlier chapters made; finished ones are kept."""
    todo = names()
    last = {name: results.load(f"{name}-{profiles.load(profile).name}", "any") for name in todo}
    seconds = {name: m.timing["seconds"] + 8 if m else 120.0 for name, m in last.items()}
    say(f"{len(todo)} chapters with profile {profile}; when last recorded they took:")
    for name in todo:
        say(f"  {name:32} " + (f"{seconds[name]:5.0f} s" if last[name] else "   not recorded yet"))
    done = []
    for position, name in enumerate(todo, 1):
        left = sum(seconds[other] for other in todo[position - 1 :])
        say(f"[{position}/{len(todo)}] {name}, about {left / 60:.0f} min left")
        has_inputs = any(p.name == "inputs" for p in parameters(name))
        done.append(run(name, {"profile": profile} | ({"inputs": "build"} if has_inputs else {}), say=say))
    return done


def product(given: Mapping[str, str]) -> list[dict[str, str]]:
    """All combinations of comma-separated values: {"beta": "0.03,0.1"} -> [{"beta": "0.03"}, {"beta": "0.1"}]."""
    options = [[(key, part) for part in value.split(",")] for key, value in given.items()]
    return [dict(combination) for combination in itertools.product(*options)]


# --- pairs -----------------------------------------------------------------------------------------------------------


def _cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(c.cell_type, c.source, tuple(c.metadata.get("tags", []))) for c in notebook.cells]


def paired(name: str) -> Path:
    return paths.NOTEBOOKS / f"{name}.ipynb"


def sync(chapters: Sequence[str] | None = None) -> list[str]:
    """Bring both halves of each pair in step and strip outputs; where they differ, the half saved last wins.

    Returns the files that changed.
    """
    changed = []
    for name in chapters or names():
        source, pair = paths.NOTEBOOKS / f"{name}.py", paired(name)
        if pair.exists() and pair.stat().st_mtime > source.stat().st_mtime:
            saved = nbformat.read(pair, as_version=4)
            if _cells(saved) != _cells(read(name)):
                text = jupytext.writes(saved, fmt="py:percent")
                paths.write_atomically(source, text)
                changed.append(source.name)
        text = nbformat.writes(read(name)) + "\n"
        if not pair.exists() or pair.read_text(encoding="utf-8") != text:
            paths.write_atomically(pair, text)
            changed.append(pair.name)
    return changed


NUM = re.compile(r"\{num\}`(?P<text>[^`<]*?)\s*<(?P<key>[^<>`]+)>`")


def refresh_numbers(write: bool = True) -> list[str]:
    """Bring the text carried by each {num} role, in chapters and pages, in step with its recorded run.

    Raises MlpoError for an unknown key. With `write=False` the files are left alone. Returns those that differ.
    """
    changed = []
    for path in [*sorted(paths.NOTEBOOKS.glob("[0-9]*.py")), *sorted((paths.ROOT / "book").glob("[a-z]*.md"))]:
        text = path.read_text(encoding="utf-8")
        fresh = NUM.sub(lambda m: f"{{num}}`{results.format_metric(results.metric(m['key']))} <{m['key']}>`", text)
        if fresh != text:
            changed.append(path.name)
            if write:
                paths.write_atomically(path, fresh)
    return changed


def sync_check() -> list[str]:
    """Files that `sync` would change; nothing is written."""
    stale = [n for n in names() if not paired(n).exists() or paired(n).read_text("utf-8") != nbformat.writes(read(n)) + "\n"]
    return refresh_numbers(write=False) + [f"{name}.ipynb" for name in stale]
