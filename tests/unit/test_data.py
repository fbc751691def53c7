"""The seed set and the steps that need no model."""

from __future__ import annotations

import pytest

from mlpo import MlpoError
from mlpo.corruptions import KINDS, corrupt
from mlpo.data import complete, mix, pair, prompts
from mlpo.languages import LANGUAGES
from mlpo.records import Completion, Prompt
from mlpo.rewards import FinalNumber, last_number


def test_asking_for_what_is_not_there():
    with pytest.raises(MlpoError, match="Unknown split 'train'"):
        prompts.seed_prompts("train", "en")
    with pytest.raises(MlpoError, match="Unknown language 'xx'"):
        prompts.seed_prompts("dev", "xx")


@pytest.mark.parametrize("kind", KINDS)
def test_corruptions_change_the_reference_and_are_the_same_at_every_call(kind):
    rows = {(p.id, p.lang): p for lang in ("en", "zh") for p in prompts.seed_prompts("dev", lang)}
    for p in rows.values():
        assert corrupt(p, kind, rows) == corrupt(p, kind, rows) != p.reference


def _completions() -> tuple[list[Prompt], list[Completion], list[float]]:
    asked = [Prompt(f"p{i}", lang, "pref", "open", "x", f"question {i}") for lang in ("en", "tr") for i in range(6)]
    rows, rewards = [], []
    for p in asked:
        for role, reward in (("native", 1.0), ("translated", 2.0 if p.lang == "tr" else 0.5), ("policy", 0.0)):
            rows.append(Completion(f"{p.id}{p.lang}{role}", p.id, p.lang, role, f"{role} answer to {p.id} {p.lang}"))
            rewards.append(reward)
    return asked, rows, rewards


def test_rules_choose_what_they_say():
    asked, rows, rewards = _completions()
    role = pair.make(asked, rows, rewards, "role")
    assert {(p.chosen_role, p.rejected_role) for p in role} == {("native", "translated")}
    best = {p.lang: p.chosen_role for p in pair.make(asked, rows, rewards, "reward")}
    assert best == {"en": "native", "tr": "translated"}
    control = pair.make(asked, rows, rewards, "random")
    assert control == pair.make(asked, rows, rewards, "random")
    assert len({p.chosen_role for p in control}) > 1


def test_equal_sides_make_no_pair():
    asked, rows, rewards = _completions()
    same = [Completion(c.id, c.prompt_id, c.lang, c.role, "the same") for c in rows]
    assert pair.make(asked, same, rewards, "reward") == []


def test_a_margin_keeps_only_clear_pairs_and_best_random_keeps_the_best():
    asked, rows, rewards = _completions()
    wide = pair.make(asked, rows, rewards, "reward", margin=1.5)
    assert {p.lang for p in wide} == {"tr"}  # 2.0 over 0.0; in English only 1.0 over 0.0
    some = pair.make(asked, rows, rewards, "best_random")
    assert {(p.lang, p.chosen_role) for p in some} == {("en", "native"), ("tr", "translated")}
    assert len({p.rejected_role for p in some if p.lang == "en"}) == 2


def test_a_margin_leaves_the_random_control_random():
    asked, rows, rewards = _completions()
    control = pair.make(asked, rows, rewards, "random", margin=0.1)
    signs = {p.chosen_reward > p.rejected_reward for p in control}
    assert signs == {True, False}
    assert all(abs(p.chosen_reward - p.rejected_reward) >= 0.1 for p in control)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It is 7.", 7),
        ("-5", -5),
        ("1,234 pears", 1234),
        ("2,5 kg", 2.5),
        ("12,00", 12),
        ("٣٫٥", 3.5),
        ("= 1.000.000", 1e6),
        ("none", None),
    ],
)
def test_the_last_number_of_a_text(text, value):
    assert last_number(text) == value


def test_right_answers_stand_over_wrong_ones():
    asked = [Prompt("g", lang, "pool", "open", "math", "2 + 3?", "2 + 3 = 5\n= 5") for lang in ("en", "fa")]
    texts = {"en": ["It is 6.", "So 5.", "The answer is 1,005"], "fa": ["پاسخ ۶ است", "پاسخ ۵ است", "نمی‌دانم"]}
    rows = [Completion(f"{lang}{i}", "g", lang, "policy", text) for lang in texts for i, text in enumerate(texts[lang])]
    by_lang = {p.lang: p for p in asked}
    right = FinalNumber().score([by_lang[c.lang] for c in rows], [c.text for c in rows])
    assert right == [0, 1, 0, 0, 1, 0]
    pairs = pair.make(asked, rows, right, "reward", margin=1)
    assert {p.lang: p.chosen for p in pairs} == {"en": "So 5.", "fa": "پاسخ ۵ است"}
    assert pair.make(asked[:1], rows[:1], right[:1], "reward", margin=1) == []


