"""Step 6: mixtures, the paper's EN-1, ML-5 and ML-23: which languages share a budget of pairs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mlpo.data.pair import Pair
from mlpo.errors import MlpoError
from mlpo.languages import LANGUAGES

# Which five languages the paper's ML-5 has is unknown; these are the book's own choice (all in Latin script).
MIXTURES: dict[str, tuple[str, ...]] = {
    "EN-1": ("en",),
    "ML-5": ("en", "vi", "de", "tr", "pt"),
    "ML-23": tuple(LANGUAGES),
}


@dataclass(frozen=True)
class Mixture:
    """`name` says where it was cut to a profile's languages, e.g. "ML-5 & smoke"."""

    name: str
    languages: tuple[str, ...]
    pairs: tuple[Pair, ...]


def shares(languages: Sequence[str], total: int) -> dict[str, int]:
    """An equal allocation of `total` over languages; the first ones take what does not divide."""
    each, rest = divmod(total, len(languages))
    return {lang: each + (i < rest) for i, lang in enumerate(languages)}


def make(pairs: Sequence[Pair], name: str, total: int, profile_languages: Sequence[str], profile: str, seed: int = 0) -> Mixture:
    """`total` pairs of the named mixture, in equal shares. A pair keeps its id in every mixture; a language's pairs are taken
    in one seeded order, so that a smaller budget is a part of a larger one.

    Raises MlpoError for an unknown mixture, and where languages lack pairs (it says which lacks how many).
    """
    if name not in MIXTURES:
        raise MlpoError(f"Unknown mixture {name!r}: choose {', '.join(MIXTURES)}.")
    wanted = tuple(code for code in MIXTURES[name] if code in profile_languages)
    if not wanted:
        raise MlpoError(f"The mixture {name!r} shares no language with the profile {profile!r}.")
    label = name if len(wanted) == len(MIXTURES[name]) else f"{name} & {profile}"
    chosen: list[Pair] = []
    lacking = []
    for lang, number in shares(wanted, total).items():
        have = sorted((pair for pair in pairs if pair.lang == lang), key=lambda pair: pair.id)
        random.Random(f"{seed}/{lang}").shuffle(have)
        if len(have) < number:
            lacking.append(f"{lang} lacks {number - len(have)}")
        chosen += have[:number]
    if lacking:
        raise MlpoError(f"The mixture {label!r} with {total} pairs is impossible: {', '.join(lacking)}; lower the total.")
    return Mixture(label, wanted, tuple(chosen))
