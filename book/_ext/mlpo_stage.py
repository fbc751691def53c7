"""Stage the chapters: copy each notebook into ``book/chapters`` in the form that its page shows."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import nbformat
from sphinx.application import Sphinx
from sphinx.config import Config

from mlpo import chapters, paths


def stage(app: Sphinx, config: Config) -> None:
    """Copy the chapters into ``book/chapters`` and note what the pages depend on."""
    target = Path(app.srcdir) / "chapters"
    target.mkdir(exist_ok=True)
    names = chapters.names()
    for stale in {path.stem for path in target.glob("*.ipynb")} - set(names):
        (target / f"{stale}.ipynb").unlink()
    for name in names:
        executed = paths.BUILD / "chapters" / config.mlpo_profile / f"{name}.ipynb"
        text = staged(name, executed if config.mlpo_profile and executed.exists() else None)
        path = target / f"{name}.ipynb"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    sources = [*Path(chapters.__file__).parent.rglob("*.py"), *paths.RESULTS.rglob("*.*")]
    sources += (paths.BUILD / "runs").glob("*/manifest.json")
    state = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(sources)]
    config.mlpo_stamp = hashlib.sha256(repr(state).encode()).hexdigest()  # a change: read all pages again


def staged(name: str, executed: Path | None) -> str:
    """The notebook of a chapter as the book shows it, as JSON text: executed, or its source alone."""
    notebook = chapters.read(name)
    if executed:
        graft(notebook, nbformat.read(executed, as_version=4))
    notebook.metadata = {
        "kernelspec": notebook.metadata.get("kernelspec", {}),
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    for cell in notebook.cells:
        if cell.cell_type == "code":
            prepare(cell)
    opening, _, rest = notebook.cells[0].source.partition("\n## ")
    numbered = f"# {name.split('_')[0]} · "
    notebook.cells[0].source = re.sub(r"^# (?!\d)", numbered, opening, count=1, flags=re.MULTILINE)
    boxes = [markdown("book-facts", f"```{{chapterfacts}} {name}\n```")]
    overview = [markdown("book-overview", f"## {rest}")] if rest else []
    closing = [markdown("book-provenance", f"```{{provenance}} {name}\n```")]
    notebook.cells[1:] = boxes + overview + notebook.cells[1:] + closing
    return nbformat.writes(notebook) + "\n"


def graft(notebook: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> None:
    """Put the outputs of an execution into the chapter as it reads now: prose may have changed since, code has not."""
    ran = [cell for cell in executed.cells if cell.cell_type == "code"]
    injected = [cell for cell in ran if "injected-parameters" in cell.metadata.get("tags", [])]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, done in zip(code, (cell for cell in ran if cell not in injected), strict=False):
        if cell.source == done.source:
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
    for position, cell in enumerate(notebook.cells):
        if "parameters" in cell.metadata.get("tags", []):
            notebook.cells[position + 1 : position + 1] = injected
            break


def markdown(identity: str, source: str) -> nbformat.NotebookNode:
    """A markdown cell that the book adds."""
    return nbformat.v4.new_markdown_cell(source, id=identity)


def prepare(cell: nbformat.NotebookNode) -> None:
    """Make a code cell fit for a page: solutions hidden, alt texts set."""
    options = cell.metadata.setdefault("mystnb", {})
    tags = cell.metadata.get("tags", [])
    if "solution" in tags:
        options |= {"code_prompt_show": "Show solution", "code_prompt_hide": "Hide solution"}
        cell.metadata["tags"] = [tag for tag in tags if tag != "hide-input"] + ["hide-cell"]
    for output in cell.outputs:
        drawn = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
        if drawn:
            known = output.metadata.get(drawn[0], {}).get("alt") or output.metadata.get("alt")
            options["image"] = {"alt": known or "Figure drawn by the code cell above."} | options.get("image", {})
