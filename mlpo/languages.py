"""The 23 languages of the paper, and language identification restricted to them."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlpo.errors import MlpoError


@dataclass(frozen=True)
class Language:
    """`resource` and `joshi` follow M-RewardBench, table 7 (a proxy for the paper's own grouping); `nllb`: FLORES-200 code."""

    code: str
    name: str
    script: str
    family: str
    resource: str  # high | mid
    joshi: int
    nllb: str
    rtl: bool = False


def _table() -> dict[str, Language]:
    rows = """
    en English Latin Germanic high 5 eng_Latn
    ar Arabic Arabic Semitic high 3 arb_Arab
    zh Chinese Han Sinitic high 4 zho_Hans
    cs Czech Latin Slavic high 4 ces_Latn
    nl Dutch Latin Germanic high 4 nld_Latn
    fr French Latin Romance high 5 fra_Latn
    de German Latin Germanic high 5 deu_Latn
    el Greek Greek Hellenic mid 3 ell_Grek
    he Hebrew Hebrew Semitic mid 3 heb_Hebr
    hi Hindi Devanagari Indo-Aryan high 4 hin_Deva
    id Indonesian Latin Austronesian mid 3 ind_Latn
    it Italian Latin Romance high 4 ita_Latn
    ja Japanese Japanese Japonic high 5 jpn_Jpan
    ko Korean Hangul Koreanic mid 4 kor_Hang
    fa Persian Arabic Iranian high 4 pes_Arab
    pl Polish Latin Slavic high 4 pol_Latn
    pt Portuguese Latin Romance high 4 por_Latn
    ro Romanian Latin Romance mid 3 ron_Latn
    ru Russian Cyrillic Slavic high 4 rus_Cyrl
    es Spanish Latin Romance high 5 spa_Latn
    tr Turkish Latin Turkic high 4 tur_Latn
    uk Ukrainian Cyrillic Slavic mid 3 ukr_Cyrl
    vi Vietnamese Latin Austroasiatic high 4 vie_Latn
    """
    table = {}
    for row in rows.split("\n"):
        if fields := row.split():
            code, name, script, family, resource, joshi, nllb = fields
            table[code] = Language(code, name, script, family, resource, int(joshi), nllb, rtl=code in ("ar", "fa", "he"))
    return table


LANGUAGES = _table()
SURE = 12  # letters from which identification is relied on

# Words by which Unicode names the letters of a script (unicodedata has no script property).
_SCRIPT_NAMES = {"Japanese": ("HIRAGANA", "KATAKANA", "CJK"), "Han": ("CJK",), "Hangul": ("HANGUL",)}


def get(code: str) -> Language:
    """The language of a code; MlpoError lists the codes where it is unknown."""
    try:
        return LANGUAGES[code]
    except KeyError:
        raise MlpoError(f"Unknown language {code!r}: the book knows {', '.join(LANGUAGES)}.") from None


def split_characters(language: str) -> bool:
    """Whether words are not separated by spaces, so that counts go by character."""
    return get(language).script in ("Han", "Japanese")


def script_share(text: str, language: str) -> float:
    """Share of the letters of `text` that belong to the script of `language` (0 where there are no letters)."""
    script = get(language).script
    names = _SCRIPT_NAMES.get(script, (script.upper(),))
    letters = [char for char in text if char.isalpha()]
    if not letters:
        return 0.0
    return sum(unicodedata.name(char, "").startswith(names) for char in letters) / len(letters)


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(list(LANGUAGES))
    return identifier


def identify(texts: Sequence[str]) -> list[str]:
    """Most likely of the 23 languages for each text (py3langid). A closed set cannot say "none of these": see `is_in`."""
    identifier = _identifier()
    return [identifier.classify(re.sub(r"\s+", " ", text))[0] for text in texts]


def is_in(text: str, language: str) -> bool:
    """Whether `text` is in `language`: mostly in its script, and identified so among the 23 (a few words are too little for
    that, and a text without letters is in every language)."""
    letters = sum(char.isalpha() for char in text)
    if not letters or script_share(text, language) < 0.5:
        return not letters
    return letters < SURE or identify([text])[0] == language
