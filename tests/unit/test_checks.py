"""Language checks: loops are found, references raise no alarm, and a win beside a fallen rate is said aloud."""

from __future__ import annotations

import time

import pytest

from mlpo.corruptions import corrupt
from mlpo.data.prompts import seed_prompts
from mlpo.evaluate import checks
from mlpo.evaluate.stats import Estimate
from mlpo.languages import LANGUAGES

DEV = [p for lang in LANGUAGES for task in ("open", "summarize") for p in seed_prompts("dev", lang, task)]


def _check(prompts, answers):
    return checks.check(prompts, answers, [False] * len(answers))


def test_references_in_all_languages_raise_no_alarm():
    found = _check(DEV, [p.reference for p in DEV])
    assert len(found) == 690
    assert not found[["repetition_loop", "empty", "cut"]].any(axis=None)
    assert found.groupby("lang")["right_language"].mean().min() >= 0.99
    assert found.groupby("lang")["mixed_script"].mean().max() <= 0.05


def test_every_reference_that_repeats_itself_is_a_loop():
    by_key = {(p.id, p.lang): p for p in DEV}
    assert _check(DEV, [corrupt(p, "repetition", by_key) for p in DEV])["repetition_loop"].all()


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("en", "You can try the soup. It is a good way to eat. It is a good way to eat. It is a good way to eat. It is a go"),
        ("en", "Ideas:\n1. Read a new book\n2. Read a new book\n3. Read a new book\n4. Read a new book\n5."),
        ("en", "The answer is very " + "very " * 20),
        ("en", "The number is 1" + "0" * 60),
        (
            "ja",
            "図書館では本を借りることができます。本を読むことができます。本を読むことができます。本を読むことができます。本を読む",
        ),
        ("ja", "はい、そうですそうですそうですそうです"),
        ("ar", "يمكنك أن تقرأ كتابًا في المكتبة، ثم يمكنك أن تكتب، ثم يمكنك أن تكتب، ثم يمكنك أن تكتب، ثم يمكنك"),
        ("hi", "पानी उबालें। फिर अंडे को पानी में डालें, फिर अंडे को पानी में डालें, फिर अंडे को पानी में डालें, फिर"),
        ("en", "\U0001f602" * 40),
    ],
)
def test_loops_are_found(lang, text):
    assert checks.loops(text, lang)


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("en", "No, no, no! That is not how it works."),
        ("en", "He said it again and again and again."),
        ("en", "It is a good way to eat. It is a good way to eat. Then it rained on the whole village for days."),
        ("ja", "いろいろな本があります。"),
        ("ja", "ははは、それは面白いですね。"),
        ("zh", "慢慢来，一步一步地做。"),
        ("en", ""),
    ],
)
def test_what_is_said_twice_is_no_loop(lang, text):
    assert not checks.loops(text, lang)


def test_loops_are_found_in_linear_time():
    start = time.perf_counter()
    assert not checks.loops("ab" * 100_000 + "x", "en")
    assert not checks.loops("a" * 9 + "b" + "".join(chr(0x4E00 + i) for i in range(20_000)), "en")
    assert time.perf_counter() - start < 5


def test_each_check_tells_one_thing():
    greek, english = seed_prompts("dev", "el")[0], seed_prompts("dev", "en")[0]
    mixed = greek.reference + " The Quick Brown Fox Jumps Over"
    found = _check([greek] * 4 + [english], [english.reference, mixed, " \n", "42", "👍"])
    assert list(found["right_language"]) == [False, True, True, True, True]
    assert list(found["mixed_script"]) == [True, True, False, False, False]
    assert list(found["empty"]) == [False, False, True, False, True]


def test_a_win_beside_a_fallen_rate_is_said_aloud():
    prompts = {lang: seed_prompts("dev", lang) for lang in ("en", "tr", "de", "cs")}
    asked = [p for some in prompts.values() for p in some]
    good = [p.reference for p in asked]
    english = {p.id: p.reference for p in prompts["en"]}

    def answer(p, i):
        if p.lang == "tr" or (p.lang == "cs" and i == 0):  # all, and one alone of twenty
            return english[p.id]
        return "Das ist so. " * 9 if p.lang == "de" and i % 2 else p.reference

    bad = [answer(p, i) for some in prompts.values() for i, p in enumerate(some)]
    wins = {lang: Estimate(0.3, 0.1, 0.5, 20, 20) for lang in prompts}
    said = checks.suspicious(_check(asked, bad), _check(asked, good), wins)
    assert said == [
        "Turkish: wins minus losses is +0.30, but answers in the language went from 100% to 0%.",
        "German: wins minus losses is +0.30, but loops went from 0% to 50%.",
    ]
    assert checks.suspicious(_check(asked, good), _check(asked, bad), wins) == []
    losses = {lang: Estimate(-0.1, -0.3, 0.1, 20, 20) for lang in prompts}
    assert checks.suspicious(_check(asked, bad), _check(asked, good), losses) == []
