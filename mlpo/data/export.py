"""A mixture as a data set: Parquet in TRL's conversational preference format with provenance, a card, and a figure."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mlpo import paths, plots
from mlpo.data.mix import Mixture
from mlpo.data.pair import to_trl

if TYPE_CHECKING:
    import pandas as pd

CARD = """---
license: cc-by-4.0
language: [{codes}]
task_categories: [text-generation]
tags: [preference, dpo, synthetic, multilingual]
configs:
- config_name: default
  data_files: [{{split: train, path: data/train.parquet}}]
---
# {name}: {rows} preference pairs in {languages} languages

Synthetic preference data, made by `mlpo data` in the way of "RLHF Can Speak Many Languages" (Dang et al., 2024): prompts
translated from English, answers of a strong and of a weak writer and of the policy, ranked by a reward model. Pairs were made by
the rule `{rule}`. Load it with `datasets.load_dataset("FOLDER")`.

![Pairs by language, and the share whose chosen side was translated](summary.svg)

{table}

- **Columns.** `prompt`, `chosen`, `rejected`: lists of messages. `id` names the pair in every mixture; `prompt_id`, `lang`, `rule`,
  rewards of both sides, and for each side its role, generator, sampling, seed and translator.
- **Made by.** Chosen side: {chosen_by}. Rejected side: {rejected_by}. Translator: {translator}. Reward model: `{reward_model}`.
- **Lengths.** Chosen {chosen_length:.0f} characters in the mean, rejected {rejected_length:.0f}.
- **Known weaknesses.** Nobody has read the rows. The translator and the weak model are small: translated text is often wrong. The
  chosen side is what a reward model prefers, not what a person prefers. Not checked for safety.
- **Licence.** CC BY 4.0 for prompts and references of the seed set; text written by models carries the terms of those models
  (Gemma Terms of Use, Apache 2.0 for SmolLM2).
"""


def write(folder: Path, mixture: Mixture, rows: pd.DataFrame) -> Path:
    """Write the data set of a mixture; `rows` is its part of pairs.parquet. An earlier one is replaced as a whole."""
    import pandas as pd

    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "data").mkdir(parents=True)
    table = rows.set_index("id").loc[[p.id for p in mixture.pairs]].reset_index()
    messages = pd.DataFrame(to_trl(mixture.pairs))
    keep = [name for name in table.columns if name not in ("prompt", "chosen", "rejected", "chosen_id", "rejected_id")]
    frame = pd.concat([messages, table[keep]], axis=1)
    frame.to_parquet(part / "data" / "train.parquet", index=False)
    write_card(part, mixture.name, frame)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    return folder


def write_card(folder: Path, name: str, frame: pd.DataFrame) -> None:
    """README.md and summary.svg of a data set folder, from its rows."""
    text = lambda column: column.map(lambda messages: len(messages[0]["content"]))
    by_language = frame.groupby("lang", sort=False)
    summary = by_language.size().to_frame("pairs")
    summary["chosen translated"] = by_language["chosen_role"].agg(lambda roles: (roles == "translated").mean()).round(2)
    summary["mean margin"] = (frame.chosen_reward - frame.rejected_reward).groupby(frame.lang, sort=False).mean().round(2)
    rows = "\n".join(
        f"| {lang} | {int(r['pairs'])} | {r['chosen translated']} | {r['mean margin']} |" for lang, r in summary.iterrows()
    )
    names = lambda column: ", ".join(sorted(set(column) - {""})) or "none"
    card = CARD.format(
        name=name,
        codes=", ".join(summary.index),
        rows=len(frame),
        languages=len(summary),
        rule=", ".join(sorted(set(frame["rule"]))),
        table="| language | pairs | chosen translated | mean margin |\n|---|---|---|---|\n" + rows,
        chosen_by=names(frame["chosen_generator"]),
        rejected_by=names(frame["rejected_generator"]),
        translator=names([*frame["chosen_translator"], *frame["rejected_translator"]]),
        reward_model=names(frame["reward_model"]),
        chosen_length=text(frame["chosen"]).mean(),
        rejected_length=text(frame["rejected"]).mean(),
    )
    paths.write_atomically(folder / "README.md", card)
    plots.mixture_summary(summary).savefig(folder / "summary.svg", metadata={"Date": None})
