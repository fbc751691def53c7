"""pyproject.toml (bounds), requirements.lock (pins), environment.yml (conda) and the make targets say the same."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mlpo.models import PACKAGED

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# The data sets of the extra human-data are nobody's dependency: not locked.
EXTRAS = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name != "human-data"}
BOUNDS = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]


def lines(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pins(name: str) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in lines(name):
        requirement = Requirement(line)
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-models.lock"])
def test_lock_lines_are_plain_pins(name: str) -> None:
    for line in lines(name):
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+( ; .+)?", line), line


def test_lock_holds_nothing_of_a_cuda_build_and_no_models() -> None:
    foreign = [name for name in pins("requirements.lock") if re.match(r"nvidia-|cuda-|triton|llm-|gemma|llama", name)]
    assert foreign == []


@pytest.mark.parametrize("bound", BOUNDS)
def test_pin_lies_within_its_bound(bound: str) -> None:
    wanted, locked = Requirement(bound), pins("requirements.lock")
    name = canonicalize_name(wanted.name)
    assert name in locked, f"{name} is not locked: run `make lock`"
    for pin in locked[name]:
        assert wanted.specifier.contains(version(pin), prereleases=True), f"{pin} against {bound}: run `make lock`"


def test_environment_has_the_locked_versions() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, by_pip = environment["dependencies"]
    assert by_pip == {"pip": lines("requirements.lock")}, "run `make lock`"
    assert pip == "pip"
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))


def test_models_lock_has_the_packages_that_the_code_reads() -> None:
    locked = set(pins("requirements-models.lock"))
    assert locked >= {canonicalize_name(name) for model in PACKAGED.values() for name in model.packages}


@pytest.mark.parametrize("caller", [".ci/run", ".github/workflows/book.yml"])
def test_ci_calls_targets_that_exist(caller: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    called = set(re.findall(r"(?:^|run: )make ([a-z-]+)$", (ROOT / caller).read_text(encoding="utf-8"), re.M))
    assert called
    assert called <= targets
