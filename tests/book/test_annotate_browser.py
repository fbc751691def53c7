"""The annotation form in a real JupyterLab: keys reach the file, right-to-left text stands right, a restart goes on."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from mlpo.evaluate.annotate import match_id
from mlpo.records import Match, Prompt

pytestmark = pytest.mark.browser
TOKEN = "test"
TEXTS = {
    "he": (
        "למה השמיים כחולים?",
        "אור השמש מתפזר באוויר, והאור הכחול מתפזר יותר מהאדום.\nלכן השמיים כחולים.",
        "כי ככה. <b>C++</b>, 100%!",
    ),
    "en": (
        "Why is the sky blue?",
        "Air scatters blue light more than red light.\nSo blue comes from everywhere.",
        "<b>It is</b> so.",
    ),
    "ar": ("لماذا السماء زرقاء؟", "لأن الهواء يشتت الضوء الأزرق أكثر من الأحمر.", "لا أعرف."),
}
MATCHES = [Match(Prompt(lang, lang, "dev", "open", "nature", text), a, b) for lang, (text, a, b) in TEXTS.items()]
CELL = f"""from pathlib import Path
from mlpo.evaluate.annotate import Form
from mlpo.records import Match, Prompt
TEXTS = {TEXTS!r}
matches = [Match(Prompt(lang, lang, "dev", "open", "nature", text), a, b) for lang, (text, a, b) in TEXTS.items()]
Form(matches, Path("verdicts.jsonl"), "ana")"""


@pytest.fixture
def lab(tmp_path):
    """Address and folder of a JupyterLab with one notebook; its settings and kernels' files stay in the folder."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(CELL)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "form.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR")
    environment = os.environ | {name: str(tmp_path / ".own" / name) for name in (*own, "JUPYTERLAB_WORKSPACES_DIR")}
    options = [
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--LabApp.expose_app_in_browser=True",
        f"--IdentityProvider.token={TOKEN}",
    ]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={tmp_path}"],
        env=environment,
        stdout=(tmp_path / "lab.log").open("w"),
        stderr=subprocess.STDOUT,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api?token={TOKEN}").close()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "lab.log").read_text()
                time.sleep(0.5)
        yield address, tmp_path
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def page():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "make test-browser needs Chromium: install it, e.g. apt install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(90_000)
        expect.set_options(timeout=90_000)
        yield page
        browser.close()


def verdicts(folder: Path) -> list[tuple[str, str | None]]:
    path = folder / "verdicts.jsonl"
    return [(row["match"], row["verdict"]) for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())]


def press(page: Page, folder: Path, key: str, then: str) -> tuple[Match, str | None, list[str]]:
    """Press a key, wait for the status, and give the match and verdict on the disk's last line, and the texts shown before."""
    texts, count = page.locator(".mlpo-text").all_text_contents(), len(verdicts(folder))
    page.keyboard.press(key)
    expect(page.locator(".mlpo-status")).to_have_text(then)
    assert len(verdicts(folder)) == count + 1
    found, verdict = verdicts(folder)[-1]
    return next(m for m in MATCHES if match_id(m) == found), verdict, texts


def contrast(page: Page, selector: str) -> float:
    """WCAG contrast of a text against the nearest background that is not transparent."""
    colours = page.locator(selector).first.evaluate(
        """node => { const found = [getComputedStyle(node).color];
        for (; node; node = node.parentElement) { const c = getComputedStyle(node).backgroundColor;
            if (!/, 0\\)$|transparent/.test(c)) { found.push(c); break; } }
        return found.map(c => c.match(/[\\d.]+/g).map(Number)); }"""
    )
    light = sorted(sum(w * (v / 255) ** 2.2 for w, v in zip((0.2126, 0.7152, 0.0722), c, strict=False)) for c in colours)
    return (light[1] + 0.05) / (light[0] + 0.05)


def test_keys_files_direction_restart_and_dark_theme(lab, page, tmp_path):
    address, folder = lab
    page.goto(f"{address}/lab/tree/form.ipynb?token={TOKEN}")
    page.locator(".jp-CodeCell .cm-content").click()
    page.keyboard.press("Control+Enter")
    form, status = page.locator(".mlpo-form"), page.locator(".mlpo-status")
    expect(status).to_have_text("1 of 3")
    form.locator(".mlpo-foot").click()
    expect(form).to_be_focused()

    def look(name: str) -> None:
        lang = page.locator(".mlpo-text").first.get_attribute("lang")
        assert page.locator(".mlpo-text").first.get_attribute("dir") == ("rtl" if lang in ("he", "ar") else "ltr")
        assert page.locator(".mlpo-text b, .mlpo-text img").count() == 0
        for selector in (".mlpo-text", ".mlpo-side .mlpo-text", ".mlpo-side h4", ".mlpo-foot", ".mlpo-left", ".mlpo-left kbd"):
            assert contrast(page, selector) >= 4.5, selector
        form.screenshot(path=tmp_path / f"{name}-{lang}.png")

    look("light")
    seen = [page.locator(".mlpo-text").first.get_attribute("lang")]
    match, verdict, texts = press(page, folder, "b", "2 of 3")
    assert (texts[2], seen) == (match.a if verdict == "A" else match.b, [match.prompt.lang])
    look("light")
    seen.append(page.locator(".mlpo-text").first.get_attribute("lang"))
    second, verdict, _ = press(page, folder, "t", "3 of 3")
    assert (verdict, second.prompt.lang) == ("tie", seen[1])
    look("light")
    assert {"he", "ar"} & set(seen)
    assert press(page, folder, "u", "2 of 3")[:2] == (second, None)
    page.evaluate("""document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: "ש", code: "KeyA", bubbles: true}))""")
    expect(status).to_have_text("3 of 3")  # the key in the place of A on a Hebrew keyboard
    assert press(page, folder, "u", "2 of 3")[:2] == (second, None)
    match, verdict, texts = press(page, folder, "a", "3 of 3")
    assert (match, texts[1]) == (second, second.a if verdict == "A" else second.b)
    assert page.locator(".jp-CodeCell").count() == 1  # a and b inserted no cells

    form.evaluate("node => node.setAttribute('data-old', '')")
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_text("Restart Kernel and Run All Cells…").click()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    expect(page.locator(".mlpo-form:not([data-old])")).to_be_visible()
    expect(status).to_have_text("3 of 3")
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-name", "JupyterLab Dark")
    look("dark")
    form.locator(".mlpo-foot").click()
    press(page, folder, "u", "2 of 3")
    look("dark")
    press(page, folder, "a", "3 of 3")
    page.get_by_role("button", name="Tie: neither answer is better").click()
    expect(status).to_contain_text("Done: all 3")
    form.screenshot(path=tmp_path / "dark-done.png")
    expect(form).to_be_focused()
    press(page, folder, "u", "3 of 3")
