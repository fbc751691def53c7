"""Language checks of a model's answers: what a win rate can hide. They ask no judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from mlpo import languages
from mlpo.evaluate.stats import Estimate, clustered_mean
from mlpo.records import Prompt

CHECKS = ("right_language", "mixed_script", "repetition_loop", "cut", "empty")
_FAULTS = {"right_language": ("answers in the language", -1), "repetition_loop": ("loops", 1), "empty": ("empty answers", 1)}


def is_empty(text: str) -> bool:
    return not any(char.isalnum() for char in text)  # neither a letter nor a digit


def loops(text: str, lang: str) -> bool:
    """Whether a text ends in a phrase that stands there at least three times in a row, 30 characters (12 in Chinese and Japanese)
    or more in all. Compared by character without spaces, then by letter alone, so that neither a cut in the last phrase nor a
    list's rising numbers hide a loop. Linear time: the prefix function of Knuth, Morris and Pratt on the reversed text."""
    shown = [char for char in reversed(text.casefold()) if not char.isspace()]
    for back in (shown, [char for char in shown if char.isalpha()]):
        border = [0] * len(back)  # of each tail: how much of its start is its end too; the rest is its shortest period
        for i in range(1, len(back)):
            k = border[i - 1]
            while k and back[i] != back[k]:
                k = border[k - 1]
            border[i] = k + (back[i] == back[k])
            if i + 1 >= max(12 if languages.split_characters(lang) else 30, 3 * (i + 1 - border[i])):
                return True
    return False


def check(prompts: Sequence[Prompt], answers: Sequence[str], cut: Sequence[bool]) -> pd.DataFrame:
    """One row an answer: prompt_id, lang, CHECKS. `mixed_script`: over 10 % of letters in another script, as Latin names do."""
    found = []
    for p, text, stopped in zip(prompts, answers, cut, strict=True):
        mixed = any(map(str.isalpha, text)) and languages.script_share(text, p.lang) < 0.9
        found.append((p.id, p.lang, languages.is_in(text, p.lang), mixed, loops(text, p.lang), stopped, is_empty(text)))
    return pd.DataFrame(found, columns=["prompt_id", "lang", *CHECKS])


def suspicious(policy: pd.DataFrame, base: pd.DataFrame, wins: Mapping[str, Estimate]) -> list[str]:
    """A sentence for each language where the policy wins (`wins`: wins minus losses against base) while answers in the language
    became rarer, or loops or empty answers more frequent, beyond the paired interval. Both frames: `check` on the same prompts."""
    said = []
    for lang in (lang for lang, delta in wins.items() if delta.value > 0):
        now, then = (f[f["lang"] == lang].groupby("prompt_id")[list(_FAULTS)].mean() for f in (policy, base))
        worse = []
        for name, (what, sign) in _FAULTS.items():
            change = (sign * (now[name] - then[name])).dropna()
            if clustered_mean(list(change), list(change.index)).lo > 0:
                worse.append(f"{what} went from {then[name].mean():.0%} to {now[name].mean():.0%}")
        if worse:
            said.append(f"{languages.get(lang).name}: wins minus losses is {wins[lang].value:+.2f}, but {' and '.join(worse)}.")
    return said
