"""Draft, to be merged into plots.py: the figure of chapter 02."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlpo import results
from mlpo.plots import _get, dots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def fertility(run_ids: Sequence[str], where: results.Where = "any") -> Figure:
    """Chapter 02: tokens for the same content relative to English, by language, for both tokenizers."""
    table = _get(run_ids[0], where).table("fertility")
    rows = table[table["lang"] != "en"].to_dict("records")
    series: dict[str, dict[str, results.Metric]] = {name: {} for name in table["tokenizer"].unique()}
    for row in rows:
        lo, hi = row["relative_lo"], row["relative_hi"]
        series[row["tokenizer"]][row["lang"]] = results.Metric(value=row["relative"], lo=lo, hi=hi, n=int(row["n"]))
    title = "What the same answer costs in tokens"
    what = "Tokens for the same content relative to English, by language and tokenizer"
    figure = dots(series, "tokens, English = 1", title, line=1.0, what=what)
    # Above the axes, where it cannot cover the label of the x axis as `dots` does for few rows.
    figure.axes[0].legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return figure
