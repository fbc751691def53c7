"""What only a browser can tell: formulas are typeset and pages fit, from the file system and without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.browser
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "-n", "-b", "html", "book", str(out / "html")]
    subprocess.run(command, env={**os.environ, "MLPO_BOOK_PROFILE": ""}, cwd=ROOT, check=True)
    return out / "html"


def dom(page: Path, tmp_path: Path, query: str = "", *options: str) -> str:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "make test-browser needs Chromium: install it, e.g. apt install chromium"
    flags = [*QUIET, f"--user-data-dir={tmp_path}", "--virtual-time-budget=8000", "--dump-dom", *options]
    return subprocess.run([chromium, *flags, page.as_uri() + query], capture_output=True, text=True, check=True).stdout


def test_formulas_are_typeset_without_a_network(html, tmp_path):
    text = dom(html / "chapters" / "07_dpo.html", tmp_path, "", "--host-resolver-rules=MAP * ~NOTFOUND")
    assert text.count("<mjx-container") >= 3


def test_search_finds_a_term_from_the_file_system(html, tmp_path):
    text = dom(html / "search.html", tmp_path, "?q=leave-one-out")
    assert "08_rloo.html" in text
