"""The seed set keeps its promises in all 23 languages: ids, splits, language, script, lengths, punctuation, no leaks."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter

import pytest

from mlpo import MlpoError, languages, paths
from mlpo.data import prompts
from mlpo.languages import LANGUAGES
from mlpo.records import Prompt

OPEN = {"sft": 60, "rm": 40, "pref": 60, "dev": 20, "test": 100}
ARTICLES = {"sft": 20, "dev": 10, "test": 30}
# Words that stand in Latin letters in every language: units, names of things, letters that label options.
LATIN = {
    "led",
    "dna",
    "gps",
    "usb",
    "wi",
    "fi",
    "ram",
    "co",
    "kg",
    "km",
    "cm",
    "am",
    "pm",
    "a",
    "b",
    "c",
    "x",
    "y",
    "d",
    "app",
    "pdf",
}


def rows(lang: str) -> list[Prompt]:
    """All rows of a language, `test` too: the checks are exempt from the rule that keeps it unread."""
    return prompts._seed_file(lang)


def grams(text: str, size: int = 5) -> set[str]:
    text = re.sub(r"\W+", " ", text.casefold())
    return {text[i : i + size] for i in range(len(text) - size + 1)}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_id_stands_once_in_its_split(lang):
    found = rows(lang)
    assert Counter(p.split for p in found if p.task == "open") == OPEN
    assert Counter(p.split for p in found if p.task == "summarize") == ARTICLES
    about = [(p.id, p.split, p.task, p.category) for p in found]
    assert about == [(p.id, p.split, p.task, p.category) for p in rows("en")]
    assert {p.lang for p in found} == {lang}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_language_and_script_agree_with_the_label(lang):
    found = rows(lang)
    named = languages.identify([f"{p.text} {p.reference}" for p in found])
    assert [(p.id, code) for p, code in zip(found, named, strict=True) if code != lang] == []
    assert [p.id for p in found if languages.script_share(f"{p.text} {p.reference}", lang) < 0.85] == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_texts_are_clean_and_in_bounds(lang):
    for p in rows(lang):
        both = p.text + p.reference
        assert p.text.strip() == p.text != "", p.id
        assert p.reference.strip() == p.reference != "", p.id
        assert not re.search(r"[\n\t]|  |[\u200e\u200f\u202a-\u202e\ufeff]|[*#`{}<>]", both), p.id
    assert len({p.reference for p in rows(lang)}) == len({p.text for p in rows(lang)}) == 340


@pytest.mark.parametrize("lang", [lang for lang in LANGUAGES if lang != "en"])
def test_lengths_follow_the_english(lang):
    """Each text is within a factor of the language's own usual length for one English character."""
    english = {p.id: p for p in rows("en")}
    for field, factor in (("text", 2.6), ("reference", 2.0)):
        ratio = {p.id: len(getattr(p, field)) / len(getattr(english[p.id], field)) for p in rows(lang)}
        usual = statistics.median(ratio.values())
        assert 0.2 < usual < 1.6
        odd = {key: round(value / usual, 2) for key, value in ratio.items() if not 1 / factor < value / usual < factor}
        assert odd == {}


@pytest.mark.parametrize("lang", [lang for lang in LANGUAGES if LANGUAGES[lang].script != "Latin"])
def test_no_english_is_left_over(lang):
    left = {
        (p.id, word)
        for p in rows(lang)
        for word in re.findall(r"[A-Za-z]+", p.text + " " + p.reference)
        if word.lower() not in LATIN
    }
    assert left == set()


@pytest.mark.parametrize("lang", [lang for lang in LANGUAGES if LANGUAGES[lang].script == "Latin" and lang != "en"])
def test_no_english_sentence_is_left_over(lang):
    common = {"the", "and", "with", "that", "this", "which", "because", "from", "would", "should"}
    assert [p.id for p in rows(lang) if common & set(re.findall(r"\w+", f"{p.text} {p.reference}".lower()))] == []


@pytest.mark.parametrize(
    ("lang", "wrong"),
    [
        ("zh", r"[,;?!]|(?<!\d)\.(?!\d)"),
        ("ja", r"[,;?!]|(?<!\d)\.(?!\d)"),
        ("ar", r"[,;?]"),
        ("fa", r"[,;?]|[\u064a\u0643]"),  # Arabic forms of yeh and kaf
        ("hi", r"\.(?!\d)(?=\s|$)"),
        ("el", r"\?"),
        ("ro", r"[şţŞŢ]"),  # cedillas where commas belong
        ("es", r"^[^¿]*\?|^[^¡]*!"),
        ("fr", r"\w[?!;:](?=\s|$)"),  # a space belongs before these
    ],
)
def test_punctuation_is_that_of_the_language(lang, wrong):
    assert [(p.id, match[0]) for p in rows(lang) for text in (p.text, p.reference) if (match := re.search(wrong, text))] == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_digits_are_consistent(lang):
    """Every language of the set writes its numbers with the same digits throughout."""
    kinds = Counter("ascii" if char.isascii() else "own" for p in rows(lang) for char in p.text + p.reference if char.isdecimal())
    assert len(kinds) <= 1


def test_no_near_duplicates_across_splits_or_in_the_pool():
    texts = [(p.split, p.text) for p in rows("en") if p.task == "open"] + [("pool", p.text) for p in prompts._seed_file("pool")]
    assert len({text.casefold() for _, text in texts}) == len(texts) == 680
    sets = [grams(text) for _, text in texts]
    near = [
        (texts[i][1], texts[j][1])
        for i in range(len(texts))
        for j in range(i)
        if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) > 0.45
    ]
    assert near == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_near_duplicate_answers_across_splits(lang):
    found = [(p.split, p.id, grams(p.reference, 3 if languages.split_characters(lang) else 5)) for p in rows(lang)]
    near = [
        (a, b)
        for i, (split, a, one) in enumerate(found)
        for other, b, two in found[:i]
        if split != other and len(one & two) / len(one | two) > 0.5
    ]
    assert near == []


def test_the_pool_is_english():
    pool = prompts.seed_prompts("pool", "en")
    assert [p.id for p in pool] == [f"q{i:03}" for i in range(1, 401)]
    long = [p for p in pool if len(p.text) >= prompts.SURE]
    assert [p.id for p, code in zip(long, languages.identify([p.text for p in long]), strict=True) if code != "en"] == []


def test_an_article_comes_with_its_request():
    request = json.loads((prompts.SEED / "summarize.json").read_text())
    assert set(request) == set(LANGUAGES)
    assert set(languages.identify(list(request.values()))) == set(LANGUAGES)
    article = prompts.seed_prompts("dev", "el", "summarize")[0]
    assert article.text.startswith(request["el"] + "\n\n")
    assert article.task == "summarize"


def test_the_test_split_stays_unread():
    assert not (paths.RESULTS / "plan.yaml").exists()
    with pytest.raises(MlpoError, match="stays unread"):
        prompts.seed_prompts("test", "en")
