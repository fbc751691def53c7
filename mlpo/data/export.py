"""A mixture as a data set: Parquet in TRL's conversational preference format with provenance, a card, and a figure."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mlpo import paths, plots
from mlpo.data.mix import Mixture
from mlpo.data.pair import to_trl
from mlpo.data.sources import LICENCES
from mlpo.models import digest

if TYPE_CHECKING:
    import pandas as pd


def write(folder: Path, mixture: Mixture, rows: pd.DataFrame) -> Path:
    """Write the data set of a mixture; `rows` is its part of pairs.parquet. An earlier one is replaced as a whole."""
    import pandas as pd

    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    table = rows.set_index("id").loc[[p.id for p in mixture.pairs]].reset_index()
    messages = pd.DataFrame(to_trl(mixture.pairs))
    frame = pd.concat([messages, table.drop(columns=["prompt", "chosen", "rejected"])], axis=1).assign(mixture=mixture.name)
    # `datasets` keeps what it once loaded from a file of this name in this place: other rows need another name.
    paths.write_parquet(part / "data" / f"train-{digest(list(frame['id']))[:8]}.parquet", frame)
    write_card(part)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    return folder


def write_card(folder: Path) -> None:
    """README.md and summary.svg of a data set folder, from its rows."""
    import pandas as pd

    frame = pd.read_parquet(file := next(folder.glob("data/*.parquet")))
    text = lambda column: column.map(lambda messages: len(messages[0]["content"]))
    by_language = frame.groupby("lang", sort=False)
    summary = by_language.size().to_frame("pairs")
    summary["chosen translated"] = by_language["chosen_role"].agg(lambda roles: (roles == "translated").mean()).round(2)
    summary["mean margin"] = (frame.chosen_reward - frame.rejected_reward).groupby(frame.lang, sort=False).mean().round(2)
    names = lambda *columns: ", ".join(sorted({value for name in columns for value in frame[name]} - {""})) or "none"
    sources = sorted({prompt_id.split("-")[0] for prompt_id in frame["prompt_id"]} & set(LICENCES))
    lines = [f"| {' | '.join(map(str, (lang, *row)))} |" for lang, *row in summary.itertuples()]
    card = (paths.PACKAGE / "cards" / "dataset.md").read_text(encoding="utf-8")
    filled = card.format(
        name=frame["mixture"].iloc[0],
        file=file.name,
        codes=", ".join(summary.index),
        rows=len(frame),
        languages=len(summary),
        rule=names("rule"),
        table="\n".join(lines),
        chosen_by=names("chosen_generator"),
        rejected_by=names("rejected_generator"),
        translators=names("prompt_translator", "chosen_translator", "rejected_translator"),
        reward_model=names("reward_model"),
        chosen_length=text(frame["chosen"]).mean(),
        rejected_length=text(frame["rejected"]).mean(),
        licence=", ".join(f"{name} {LICENCES[name]}" for name in sources) or "CC BY 4.0 (seed set), or those of your own",
    )
    paths.write_atomically(folder / "README.md", filled)
    plots.mixture_summary(summary).savefig(folder / "summary.svg", metadata={"Date": None})