def spec(name: str, total: int, **given) -> mix.Spec:
    return mix.Spec(name=name, languages=mix.MIXTURES[name], total=total, **given)


def test_mixtures_share_a_total_equally_and_nest():
    asked, rows, rewards = _completions()
    pairs = pair.make(asked, rows, rewards, "reward")
    small = mix.make(pairs, spec("ML-23", 4), ["en", "tr"], "smoke")
    large = mix.make(pairs, spec("ML-23", 10), ["en", "tr"], "smoke")
    assert small.name == "ML-23 & smoke"
    assert [p.lang for p in small.pairs] == ["en", "en", "tr", "tr"]
    assert {p.id for p in small.pairs} < {p.id for p in large.pairs}
    assert {p.id for p in mix.make(pairs, spec("EN-1", 2), ["en", "tr"], "smoke").pairs} <= {p.id for p in large.pairs}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"total": 10}, {"en": 4, "tr": 3, "hi": 3}),
        ({"total": 12, "allocation": "proportional"}, {"en": 8, "tr": 3, "hi": 1}),
        ({"total": 12, "allocation": "temperature", "temperature": 2}, {"en": 6, "tr": 4, "hi": 2}),
        ({"total": 12, "allocation": "temperature", "temperature": 1000}, {"en": 4, "tr": 4, "hi": 4}),
        ({"per_language": 5}, {"en": 5, "tr": 5, "hi": 5}),
    ],
)
def test_allocations(given, expected):
    wanted = mix.Spec(name="x", languages=("en", "tr", "hi"), **given)
    assert mix.shares(wanted, ("en", "tr", "hi"), {"en": 80, "tr": 30, "hi": 10}) == expected


def test_what_mixtures_need():
    need = mix.needed(["EN-1", "ML-5", "ML-23"], 46, list(LANGUAGES))
    assert (need["en"], need["vi"], need["pt"], need["el"]) == (46, 9, 9, 2)
    assert mix.needed(["ML-23"], 6, ["en", "tr", "hi"]) == {"en": 2, "tr": 2, "hi": 2}


def test_a_spec_from_a_file(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text("languages: [en, tr]\nper_language: 3\n")
    assert mix.read_spec(str(path), 99) == mix.Spec(name="two", languages=("en", "tr"), per_language=3)
    assert mix.read_spec("ML-5", 10).total == 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("languages: [en]\n", "budget: give either total or per_language"),
        ("languages: []\ntotal: 3\n", "languages: "),
        ("languages: [en]\ntotal: 0\n", "total: Input should be greater"),
        ("languages: [en]\ntotal: 3\nallocation: fair\n", "allocation: Input should be 'equal'"),
        ("languages: [en]\ntotals: 3\n", "totals: Extra inputs"),
        ("languages: [xx]\ntotal: 3\n", "Unknown language 'xx'"),
        ("name: ../..\nlanguages: [en]\ntotal: 3\n", "name: String should match pattern"),
        ("- en", "not a YAML mapping"),
        ("[", "not a YAML mapping"),
    ],
)
def test_a_bad_spec_names_what_is_wrong(tmp_path, text, said):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(MlpoError) as error:
        mix.read_spec(str(tmp_path / "m.yaml"), 5)
    assert said in str(error.value)


def test_an_unknown_mixture_lists_the_known():
    with pytest.raises(MlpoError, match="Unknown mixture 'ML-6': choose EN-1, ML-5, ML-5-scripts, ML-23"):
        mix.read_spec("ML-6", 5)


def test_an_impossible_budget_says_who_lacks_how_many():
    asked, rows, rewards = _completions()
    pairs = pair.make(asked, rows, rewards, "reward")
    with pytest.raises(MlpoError, match="'EN-1' with 9 pairs is impossible: en lacks 3"):
        mix.make(pairs, spec("EN-1", 9), ["en", "tr"], "smoke")
    with pytest.raises(MlpoError, match="'ML-5 & smoke' with 16 pairs is impossible: en lacks 2, tr lacks 2"):
        mix.make(pairs, spec("ML-5", 16), ["en", "tr"], "smoke")


def test_pairs_in_trl_form_are_what_trl_reads():
    asked, rows, rewards = _completions()
    row = pair.to_trl(pair.make(asked, rows, rewards, "role"))[0]
    assert row["prompt"] == [{"role": "user", "content": "question 0"}]
    assert row["chosen"][0]["role"] == row["rejected"][0]["role"] == "assistant"


def test_a_weak_answer_is_cut_at_whole_sentences():
    text = "Bread rises.  It needs 1. flour and 2. yeast!\nThen wait for an hour. And th"
    assert complete.whole_sentences(text) == "Bread rises. It needs 1. flour and 2. yeast! Then wait for an hour."
    assert complete.whole_sentences(text, 50) == "Bread rises. It needs 1. flour and 2. yeast!"
    assert complete.whole_sentences(text, 5) == "Bread rises."
    assert complete.whole_sentences("no end at all", 5) == "no end at all"
