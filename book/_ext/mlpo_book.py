"""Sphinx extension of the book: staged chapters, recorded numbers, figures redrawn from manifests.

Nothing here executes a notebook. Chapters are copied into ``book/chapters/`` (executed ones where a build
profile is named and has them) and every number, figure and table is looked up in the recorded runs.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, ClassVar

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from docutils import nodes
from docutils.parsers.rst import directives
from mlpo_nodes import (
    date_of,
    duration,
    flat,
    folded,
    foreign,
    inline,
    label,
    not_run,
    paragraph,
    profile_of,
    sample_sizes,
    show,
    span,
    table,
)
from mlpo_stage import stage
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from mlpo import MlpoError, chapters, plots, profiles, results
from mlpo.display import ENGLISH_COLUMNS

logger = logging.getLogger(__name__)

KINDS: tuple[tuple[str, results.Where], ...] = (("recorded", "recorded"), ("this build", "build"))
NUM = re.compile(r"(?P<text>.*\S)\s*<(?P<key>[^<>]+)>")
TEXT_COLUMN = re.compile(
    r"text.*|prompt|answer|chosen|rejected|translation|source|reference|native|translated|policy|candidate|.*back-translation"
)


# Roles and directives -------------------------------------------------------------------------------------
class Num(SphinxRole):
    """``{num}`0.54 [0.48, 0.60], n = 230 <run/metric>` ``: a number that the build checks against its run."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Compare the carried text with the recorded metric and render it with its source."""
        match = NUM.fullmatch(" ".join(self.text.split()))
        if match is None:
            return self.fail(self.text, f"{{num}} needs `text <run/metric>`, got `{self.text}`.")
        text, key = match["text"], match["key"].strip()
        try:
            expected = results.format_metric(results.metric(key))
        except MlpoError as error:
            return self.fail(text, f"{{num}} <{key}> carries `{text}`, but the key is unknown: {error}")
        if text != expected:
            return self.fail(text, f"{{num}} <{key}> carries `{text}`, the recorded run says `{expected}`.")
        run_id, _, name = key.partition("/")
        recorded, profile = results.load(run_id), self.config.mlpo_profile
        title = f"recorded run {run_id}, {date_of(recorded)}"
        out = span("num", title, text)
        build = results.load(f"{run_id.split('-')[0]}-{profile}", "build") if profile else None
        if build is not None and name in build.payload:
            here = results.format_metric(build.payload[name])
            out += [nodes.Text(" "), *span("num-build", label("this build", build), f"(this build: {here})")]
        return out, []

    def fail(self, text: str, message: str) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Warn (an error under ``-W``) and mark the number on the page."""
        where = f"page {self.env.docname}: {message}"
        logger.warning(where, location=self.get_location(), type="mlpo", subtype="num")
        return span("num num-error", message, text), []


class BookDirective(SphinxDirective):
    """What the directives of the book share."""

    def warn(self, message: str) -> None:
        """A warning that names the page."""
        logger.warning(f"page {self.env.docname}: {message}", location=self.get_location(), type="mlpo")


class RunFigure(BookDirective):
    """``{runfigure} function run_id ...``: a figure drawn from manifests; the content is its caption."""

    required_arguments, optional_arguments, final_argument_whitespace, has_content = 2, 0, True, True

    def run(self) -> list[nodes.Node]:
        """Draw, save as SVG and label."""
        function, run_ids = self.arguments[0], self.arguments[1].split()
        manifests = {run_id: results.load(run_id) for run_id in run_ids}
        if missing := [run_id for run_id, manifest in manifests.items() if manifest is None]:
            return [not_run(run_id) for run_id in missing]
        try:
            figure = getattr(plots, function)(run_ids, where="recorded")
        except (AttributeError, KeyError, OSError, ValueError, MlpoError) as error:
            self.warn(f"{{runfigure}} {function} {' '.join(run_ids)}: {type(error).__name__}: {error}")
            return []
        alt = str(getattr(figure, "alt", "") or "").strip()
        if not alt:
            self.warn(f"{{runfigure}} {function}: the figure has no alt text; set `figure.alt`.")
        name = re.sub(r"[^\w.-]+", "_", "-".join([function, *run_ids])) + ".svg"
        path = Path(self.env.srcdir) / "_generated" / name
        path.parent.mkdir(exist_ok=True)
        with matplotlib.rc_context({"svg.hashsalt": "mlpo", "svg.fonttype": "path"}):
            figure.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": None})
        plt.close(figure)
        out = nodes.figure("", nodes.image(uri=f"/_generated/{name}", alt=alt), classes=["run-figure"])
        content = self.parse_content_to_nodes()
        if content and isinstance(content[0], nodes.paragraph):
            out += nodes.caption("", "", *content.pop(0).children)
        tag = label("recorded", next(iter(manifests.values())), sample_sizes(figure, manifests.values()))
        out += nodes.legend("", paragraph(tag, "run-label", "recorded"), *content)
        return [out]


class RunTable(BookDirective):
    """``{runtable} run_id table``: a Parquet table of a recorded run; text columns keep their language."""

    required_arguments = 2
    option_spec: ClassVar = {
        "columns": directives.unchanged,
        "caption": directives.unchanged,
        "rows": directives.positive_int,
    }

    def run(self) -> list[nodes.Node]:
        """Read, choose columns and rows, escape, label."""
        run_id, name = self.arguments
        manifest = results.load(run_id)
        if manifest is None:
            return [not_run(run_id)]
        try:
            frame = manifest.table(name)
            columns = re.split(r"[\s,]+", self.options.get("columns", "").strip())
            data = frame[[column for column in columns if column] or list(frame.columns)]
        except (MlpoError, OSError, KeyError) as error:
            self.warn(f"{{runtable}} {run_id} {name}: {error}")
            return []
        data = data.head(self.options.get("rows", len(data)))
        rows = [
            [self.cell(frame, row, column, value) for column, value in zip(data.columns, values, strict=True)]
            for row, values in enumerate(zip(*(data[column].tolist() for column in data.columns), strict=True))
        ]
        out = table([str(column) for column in data.columns], rows, "run-table")
        if "caption" in self.options:
            out.insert(0, nodes.title("", "", *self.parse_inline(self.options["caption"])[0]))
        shown = f"{len(frame)} rows" if len(data) == len(frame) else f"first {len(data)} of {len(frame)} rows"
        return [out, paragraph(label("recorded", manifest, shown), "run-label", "recorded")]

    def cell(self, frame: Any, row: int, column: str, value: Any) -> str | nodes.Node:
        """A cell; ``<column>_lang``, else ``lang``, says the language of a text column."""
        if not TEXT_COLUMN.fullmatch(str(column)) or isinstance(value, int | float):
            return show(value)
        named = next((name for name in (f"{column}_lang", "lang") if name in frame.columns), None)
        lang = "" if named is None else str(frame[named].iloc[row])
        if column in ENGLISH_COLUMNS:
            lang = "en"
        return nodes.paragraph("", "", foreign(show(value), lang))


class ChapterFacts(BookDirective):
    """``{chapterfacts} name``: what the chapter costs, as measured, and its parameters."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Two boxes: measured cost, parameters."""
        name, rows, missing = self.arguments[0], [], []
        for profile in profiles.NAMES:
            found = [(kind, results.load(f"{name}-{profile}", where)) for kind, where in KINDS]
            rows += [self.row(kind, manifest) for kind, manifest in found if manifest is not None]
            missing += [profile] if found == [(kind, None) for kind, _ in KINDS] else []
        if missing:
            rows.append([", ".join(missing), "not recorded", "–", "–"])
        cost = table(["Profile", "Time", "Peak memory", "Measured"], rows)
        title = paragraph("What this chapter costs", "box-title")
        try:
            known = chapters.parameters(name)
        except MlpoError as error:
            self.warn(str(error))
            known = ()
        values = [[inline(f"`{p.name}`"), p.valid, inline(f"`{p.default!r}`"), inline(p.help)] for p in known]
        parameters = table(["Name", "Values", "Default", "Meaning"], values)
        return [nodes.container("", title, cost, classes=["book-box"]), *folded("Parameters", parameters)]

    def row(self, kind: str, manifest: Any) -> list[str]:
        """What one run took."""
        seconds, memory = manifest.timing.get("seconds"), manifest.timing.get("peak_memory_mb")
        return [
            profile_of(manifest),
            "not measured" if seconds is None else duration(seconds),
            "not measured" if memory is None else f"{memory / 1000:.1f} GB",
            f"{kind.replace('build', 'machine')} {date_of(manifest)}",
        ]


