"""Tables of text in many languages, safe to show: model output is escaped, each cell says its language and direction."""

from __future__ import annotations

import unicodedata
from html import escape
from typing import TYPE_CHECKING

from mlpo.languages import LANGUAGES

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

ENGLISH_COLUMNS = ("source", "back-translation", "English", "side")
HARMLESS = "\n\u200c\u200d"  # Persian and Hindi spell with the joiners


def show_texts(frame: pd.DataFrame, lang_column: str = "lang") -> HTML:
    """`frame` as an HTML table. Text cells carry `lang` and `dir` of their row's language, `source` those of English."""
    from IPython.display import HTML

    head = "".join(f"<th>{escape(str(name))}</th>" for name in frame.columns)
    body = []
    for row in frame.to_dict("records"):
        lang = str(row.get(lang_column, ""))
        cells = [_cell(name, value, "en" if name in ENGLISH_COLUMNS else lang) for name, value in row.items()]
        body.append(f"<tr>{''.join(cells)}</tr>")
    return HTML(f'<table class="texts"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>')


def printable(text: str) -> str:
    """`text` with control characters (terminal escapes, direction overrides) written out instead of obeyed."""
    return "".join(
        c if unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp") or c in HARMLESS else f"<{ord(c):04X}>" for c in text
    )


def print_texts(frame: pd.DataFrame) -> None:
    """`frame` as a table in the terminal, as wide as it is; the last column wraps."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True)
    for name in frame.columns:
        table.add_column(str(name), overflow="fold")
    for row in frame.to_dict("records"):
        shown = ["" if v is None or v != v else f"{v:.2f}" if isinstance(v, float) else printable(str(v)) for v in row.values()]
        table.add_row(*(Text(cell) for cell in shown))
    Console().print(table)


def _cell(name: object, value: object, lang: str) -> str:
    text = escape(printable(str(value)))
    if not isinstance(value, str) or lang not in LANGUAGES or value == lang:
        return f"<td>{text}</td>"
    direction = "rtl" if LANGUAGES[lang].rtl else "ltr"
    return f'<td lang="{lang}" dir="{direction}" style="text-align: start">{text}</td>'
