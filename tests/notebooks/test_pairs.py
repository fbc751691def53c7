"""Chapters as files: halves in step, parameters documented, prose around short code."""

from __future__ import annotations

import re
import shutil
import time

import nbformat
import pytest

from mlpo import MlpoError, chapters, cli, paths

NAMES = chapters.names()


def test_both_halves_of_every_pair_are_in_step_and_numbers_are_fresh():
    assert chapters.sync_check() == []


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_half_has_no_outputs_and_ids_from_its_content(name):
    saved = nbformat.read(chapters.paired(name), as_version=4)
    assert [cell.id for cell in saved.cells] == [cell.id for cell in chapters.read(name).cells]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in saved.cells)


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_keeps_its_form(name):
    cells = chapters.read(name).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert prose[0].startswith("# ")
    assert "**You will be able to**" in prose[0]
    assert "**Before this chapter**" in prose[0]
    assert any("What's next" in text for text in prose)
    assert any("## Exercise" in text for text in prose)
    assert any({"solution", "hide-input"} <= set(cell.metadata.get("tags", [])) for cell in code)
    assert not any(re.search(r"^(import|from) \w+", text, re.MULTILINE) for text in prose if "```" not in text)
    assert len(code) <= 25
    assert any("run.save()" in cell.source for cell in code)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_typed_and_documented(name):
    found = {p.name: p for p in chapters.parameters(name)}
    assert {"profile", "seed"} <= set(found)
    assert ("inputs" in found) == bool(chapters.metadata(name)["inputs"])
    for parameter in found.values():
        chapters.check(name, {parameter.name: parameter.default})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"typo": "1"}, "no parameter 'typo'; it has: profile: smoke | cpu"),
        ({"beta": "much"}, "parameter 'beta': 'much' is not float in 0.001..10"),
        ({"beta": "11"}, "parameter 'beta': 11.0 is not float in 0.001..10"),
        ({"seed": "1.5"}, "parameter 'seed': '1.5' is not int"),
        ({"four_bit": "maybe"}, "parameter 'four_bit': 'maybe' is not bool"),
        ({"mixture": "ML-7"}, "parameter 'mixture': 'ML-7' is not EN-1 | ML-5 | ML-23"),
        ({"profile": "huge"}, "Unknown profile 'huge'"),
    ],
)
def test_a_bad_parameter_is_refused_with_the_valid_ones(given, said):
    with pytest.raises(MlpoError) as error:
        chapters.check("07_dpo", given)
    assert said in str(error.value)


def test_an_unknown_chapter_is_refused_with_the_list():
    with pytest.raises(MlpoError, match="Unknown chapter '42': choose one of 00_start_here"):
        chapters.find("42")
    assert chapters.find("7") == chapters.find("07_dpo") == "07_dpo"


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """One chapter in a folder of its own, to be edited."""
    for half in (chapters.paired("01_paper_and_claims"), paths.NOTEBOOKS / "01_paper_and_claims.py"):
        shutil.copy(half, tmp_path)
    shutil.copy(paths.ROOT / "jupytext.toml", tmp_path)
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    return tmp_path / "01_paper_and_claims.py", tmp_path / "01_paper_and_claims.ipynb"


def test_sync_takes_over_what_jupyterlab_saved_and_strips_outputs(copied):
    source, pair = copied
    saved = nbformat.read(pair, as_version=4)
    saved.cells[0].source += "\n\nA line written in JupyterLab."
    code = next(cell for cell in saved.cells if cell.cell_type == "code")
    code.outputs, code.execution_count = [nbformat.v4.new_output("stream", text="out")], 3
    for cell in saved.cells:
        cell.id = f"random-{id(cell) % 99999}"
    time.sleep(0.02)
    nbformat.write(saved, pair)
    assert chapters.sync() == [source.name, pair.name]
    assert "A line written in JupyterLab." in source.read_text()
    assert '"outputs": []' in pair.read_text()
    assert "random-" not in pair.read_text()
    assert chapters.sync() == []


def test_the_sync_command_keeps_an_edit_of_jupyterlab_beside_a_stale_number(copied, monkeypatch):
    source, pair = copied
    monkeypatch.setattr(paths, "ROOT", source.parent)
    text = source.read_text()
    source.write_text(re.sub(r"(\{num\}`)[^<]*", r"\g<1>0.5, n = 1 ", text))
    chapters.sync()
    saved = nbformat.read(pair, as_version=4)
    saved.cells[0].source += "\n\nA line written in JupyterLab."
    time.sleep(0.02)
    nbformat.write(saved, pair)
    cli.sync(check=False)
    assert "A line written in JupyterLab." in source.read_text()
    assert chapters.sync_check() == []


def test_sync_takes_over_what_an_editor_saved(copied):
    source, pair = copied
    time.sleep(0.02)
    source.write_text(source.read_text().replace("# # The paper and its claims", "# # The paper, again"))
    assert chapters.sync() == [pair.name]
    assert "# The paper, again" in pair.read_text()
