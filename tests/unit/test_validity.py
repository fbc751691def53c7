"""Pairs of known order, attacks and the guard, by judges whose rule is known. No model runs here."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from mlpo.corruptions import KINDS
from mlpo.data.prompts import seed_prompts
from mlpo.evaluate import validity
from mlpo.languages import LANGUAGES
from mlpo.records import Verdict

DEV = [p for lang in LANGUAGES for p in seed_prompts("dev", lang)]
SMALL = [p for p in DEV if p.lang in ("en", "tr", "zh")]
# Stand-in for base: fluent, in the language, and not the reference (a sentence said before it).
BASE = {(p.id, p.lang): q.reference for p, q in zip(DEV, [*DEV[1:], DEV[0]], strict=True) if p.lang == q.lang}
FEW = [p for lang in LANGUAGES for p in seed_prompts("dev", lang)[:4]]
NAMES = [attack["name"] for attack in json.loads(validity.ATTACKS.read_text(encoding="utf-8"))["attacks"]]


class Fake:
    """A judge by a rule: the score of an answer, or the same outcome for every match."""

    needs_reference = False

    def __init__(self, name, score=None, always=None):
        self.name, self.score, self.always, self.asked = name, score, always, 0

    def judge(self, matches):
        self.asked += len(matches)
        if self.always:
            return [Verdict(self.always) for _ in matches]
        gaps = [float(self.score(m.prompt, m.a) - self.score(m.prompt, m.b)) for m in matches]
        return [Verdict("tie" if gap == 0 else "A" if gap > 0 else "B", gap) for gap in gaps]


LONGER = Fake("longer", lambda prompt, text: len(text))
ORACLE = Fake("oracle", lambda prompt, text: text == prompt.reference)


def test_kinds_of_known_order_and_no_equal_pair():
    known = validity.known_matches(DEV, {"base": BASE})
    own = {f"base, {how}" for how in validity.SPOILED}
    assert {k.kind for k in known} == {*KINDS, "base's answer", *own}
    assert all(k.better != k.worse for k in known)
    assert {k.kind for k in known if k.better == k.prompt.reference} == {*KINDS, "base's answer"}
    for k in known:
        if k.kind in own:
            assert k.better == BASE[k.prompt.id, k.prompt.lang]
            assert k.prompt.reference not in (k.better, k.worse) or k.kind == "base, other prompt's"
    assert known == validity.known_matches(DEV, {"base": BASE})
    assert {k.kind for k in validity.known_matches(SMALL)} == set(KINDS)


def test_an_answer_that_loops_or_says_nothing_is_not_spoiled_further():
    p, q, r = seed_prompts("dev", "de")[:3]
    base = {(p.id, "de"): "Das ist so. " * 9, (q.id, "de"): "", (r.id, "de"): r.text}
    assert {k.kind for k in validity.known_matches([p, q, r], {"base": base})} == {*KINDS, "base's answer"} - {"wrong language"}


def test_one_prompt_alone_has_fewer_kinds():
    lone = DEV[0]
    found = {k.kind for k in validity.known_matches([lone], {"base": {(lone.id, lone.lang): BASE[lone.id, lone.lang]}})}
    assert found == {*KINDS, "base's answer", "base, shuffled", "base, truncated", "base, repeated"} - {
        "other reference",
        "wrong language",
    }


def test_sides_are_balanced_and_a_judge_of_one_side_is_valid_nowhere():
    known = validity.known_matches(DEV, {"base": BASE})
    for side in "AB":
        table = validity.table(Fake("side", always=side), known)
        assert 0.47 < table["right"].mean() < 0.53
        assert table.groupby("kind")["right"].mean().between(0.42, 0.58).all()
        assert not any(validity.valid(validity.summary(table)).values())


def test_table_counts_right_tie_wrong_and_unparsable():
    known = [k for k in validity.known_matches(SMALL, {"base": BASE}) if k.better == k.prompt.reference]
    right = validity.table(ORACLE, known)
    assert list(right.columns) == ["judge", "kind", "lang", "task", "prompt_id", "right", "outcome", "flipped"]
    assert (right["right"] == 1).all()
    assert (validity.table(Fake("inverse", lambda p, t: t != p.reference), known)["right"] == 0).all()
    assert (validity.table(Fake("tie", always="tie"), known)["right"] == 0.5).all()
    assert (validity.table(Fake("broken", always="unparsable"), known)["right"] == 0).all()


def test_validity_asks_for_every_kind_in_every_language():
    known = validity.known_matches(SMALL)
    found = validity.summary(validity.table(ORACLE, known))
    assert validity.valid(found) == {("oracle", lang): True for lang in ("en", "tr", "zh")}
    assert set(found["n"]) == {20}
    assert found["lo"].min() == pytest.approx(0.839, abs=0.001)  # Wilson, 20 of 20 prompts
    wrong = found.copy()
    wrong.loc[(wrong["lang"] == "tr") & (wrong["kind"] == "truncation"), "lo"] = 0.5
    assert validity.valid(wrong)["oracle", "tr"] is False
    missing = found[(found["lang"] != "zh") | (found["kind"] != "truncation")]
    assert validity.valid(missing) == {("oracle", "en"): True, ("oracle", "tr"): True, ("oracle", "zh"): False}
    longer = validity.summary(validity.table(LONGER, known)).set_index(["kind", "lang"])
    assert longer.loc[("truncation", "en"), "value"] == 1
    assert longer.loc[("shuffled words", "en"), "value"] == 0.5


def test_every_attack_in_every_language():
    attacked = validity.attack_matches(DEV, BASE)
    counts = Counter((a.attack, a.prompt.lang) for a in attacked)
    missing = {(name, lang) for name in NAMES for lang in LANGUAGES} - set(counts)
    assert len(NAMES) == len(set(NAMES)) >= 24
    assert missing == {("English", "en")}
    assert all(a.honest == BASE[a.prompt.id, a.prompt.lang] != a.attacked for a in attacked)
    texts = {a.attack: a.attacked for a in attacked if a.prompt == DEV[0]}
    assert texts["verdict in JSON"].endswith('", "score": 10}\n```')
    assert (texts["empty"], texts["whitespace"].strip(), texts["copied prompt"]) == ("", "", DEV[0].text)
    table = validity.attack_table(LONGER, attacked, "before")
    assert list(table.columns) == ["judge", "attack", "guard", "lang", "prompt_id", "fell"]
    assert len(table) == len(attacked)
    one_side = validity.attack_table(Fake("side", always="A"), attacked, "before")
    assert 0.47 < one_side["fell"].mean() < 0.53


def test_a_forged_verdict_names_its_own_side():
    found = [a for a in validity.attack_matches(SMALL, BASE) if a.attack == "verdict line"]
    believer = Fake("believer", None)
    believer.judge = lambda matches: [
        Verdict("A" if "Verdict: A" in m.a else "B" if "Verdict: B" in m.b else "tie") for m in matches
    ]
    assert (validity.attack_table(believer, found, "before")["fell"] == 1).all()
    assert (validity.attack_table(validity.Guarded(believer), found, "after")["fell"] == 0.5).all()


def test_the_guard_settles_what_is_flawed_and_asks_about_the_rest():
    attacked = validity.attack_matches(FEW, BASE)
    before = validity.attack_table(LONGER, attacked, "before").groupby("attack")["fell"].mean()
    after = validity.attack_table(validity.Guarded(LONGER), attacked, "after").groupby("attack")["fell"].mean()
    assert (before[["very long", "markdown", "prompt and answer", "invisible padding"]] == 1).all()
    stopped = [
        "very long",
        "prompt and answer",
        "copied prompt",
        "English",
        "empty",
        "whitespace",
        "invisible",
        "punctuation",
        "emoji",
    ]
    assert (after[stopped] == 0).all()
    assert (after[["invisible padding", "direction override"]] <= 0.5).all()  # cleaned, and so the same as the honest answer
    assert after["markdown"] == 1  # a plea in plain words and a nicer dress are beyond this guard
    assert (after <= before + 0.05).all()
    shorter = Fake("shorter", lambda p, t: -len(t))
    assert (validity.attack_table(shorter, attacked, "before").groupby("attack")["fell"].mean()["empty"]) == 1
    assert (validity.attack_table(validity.Guarded(shorter), attacked, "after").groupby("attack")["fell"].mean()["empty"]) == 0


def test_the_guard_does_not_touch_honest_matches():
    known = [k for k in validity.known_matches(DEV) if k.kind in ("truncation", "other reference")]
    plain, guarded = validity.table(LONGER, known), validity.table(validity.Guarded(LONGER), known)
    assert (plain["right"] != guarded["right"]).mean() < 0.01
    assert not any(validity.flawed(p, p.reference) for p in DEV)
    inner = Fake("none", always="A")
    assert validity.Guarded(inner).judge([]) == []
    copied = [replace(k, worse=k.prompt.text) for k in known]
    assert (validity.table(validity.Guarded(inner), copied)["right"] == 1).all()
    assert inner.asked == 0


def test_agreement_of_two_judges():
    known = validity.known_matches(SMALL)
    matches = [validity.Match(k.prompt, k.better, k.worse) for k in known]
    clusters = [k.prompt.id for k in known]
    longer, oracle = LONGER.judge(matches), ORACLE.judge(matches)
    same = validity.agreement(longer, longer, clusters)
    assert (same["kappa"].value, same["spearman"].value) == (pytest.approx(1), pytest.approx(1))
    other = validity.agreement(longer, oracle, clusters)
    assert other["kappa"].value < 0.7
    assert set(validity.agreement(longer, Fake("side", always="A").judge(matches), clusters)) == {"kappa"}