class Provenance(BookDirective):
    """``{provenance} name``: where the page's results come from."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """One folded box for each recorded run of the chapter and one for this build."""
        name, out = self.arguments[0], []
        for kind, where in KINDS:
            for profile in profiles.NAMES if where == "recorded" else [self.config.mlpo_profile]:
                manifest = results.load(f"{name}-{profile}", where) if profile else None
                if manifest is not None:
                    rows = [
                        ["Run", manifest.run_id],
                        ["Profile", profile_of(manifest)],
                        ["Finished", flat(manifest.timing.get("finished", "unknown"))],
                        ["Key", manifest.key],
                        ["Inputs", flat(manifest.inputs) or "none"],
                        ["Seed", flat(manifest.parameters.get("seed", "none"))],
                    ]
                    for key, value in manifest.environment.items():
                        rows.append([key.replace("_", " ").capitalize(), flat(value)])
                    body = table(["", ""], rows, "provenance")
                    out += folded(f"Provenance: {label(kind, manifest)}", body)
        return out or [not_run(f"{name}-cpu")]


# Hooks ----------------------------------------------------------------------------------------------------
def label_outputs(app: Sphinx, doctree: nodes.document) -> None:
    """Say on each cell output of an executed chapter which build made it."""
    folder, _, name = app.env.docname.partition("/")
    if folder != "chapters":
        return
    manifest = results.load(f"{name}-{app.config.mlpo_profile}", "build")
    tag = f"this build · {app.config.mlpo_profile}" if manifest is None else label("this build", manifest)
    for node in list(doctree.findall(nodes.container)):
        if "cell_output" in node["classes"] and node.children:
            node.insert(0, paragraph(tag, "run-label", "this-build"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_config_value("mlpo_profile", os.environ.get("MLPO_BOOK_PROFILE", ""), "env", [str])
    app.add_config_value("mlpo_stamp", "", "env", [str])
    app.add_role("num", Num())
    for name, directive in (
        ("runfigure", RunFigure),
        ("runtable", RunTable),
        ("chapterfacts", ChapterFacts),
        ("provenance", Provenance),
    ):
        app.add_directive(name, directive)
    app.connect("config-inited", stage)
    app.connect("doctree-read", label_outputs)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
