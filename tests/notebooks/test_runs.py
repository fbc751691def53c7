"""Every chapter really runs, through the real runner, on the real packaged models (profile smoke)."""

from __future__ import annotations

import json
import shutil

import nbformat
import pytest
from conftest import mlpo

from mlpo import chapters, paths

NAMES = chapters.names()


def _manifest(build, run_id):
    return json.loads((build / "runs" / run_id / "manifest.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_every_chapter_ran_and_left_a_manifest(smoke_book, name):
    manifest = _manifest(smoke_book, f"{name}-smoke")
    assert manifest["payload"]
    assert all(metric["n"] >= 1 for metric in manifest["payload"].values())
    executed = nbformat.read(smoke_book / "chapters" / "smoke" / f"{name}.ipynb", as_version=4)
    code = [cell for cell in executed.cells if cell.cell_type == "code" and cell.source]
    assert all(cell.execution_count for cell in code)


def test_a_chapter_that_runs_no_model_imports_no_torch(smoke_book):
    for name in ("00_start_here", "01_paper_and_claims", "02_languages_and_tokenizers"):
        assert "threads" not in _manifest(smoke_book, f"{name}-smoke")["environment"], name


def test_the_book_trained_on_what_it_made(smoke_book):
    inputs = _manifest(smoke_book, "10_win_rates-smoke")["inputs"]
    assert [entry.split("=")[0] for entry in inputs] == ["07/answers", "08/answers"]
    keys = {name: _manifest(smoke_book, f"{name}-smoke")["key"][:12] for name in ("07_dpo", "08_rloo")}
    assert [entry.split(":")[1] for entry in inputs] == [keys["07_dpo"], keys["08_rloo"]]


def test_a_second_book_runs_nothing_again(smoke_book):
    done = mlpo("book", "--profile", "smoke", build=smoke_book)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("nothing changed, kept") == len(NAMES)


def test_other_parameters_are_a_run_of_their_own_and_several_give_a_table_and_a_figure(smoke_book):
    done = mlpo("run", "01", "--profile", "smoke", "-p", "prompts=20,40", build=smoke_book)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": runs (it has not run yet") == 2
    (folder,) = (smoke_book / "sweeps").iterdir()
    assert (folder / "table.csv").read_text().startswith("prompts,")
    assert (folder / "figure.svg").stat().st_size > 1000


def test_a_changed_helper_makes_a_chapter_stale_and_the_reason_is_said(monkeypatch, smoke_book, tmp_path):
    monkeypatch.setattr(chapters.paths, "BUILD", smoke_book)
    values = chapters.check("01_paper_and_claims", {"profile": "smoke"})
    assert chapters.why_stale("01_paper_and_claims", values) == ""
    package = tmp_path / "mlpo"
    shutil.copytree(paths.PACKAGE, package)
    (package / "corruptions.py").write_text((package / "corruptions.py").read_text() + "\n# changed\n")
    monkeypatch.setattr(chapters.paths, "PACKAGE", package)
    chapters._package_hash.cache_clear()
    assert chapters.why_stale("01_paper_and_claims", values) == "changed: mlpo/"
    chapters._package_hash.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "42"], "Unknown chapter '42'"),
        (["run", "07", "-p", "bta=1"], "no parameter 'bta'"),
        (["run", "07", "-p", "beta"], "is not name=value"),
        (["run", "07", "--profile", "nowhere.yaml"], "Unknown profile 'nowhere.yaml'"),
        (["book", "--profile", "huge"], "Unknown profile 'huge'"),
        (["record", "99_nothing-cpu"], "is not in this build"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, arguments, said):
    done = mlpo(*arguments, build=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_chapter_shows_its_cell_and_error_and_keeps_what_ran(tmp_path, monkeypatch):
    name = "01_paper_and_claims"
    text = (paths.NOTEBOOKS / f"{name}.py").read_text()
    (tmp_path / f"{name}.py").write_text(text.replace("_ = run.save()", "broken = 1 / 0\n_ = run.save()"))
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    chapters.parameters.cache_clear()
    with pytest.raises(chapters.ChapterFailed) as error:
        chapters.run("1", {"profile": "smoke"})
    chapters.parameters.cache_clear()
    assert "broken = 1 / 0" in str(error.value)
    assert "ZeroDivisionError" in str(error.value)
    kept = nbformat.read(tmp_path / "build" / "chapters" / "smoke" / f"{name}.part.ipynb", as_version=4)
    assert any(cell.get("execution_count") for cell in kept.cells)


def test_an_input_that_nobody_recorded_is_named_with_the_command_that_makes_it(tmp_path):
    """Chapter 06 under a profile for which nothing is recorded, started without --upstream."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: smoke\nmodels: {base: pretrained}\n")
    done = mlpo("run", "06", "--profile", str(mine), build=tmp_path / "build")
    assert done.returncode == 2
    assert "The input '04/completions' of 06_pairs_and_mixtures-mine has no recorded run" in done.stderr
    assert "--upstream" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_chapter_starts_from_recorded_inputs_without_another_having_run(tmp_path):
    done = mlpo("run", "06", "--profile", "smoke", build=tmp_path)
    assert done.returncode == 0, done.stderr
    inputs = _manifest(tmp_path, "06_pairs_and_mixtures-smoke")["inputs"]
    assert [entry.split("=")[1].split(":")[0] for entry in inputs] == ["04_completions-cpu"]


def test_a_bad_prompt_file_of_the_users_stops_the_chapter_with_one_sentence(tmp_path):
    row = {"id": "1", "text": "Kar neden beyaz görünür, oysa buz saydamdır ve ikisi de sudur?"}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(row))
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: smoke\nprompts: {tmp_path / 'prompts.jsonl'}\n")
    done = mlpo("run", "03", "--profile", str(mine), build=tmp_path / "build")
    assert done.returncode == 2
    assert "Nothing is left of" in done.stderr
    assert "'not English': 1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    done = mlpo("doctor", build=tmp_path / "build", MLPO_CACHE=str(tmp_path / "file" / "cache"))
    assert done.returncode == 2
    assert "set MLPO_CACHE to another folder" in done.stderr


def test_a_chapter_past_its_limit_is_stopped(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: smoke\nlimits: {chapter_seconds: 2}\n")
    done = mlpo("run", "01", "--profile", str(mine), build=tmp_path / "build")
    assert done.returncode == 1
    assert "passed its limit of 2 s (profile key limits.chapter_seconds)" in done.stderr


def test_doctor_names_licence_and_origin(tmp_path):
    done = mlpo("doctor", build=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "re-upload by an unknown packager" in done.stdout
    assert "Gemma Terms of Use" in done.stdout
