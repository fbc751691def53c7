"""Small formats, labels and docutils nodes of the book's extension."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from docutils import nodes

from mlpo import languages


# Labels and small formats ---------------------------------------------------------------------------------
def profile_of(manifest: Any) -> str:
    """The profile a run was made with."""
    return str(manifest.parameters.get("profile") or "".join(manifest.run_id.split("-")[1:2]))


def date_of(manifest: Any) -> str:
    """The day on which a run finished, as an ISO date."""
    return str(manifest.timing.get("finished") or "")[:10]


def label(kind: str, manifest: Any, n: str = "") -> str:
    """A visible label such as ``recorded · cpu · n = 230 · 2026-01-31``."""
    return " · ".join(part for part in (kind, profile_of(manifest), n, date_of(manifest)) if part)


def sample_sizes(figure: Any, manifests: Iterable[Any]) -> str:
    """``n = 230``, or a range over the runs' metrics; a figure that sets ``.n`` knows better."""
    known = getattr(figure, "n", None)
    sizes = [known] if known else [m.n for run in manifests for m in run.payload.values() if m.n]
    if not sizes:
        return ""
    return f"n = {sizes[0]}" if min(sizes) == max(sizes) else f"n = {min(sizes)} to {max(sizes)}"


def duration(seconds: float) -> str:
    """Seconds as ``48 s`` or ``2 min 51 s``."""
    minutes, rest = divmod(round(seconds), 60)
    text = f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def flat(value: Any) -> str:
    """A nested value of a manifest in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {flat(item)}" for name, item in value.items())
    return ", ".join(map(flat, value)) if isinstance(value, list | tuple) else str(value)


def show(value: Any) -> str:
    """One cell of a data table: floats with three significant digits, never an exponent above 0.0001."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list) and all(isinstance(turn, dict) and "content" in turn for turn in value):
        return "\n".join(str(turn["content"]) for turn in value)
    if value is None or str(value) in ("nan", "<NA>", "NaT"):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


# Nodes ----------------------------------------------------------------------------------------------------
def paragraph(text: str, *classes: str) -> nodes.paragraph:
    """A paragraph of plain text."""
    return nodes.paragraph("", text, classes=list(classes))


def table(header: Sequence[str], rows: Iterable[Sequence[str | nodes.Node]], *classes: str) -> nodes.table:
    """A table of plain strings or nodes."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in header), cols=len(header))
    for part, lines in ((nodes.thead(), [header] if any(header) else []), (nodes.tbody(), rows)):
        for line in lines:
            cells = [cell if isinstance(cell, nodes.Node) else paragraph(str(cell)) for cell in line]
            part += nodes.row("", *(nodes.entry("", cell) for cell in cells))
        if part.children:
            group += part
    return nodes.table("", group, classes=["mlpo-table", *classes])


def inline(text: str, *classes: str) -> nodes.paragraph:
    """A paragraph in which `backticks` mark code."""
    parts = enumerate(text.split("`"))
    children = [nodes.literal("", part) if odd % 2 else nodes.Text(part) for odd, part in parts]
    return nodes.paragraph("", "", *children, classes=list(classes))


def folded(title: str, *children: nodes.Node) -> list[nodes.Node]:
    """A box that opens on a click, without a script."""
    summary = f'<details class="book-box"><summary>{html.escape(title)}</summary>'
    return [nodes.raw("", summary, format="html"), *children, nodes.raw("", "</details>", format="html")]


def not_run(run_id: str) -> nodes.container:
    """The dashed box that stands where a recorded run is missing."""
    chapter, _, rest = run_id.partition("-")
    command = f"mlpo run {chapter.split('_')[0]} --profile {rest.split('-')[0] or 'cpu'}"
    text = inline(f"The run `{run_id}` has not been recorded. To make it, call `{command}`.")
    return nodes.container("", paragraph("Not run yet", "box-title"), text, classes=["book-box", "not-run"])


def foreign(text: str, code: str) -> nodes.raw:
    """Text of a data set, escaped, with its language and direction."""
    language = languages.LANGUAGES.get(code.split("-")[0])
    lang = f' lang="{html.escape(code)}"' if language else ""
    direction = "auto" if language is None else "rtl" if language.rtl else "ltr"
    body = html.escape(text).replace("\n", "<br/>")
    return nodes.raw("", f'<span class="text"{lang} dir="{direction}">{body}</span>', format="html")


def span(classes: str, title: str, text: str) -> list[nodes.Node]:
    """Text in an HTML span with a tooltip; other builders see the text alone."""
    opening = f'<span class="{classes}" title="{html.escape(title)}">'
    return [nodes.raw("", opening, format="html"), nodes.Text(text), nodes.raw("", "</span>", format="html")]
