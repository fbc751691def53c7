"""The seed set and the steps that need no model."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from mlpo import MlpoError, languages, paths, profiles
from mlpo.corruptions import KINDS, corrupt
from mlpo.data import mix, pair, prompts, translate
from mlpo.profiles import Sampling
from mlpo.records import Completion, Prompt, Text
from mlpo.store import Store

SPLITS = {"sft": 12, "rm": 8, "pref": 8, "dev": 12}
CODES = profiles.load("cpu").languages


def all_rows(lang: str) -> list[Prompt]:
    return [p for split in SPLITS for p in prompts.seed_prompts(split, lang)]


@pytest.mark.parametrize("lang", CODES)
def test_every_language_has_every_id_once_in_its_split(lang):
    assert {split: len(prompts.seed_prompts(split, lang)) for split in SPLITS} == SPLITS
    english = {p.id: (p.split, p.category) for p in all_rows("en")}
    assert {p.id: (p.split, p.category) for p in all_rows(lang)} == english


@pytest.mark.parametrize("lang", CODES)
def test_rows_are_in_their_language_script_and_bounds(lang):
    rows = all_rows(lang)
    found = languages.identify([f"{p.text} {p.reference}" for p in rows])
    assert [p.id for p, code in zip(rows, found, strict=True) if code != lang] == []
    assert all(languages.script_share(p.text + p.reference, lang) > 0.9 for p in rows)
    assert all(p.text and p.reference and "\n" not in p.text + p.reference for p in rows)
    assert len({p.reference for p in rows}) == len(rows)


def test_no_prompt_stands_in_two_splits_or_in_the_pool():
    texts = [p.text.lower() for p in all_rows("en")] + [p.text.lower() for p in prompts.seed_prompts("pool", "en")]
    assert len(set(texts)) == len(texts) == sum(SPLITS.values()) + 24

    def grams(text: str) -> set[str]:
        return {text[i : i + 5] for i in range(len(text) - 4)}

    near = [(a, b) for i, a in enumerate(texts) for b in texts[:i] if len(grams(a) & grams(b)) / len(grams(a) | grams(b)) > 0.5]
    assert near == []


def test_the_test_split_stays_unread():
    assert not (paths.RESULTS / "plan.yaml").exists()
    with pytest.raises(MlpoError, match="stays unread"):
        prompts.seed_prompts("test", "en")


def test_asking_for_what_is_not_there():
    with pytest.raises(MlpoError, match=r"no prompts in 'ja' yet: it has ar, de"):
        prompts.seed_prompts("dev", "ja")
    with pytest.raises(MlpoError, match="Unknown split 'train'"):
        prompts.seed_prompts("train", "en")
    with pytest.raises(MlpoError, match="Unknown language 'xx'"):
        prompts.seed_prompts("dev", "xx")


GOOD = {"id": "1", "lang": "tr", "split": "dev", "task": "open", "category": "x", "text": "Gökyüzü neden mavi görünür?"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"{", "line 1: not a JSON object"),
        (b"[1]", "line 1: not a JSON object"),
        (json.dumps({**GOOD, "text": ""}).encode(), "line 1, text: String should have at least 1 character"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "id"}).encode(), "line 1, id: Field required"),
        (json.dumps({**GOOD, "lang": "xx"}).encode(), "Unknown language 'xx'"),
        (json.dumps({**GOOD, "lang": "hi"}).encode(), "line 1: the text of '1' is not in the script of 'hi'"),
        (
            json.dumps({**GOOD, "lang": "en", "reference": "Çünkü hava mavi ışığı saçar."}).encode(),
            "language they name, first 1 ('en')",
        ),
        ((json.dumps(GOOD) + "\n" + json.dumps(GOOD)).encode(), "line 2: the id '1' stands twice"),
        (json.dumps(GOOD, ensure_ascii=False).encode("iso-8859-9"), "not valid UTF-8"),
    ],
)
def test_a_bad_prompt_file_is_refused_with_its_line(tmp_path, content, said):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    with pytest.raises(MlpoError) as error:
        prompts.read_jsonl(path)
    assert said in str(error.value)
    assert path.read_bytes() == content


def test_short_prompts_and_sums_are_not_taken_for_another_language(tmp_path):
    path = tmp_path / "prompts.jsonl"
    texts = ["Explain DNA.", "hello", "2 + 2 = ?", "Is Pluto a planet?"]
    rows = [{**GOOD, "id": str(i), "lang": "en", "text": text} for i, text in enumerate(texts)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert [p.text for p in prompts.read_jsonl(path)] == texts


def test_equal_texts_each_get_their_translation(tmp_path):
    class Upper:
        sampling, loaded = Sampling(), SimpleNamespace(fingerprint="x")

        def shots(self, source, target):
            return ""

        def translate(self, texts, source, target):
            return [text.text.upper() for text in texts]

    same = [Text("a", "Yes."), Text("b", "Yes."), Text("c", "No.")]
    assert translate.run(Store(tmp_path / "s.sqlite"), Upper(), same, "de", 2) == {"a": "YES.", "b": "YES.", "c": "NO."}


def test_a_good_prompt_file_is_read_with_bom_and_crlf(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD, ensure_ascii=False).encode() + b"\r\n")
    assert prompts.read_jsonl(path)[0].text == GOOD["text"]


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


def test_mixtures_share_a_total_equally_and_nest():
    asked, rows, rewards = _completions()
    pairs = pair.make(asked, rows, rewards, "reward")
    small = mix.make(pairs, "ML-23", 4, ["en", "tr"], "smoke")
    large = mix.make(pairs, "ML-23", 10, ["en", "tr"], "smoke")
    assert small.name == "ML-23 & smoke"
    assert [p.lang for p in small.pairs] == ["en", "en", "tr", "tr"]
    assert {p.id for p in small.pairs} < {p.id for p in large.pairs}
    assert {p.id for p in mix.make(pairs, "EN-1", 2, ["en", "tr"], "smoke").pairs} <= {p.id for p in large.pairs}


def test_an_impossible_budget_says_who_lacks_how_many():
    asked, rows, rewards = _completions()
    pairs = pair.make(asked, rows, rewards, "reward")
    with pytest.raises(MlpoError, match="'EN-1' with 9 pairs is impossible: en lacks 3"):
        mix.make(pairs, "EN-1", 9, ["en", "tr"], "smoke")


def test_pairs_in_trl_form_are_what_trl_reads():
    asked, rows, rewards = _completions()
    row = pair.to_trl(pair.make(asked, rows, rewards, "role"))[0]
    assert row["prompt"] == [{"role": "user", "content": "question 0"}]
    assert row["chosen"][0]["role"] == row["rejected"][0]["role"] == "assistant"
