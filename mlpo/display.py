"""Tables of text in many languages, safe to show: model output is escaped, each cell says its language and direction."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from mlpo.languages import LANGUAGES

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

ENGLISH_COLUMNS = ("source",)


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


def _cell(name: object, value: object, lang: str) -> str:
    text = escape(str(value))
    if not isinstance(value, str) or lang not in LANGUAGES or value == lang:
        return f"<td>{text}</td>"
    direction = "rtl" if LANGUAGES[lang].rtl else "ltr"
    return f'<td lang="{lang}" dir="{direction}" style="text-align: start">{text}</td>'
