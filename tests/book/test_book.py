"""The built book: no warnings, every link and image there, nothing loaded from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import ROOT

from mlpo import MlpoError, chapters, plots, results


def build(out: Path, **environment: str) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "-n", "-b", "html", "book", str(out)],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The book from recorded runs alone; an empty build folder proves that nothing was executed for it."""
    out = tmp_path_factory.mktemp("recorded")
    return build(out / "html", MLPO_BUILD=str(out / "build"), MLPO_BOOK_PROFILE="")


@pytest.fixture(scope="module")
def executed(smoke_book, tmp_path_factory):
    return build(tmp_path_factory.mktemp("executed") / "html", MLPO_BUILD=str(smoke_book), MLPO_BOOK_PROFILE="smoke")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.no_alt: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if values.get("id"):
            self.ids.add(values["id"])
        if tag in ("img", "script", "iframe", "source") and values.get("src"):
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") not in ("canonical", "license", "author"):
            self.loaded.append(values.get("href") or "")
        if tag == "img" and not (values.get("alt") or "").strip():
            self.no_alt.append(values.get("src") or "")
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


def pages(html: Path) -> dict[Path, _Page]:
    found = {}
    for path in html.rglob("*.html"):
        if "_static" not in path.parts:
            found[path] = _Page()
            found[path].feed(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("which", ["recorded", "executed"])
def test_every_link_and_image_resolves_and_nothing_is_loaded_from_elsewhere(which, request):
    read = pages(request.getfixturevalue(which))
    assert len(read) > len(chapters.names())
    wrong = []
    for path, page in read.items():
        wrong += [f"{path.name}: no alt: {src}" for src in page.no_alt if "_static" not in src]
        for url in page.loaded + page.links:
            if re.match(r"(https?:)?//|mailto:|data:", url):
                wrong += [f"{path.name} loads {url}"] if url in page.loaded and not url.startswith("data:") else []
                continue
            file, _, anchor = unquote(url).partition("#")
            target = (path.parent / file.split("?")[0]).resolve() if file else path
            if not target.exists() or (anchor and target in read and anchor not in read[target].ids):
                wrong.append(f"{path.name}: {url}")
    assert wrong == []


def test_styles_load_nothing_from_elsewhere(recorded):
    for path in (recorded / "_static").rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?https?:", path.read_text(encoding="utf-8")), path


def test_executed_pages_say_so_and_recorded_pages_show_no_outputs(recorded, executed):
    assert "this build · smoke" in (executed / "chapters" / "07_dpo.html").read_text(encoding="utf-8")
    assert "cell_output docutils" not in (recorded / "chapters" / "07_dpo.html").read_text(encoding="utf-8")


def test_every_chapter_page_has_its_costs_parameters_and_provenance(executed):
    for name in chapters.names():
        text = (executed / "chapters" / f"{name}.html").read_text(encoding="utf-8")
        assert "What this chapter costs" in text
        assert "profile" in text
        assert "Show solution" in text


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("{num}`9.9 nats, n = 8 <sft/loss_last>`", "carries `9.9 nats, n = 8`, the recorded run says"),
        ("{num}`1, n = 1 <nothing-cpu/x>`", "No run 'nothing-cpu' is recorded"),
    ],
)
def test_a_wrong_or_unknown_number_fails_the_build(tmp_path, role, said):
    book = tmp_path / "book"
    shutil.copytree(ROOT / "book", book, ignore=shutil.ignore_patterns("chapters", "_generated", "vendor"))
    (book / "bad.md").write_text(f"---\norphan: true\n---\n# Bad\n\n{role}\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(book), str(tmp_path / "html")]
    done = subprocess.run(command, env={**os.environ, "MLPO_BOOK_PROFILE": ""}, capture_output=True, text=True)
    assert done.returncode != 0
    assert said in done.stderr


def test_an_unknown_number_is_named():
    with pytest.raises(MlpoError, match="No run 'nothing-cpu' is recorded"):
        results.metric("nothing-cpu/x")
    with pytest.raises(MlpoError, match="has no metric 'x'"):
        results.metric("sft/x")


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ({"value": 0.512, "lo": 0.44, "hi": 0.581, "n": 120}, "0.51 [0.44, 0.58], n = 120"),
        ({"value": 0.81, "lo": -1.2, "hi": 2.94, "n": 230, "unit": "points"}, "+0.8 points [−1.2, +2.9], n = 230"),
        ({"value": 46.0, "n": 46}, "46, n = 46"),
        ({"value": 34.53, "lo": 20.1, "hi": 48.8, "n": 10, "unit": "chrF"}, "35 chrF [20, 49], n = 10"),
    ],
)
def test_the_text_of_a_number(metric, text):
    assert results.format_metric(results.Metric(**metric)) == text


def test_what_is_recorded_stays_small():
    files = [path for path in results.paths.RESULTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 50 * 2**20
    for manifest in results.paths.RESULTS.glob("*/manifest.json"):
        assert results.load(manifest.parent.name) is not None


def test_every_figure_has_an_alt_text_with_values(smoke_book, monkeypatch):
    monkeypatch.setattr(results.paths, "BUILD", smoke_book)
    for function, name in (
        ("fertility", "02_languages_and_tokenizers"),
        ("chrf", "03_prompts_and_translation"),
        ("reward_accuracy", "05_reward_model"),
        ("translated_wins", "06_pairs_and_mixtures"),
        ("training", "07_dpo"),
        ("training", "08_rloo"),
        ("win_rates", "10_win_rates"),
        ("score_change", "10_win_rates"),
        ("rouge", "13_summarization"),
        ("win_rates", "13_summarization"),
    ):
        figure = getattr(plots, function)([f"{name}-smoke"], where="build")
        assert re.search(r"\d", figure.alt), function
        assert len(figure.alt) > 60, function


@pytest.mark.parametrize(
    ("function", "run_id"),
    [
        ("reward_kinds", "reward"),
        ("reward_languages", "reward"),
        ("calibration", "reward"),
        ("judge_validity", "judges"),
        ("attacks", "judges"),
        ("coverage", "coverage"),
    ],
)
def test_every_recorded_figure_has_an_alt_text_with_values(function, run_id):
    figure = getattr(plots, function)([run_id], where="recorded")
    assert re.search(r"\d", figure.alt)
    assert len(figure.alt) > 60
