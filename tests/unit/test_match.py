"""Matches with answers from files and judges and generators that stand in: bad input, control rows, ties, one prompt, reruns."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pandas as pd
import pytest
from conftest import mlpo

from mlpo import MlpoError, profiles, results
from mlpo.data.prompts import seed_prompts
from mlpo.evaluate import match
from mlpo.records import Answer, Prompt, Verdict
from mlpo.store import Store

SMOKE = profiles.load("smoke")
ASKED = [p for lang in ("en", "tr") for p in seed_prompts("dev", lang)[:4]]


class Scores:
    """A judge that scores single answers: the longer one is better, up to 5 characters are a tie."""

    name, needs_reference = "scores", False

    def __init__(self, scale: float = 1.0):
        self.scale, self.seen = scale, []

    def judge(self, matches):
        self.seen += matches
        gaps = [self.scale * (len(m.a) - len(m.b)) for m in matches]
        return [Verdict("tie" if abs(gap) <= 5 else "A" if gap > 0 else "B", gap) for gap in gaps]


class Chooses(Scores):
    """A judge that sees two answers and gives no scores; it cannot be read in Turkish, and flips now and then."""

    name = "chooses"

    def judge(self, matches):
        verdicts = {"tr": Verdict("unparsable"), "hi": Verdict("tie", flipped=True)}
        return [verdicts.get(m.prompt.lang, Verdict("A" if len(m.a) > len(m.b) else "B")) for m in matches]


class Generator:
    """Draws the reference of the prompt, and some of it again, by the seed."""

    def __init__(self, name):
        self.name = self.fingerprint = name

    def generate(self, prompts, sampling, seeds):
        known = {
            p.text: p.reference for task in ("open", "summarize") for c in SMOKE.languages for p in seed_prompts("dev", c, task)
        }
        return [
            Answer(f"{known.get(p, p)} {known.get(p, p)[: seed % 20]}".strip(), False)
            for p, seed in zip(prompts, seeds, strict=True)
        ]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(match.complete, "generator", lambda name, limits=None: Generator(name))
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # statsmodels collects garbage for every Holm: seconds, which add up here
    return Store(tmp_path / "store.sqlite")


def rows(prompts=ASKED, **changes):
    return pd.DataFrame([{"prompt_id": p.id, "lang": p.lang, "text": p.reference + " " + p.reference} | changes for p in prompts])


def value(result, row, metric, lang=""):
    some = result.summary.query("row == @row and metric == @metric and lang == @lang")
    return some["value"].item() if len(some) else None


# --- files of answers


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_answers_are_read_from_every_kind_of_file_as_they_are(store, tmp_path, suffix):
    frame, path = rows().assign(cut=[True] + [False] * 7), tmp_path / f"mine.{suffix}"
    frame.loc[1, "text"], frame.loc[2, "text"] = "", 'She said "NA",\nand left.'
    if suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        getattr(frame, f"to_{suffix}")(path, index=False)
    side = match.answers(str(path), ASKED, store, SMOKE)
    assert side.name == "mine"
    assert list(side.texts) == list(frame["text"])
    assert list(side.cut) == list(frame["cut"])


def test_the_order_of_a_files_rows_and_other_languages_in_it_do_not_matter(store):
    other = rows([p for p in seed_prompts("dev", "el")[:3]])
    shuffled = pd.concat([other, rows()[::-1]])
    assert match.from_table("mine", shuffled, ASKED) == match.from_table("mine", rows(), ASKED)


BAD = {
    "no column 'text'": rows().drop(columns="text"),
    "no column 'prompt_id'": rows().drop(columns="prompt_id"),
    "unknown language 'xx'": pd.concat([rows(), rows(ASKED[:1], lang="xx")]),
    "1 answers .* in tr.* missing": rows(ASKED[:-1]),
    "2 answers .* not asked": pd.concat([rows(), rows(seed_prompts("dev", "tr")[4:6])]),
    "1 answers .* more than once": pd.concat([rows(), rows(ASKED[:1])]),
    "1 answers .* no texts": pd.concat([rows(ASKED[:-1]), rows(ASKED[-1:], text=None)]),
    "say tr are not Turkish": pd.concat([rows(ASKED[:5]), *(rows([p], text=ASKED[0].reference) for p in ASKED[5:])]),
}


@pytest.mark.parametrize("said", BAD)
def test_a_bad_file_gets_one_sentence_before_anything_is_drawn_or_judged(store, tmp_path, said):
    BAD[said].to_json(tmp_path / "bad.jsonl", orient="records", lines=True)
    judge = Scores()
    with pytest.raises(MlpoError, match=said) as error:
        match.run(["policy", str(tmp_path / "bad.jsonl")], "base", ASKED, judge, store, SMOKE)
    assert str(error.value).count(". ") == 0
    assert not judge.seen
    assert not store.count("complete")


def test_half_of_the_answers_may_be_in_another_language(store):
    match.from_table("mine", pd.concat([rows(ASKED[:6]), *(rows([p], text=ASKED[0].reference) for p in ASKED[6:])]), ASKED)


@pytest.mark.parametrize(
    ("name", "content"), [("none.csv", None), ("bad.jsonl", b"{nonsense"), ("bad.csv", b"\xff\xfe\x00"), ("bad.parquet", b"PAR0")]
)
def test_a_file_that_cannot_be_read_is_named(store, tmp_path, name, content):
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MlpoError, match=f"{name} (cannot be read|has no column)"):
        match.answers(str(tmp_path / name), ASKED, store, SMOKE)


@pytest.mark.parametrize("name", ["base", "pretrained", "base again", "policy"])
def test_no_two_rows_have_one_name(store, tmp_path, name):
    rows().to_json(path := tmp_path / f"{name}.jsonl", orient="records", lines=True)
    with pytest.raises(MlpoError, match=f"Two sides are called '{name}'"):
        match.run([str(path), "policy"], "base", ASKED, Scores(), store, SMOKE)


# --- prompts and judges


def test_prompts_of_a_language_with_none_are_an_error_that_names_it(tmp_path):
    assert [p.id for p in match.prompts(["tr", "tr"], "open", "dev", None, 2)] == [p.id for p in seed_prompts("dev", "tr")[:2]]
    with pytest.raises(MlpoError, match=r"pool has no prompts of task 'open' in Turkish \(tr\)"):
        match.prompts(["en", "tr"], "open", "pool", None, None)
    file = tmp_path / "own.jsonl"
    file.write_text('{"id": "1", "text": "What is rain?"}\n{"id": "2", "text": "Yağmur nedir?", "lang": "tr"}\n', encoding="utf-8")
    assert [p.id for p in match.prompts(["tr", "en"], "open", "dev", file, None)] == ["2", "1"]
    with pytest.raises(MlpoError, match=r"own.jsonl has no prompts of task 'open' in Hindi \(hi\)"):
        match.prompts(["en", "hi"], "open", "dev", file, None)
    with pytest.raises(MlpoError, match="Unknown language 'xx'"):
        match.prompts(["xx"], "open", "dev", None, None)


@pytest.mark.parametrize("what", [match.run, match.plan])
def test_a_judge_that_compares_with_references_refuses_prompts_without_before_anything_is_drawn(store, what):
    judge = Scores()
    judge.needs_reference = True
    asked = [*ASKED[:2], replace(ASKED[2], reference="")]
    with pytest.raises(MlpoError, match=f"needs references, and the prompt '{ASKED[2].id}' in en has none"):
        what(["policy"], "base", asked, judge, store, SMOKE) if what is match.run else what([], "base", asked, judge, SMOKE, None)
    assert not store.count("complete")


def test_an_unknown_judge(store):
    assert match.make_judge("embedded", store, SMOKE).needs_reference
    assert not match.make_judge("reward", store, SMOKE).needs_reference
    assert match.make_judge("m@http://localhost:1/v1", store, SMOKE).name == "m"
    for name, said in (("gpt", "choose embedded, reward or MODEL@URL"), ("m@nowhere", "is not a server")):
        with pytest.raises(MlpoError, match=said):
            match.make_judge(name, store, SMOKE)


# --- results


def test_each_side_and_the_control_rows_are_compared_and_estimated(store):
    judge = Scores()
    result = match.run([match.from_table("mine", rows(), ASKED), "policy"], "base", ASKED, judge, store, SMOKE)
    assert list(result.judgements["row"].unique()) == ["mine", "policy", "base", "pretrained", "base again"]
    assert list(result.judgements.columns) == match.JUDGED
    mine = result.judgements[result.judgements["row"] == "mine"]
    gaps = [len(a) - len(b) for a, b in zip(mine["text"], mine["base_text"], strict=True)]
    assert list(mine["difference"]) == gaps
    assert value(result, "mine", "difference") == pytest.approx(sum(gaps) / 8)
    assert value(result, "mine", "difference", "tr") == pytest.approx(sum(gaps[4:]) / 4)
    assert value(result, "mine", "win") == (mine["outcome"] == "win").mean()
    assert value(result, "mine", "win", "en") + value(result, "mine", "tie", "en") + value(result, "mine", "loss", "en") == 1
    assert value(result, "mine", "p_holm", "tr") >= value(result, "mine", "p", "tr")
    assert value(result, "mine", "p_holm") is value(result, "mine", "flipped") is value(result, "mine", "rouge") is None
    assert value(result, "mine", "detectable") > 0
    assert value(result, "mine", "right_language") == 1
    ratios = [math.log(len(a) / len(b)) for a, b in zip(mine["text"], mine["base_text"], strict=True)]
    assert value(result, "mine", "log_length_ratio") == pytest.approx(sum(ratios) / 8)
    # base against itself: ties that cost no verdict; base again is against base, whatever else is compared with what
    assert set(result.judgements.loc[result.judgements["row"] == "base", "outcome"]) == {"tie"}
    assert (value(result, "base", "difference"), value(result, "base", "delta")) == (0, 0)
    assert all(m.a != m.b for m in judge.seen)
    assert value(result, "base again", "difference") != 0
    assert result.manifest.payload["difference_mine[tr]"].value == pytest.approx(sum(gaps[4:]) / 4)
    assert result.manifest.payload["delta_mine"].n == 8
    assert result.manifest.kind == "match"


def test_base_again_is_against_base_when_the_rest_is_not(store):
    result = match.run(["other"], match.from_table("mine", rows(), ASKED), ASKED, Scores(), store, SMOKE)
    by_row = {row: list(some["base_text"]) for row, some in result.judgements.groupby("row")}
    drawn = {row: list(some["text"]) for row, some in result.judgements.groupby("row")}
    assert sorted(by_row) == ["base", "base again", "other", "pretrained"]
    assert by_row["base again"] == drawn["base"] != by_row["base"] == by_row["other"] == list(rows()["text"])


def test_a_profile_with_another_base_has_no_pretrained_row(store):
    hub = SMOKE.model_copy(update={"models": SMOKE.models.model_copy(update={"base": "someone/model"})})
    result = match.run([], "base", ASKED, Scores(), store, hub)
    assert list(result.judgements["row"].unique()) == ["base", "base again"]
    assert "base=someone/model/1" in result.manifest.inputs


def test_a_judge_without_scores_gives_flips_and_unparsable_shares(store):
    asked = [*ASKED, *seed_prompts("dev", "hi")[:4]]
    result = match.run([match.from_table("mine", rows(asked), asked)], "base", asked, Chooses(), store, SMOKE)
    assert result.judgements["difference"].isna().all()
    assert value(result, "mine", "difference") is None
    assert (value(result, "mine", "unparsable"), value(result, "mine", "unparsable", "tr")) == (pytest.approx(1 / 3), 1)
    assert value(result, "mine", "flipped", "hi") == 1
    assert value(result, "mine", "win", "tr") is value(result, "mine", "p_holm", "tr") is None
    assert value(result, "mine", "delta") == value(result, "mine", "delta", "en") / 2  # English and Hindi ties, Turkish apart
    assert result.manifest.payload["delta_mine"].n == 8
    match.show(result)


def test_all_ties(store, capsys):
    result = match.run([match.from_table("mine", rows(), ASKED)], "base", ASKED, Scores(0), store, SMOKE)
    assert value(result, "mine", "tie") == 1
    assert value(result, "mine", "delta") == value(result, "mine", "difference") == 0
    assert value(result, "mine", "p_holm", "en") == 1
    match.show(result)


def test_one_prompt_in_one_language(store, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    result = match.run([match.from_table("mine", rows(ASKED[:1]), ASKED[:1])], "base", ASKED[:1], Scores(), store, SMOKE)
    assert math.isnan(result.summary.query("row == 'mine' and metric == 'difference'")["lo"].iloc[0])
    metric = result.manifest.payload["difference_mine"]
    assert (metric.lo, metric.hi, metric.n) == (None, None, 1)
    match.show(result)
    assert "[-, -]" in capsys.readouterr().out


def test_a_rerun_gives_the_same_bytes_and_draws_nothing(store, tmp_path, monkeypatch):
    side = match.from_table("mine", rows(), ASKED)
    first, second = tmp_path / "1", tmp_path / "2"
    match.write(match.run([side], "base", ASKED, Scores(), store, SMOKE), first)
    monkeypatch.setattr(Generator, "generate", None)
    match.write(match.run([side], "base", ASKED, Scores(), store, SMOKE), second)
    for table in ("judgements.parquet", "summary.parquet"):
        assert (first / table).read_bytes() == (second / table).read_bytes()
    a, b = (json.loads((folder / "manifest.json").read_text(encoding="utf-8")) for folder in (first, second))
    for manifest in (a, b):
        del manifest["timing"]
    assert a == b
    assert results.Manifest(**json.loads((first / "manifest.json").read_text(encoding="utf-8"))).run_id == f"match-{a['key'][:12]}"


def test_the_key_follows_what_decides(store):
    keys = {
        match.run(sides, "base", asked, judge, store, SMOKE, seed).manifest.key
        for sides, asked, judge, seed in (
            ([], ASKED, Scores(), 0),
            (["policy"], ASKED, Scores(), 0),
            ([], ASKED[:5], Scores(), 0),
            ([], ASKED, Scores(2), 0),
            ([], ASKED, Chooses(), 0),
            ([], ASKED, Scores(), 1),
        )
    }
    assert len(keys) == 6


def test_a_judge_that_is_recorded_as_not_valid_is_flagged(store, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    known = results.Manifest.model_construct(
        payload={f"valid[scores, {lang}]": results.Metric(value=v, n=9) for lang, v in {"en": 1, "tr": 0}.items()}
    )
    monkeypatch.setattr(match.results, "load", lambda name: known)
    result = match.run([match.from_table("mine", rows(), ASKED)], "base", ASKED, Scores(), store, SMOKE)
    match.show(result)
    flagged = [line for line in capsys.readouterr().out.splitlines() if "judge not valid" in line]
    assert flagged
    assert all("tr" in line for line in flagged)


def test_wins_in_the_wrong_language_are_suspicious(store):
    asked = [p for lang in ("en", "tr") for p in seed_prompts("dev", lang)]
    english = {p.id: p.reference for p in seed_prompts("dev", "en")}
    side = match.Side("mine", "x", [english[p.id] * 3 for p in asked], [False] * len(asked))
    result = match.run([side], "base", asked, Scores(), store, SMOKE)
    assert any(said.startswith("mine: Turkish") for said in result.warnings)


# --- summaries


@pytest.mark.parametrize(
    ("lang", "answer", "reference", "f1"),
    [
        ("en", "The town opened a new library.", "the town, at last, opened its library", 2 * 4 / (6 + 7)),
        ("en", "", "the town", 0.0),
        ("en", "...", "!", 0.0),
        ("tr", "Kasaba yeni bir kütüphane açtı", "Kasaba kütüphane açtı.", 2 * 3 / (5 + 3)),
        ("zh", "小镇开了新图书馆。", "小镇的图书馆开了", 2 * 5 / (8 + 8)),  # 小镇图书馆
        ("ja", "町に図書館ができた。", "町が図書館を開いた", 2 * 5 / (9 + 9)),  # 町図書館た
        ("ko", "마을이 도서관을 열었다.", "마을은 도서관을 열었다", 2 * 9 / (10 + 10)),  # by word 4 / 6
    ],
)
def test_rouge_l_by_hand(lang, answer, reference, f1):
    prompt = Prompt("1", lang, "dev", "summarize", "", "...", reference)
    assert match.rouge_l(prompt, answer) == pytest.approx(f1)
    assert math.isnan(match.rouge_l(replace(prompt, task="open"), answer))


def test_summaries_are_compared_with_their_references_beside_the_judge(store):
    asked = match.prompts(["en", "tr", "hi"], "summarize", "dev", None, 3)
    result = match.run([match.from_table("mine", rows(asked), asked)], "base", asked, Scores(), store, SMOKE)
    assert set(result.judgements["task"]) == {"summarize"}
    assert value(result, "mine", "rouge") == pytest.approx(2 / 3)  # the reference twice
    assert 2 / 3 < value(result, "base", "rouge") <= 1


# --- the command


def test_a_dry_run_counts_and_estimates_and_checks_files(tmp_path):
    asked = match.prompts(["en", "tr"], "open", "dev", None, 3)
    for name, text in (("a", {}), ("b", {"text": ""})):
        rows(asked, **text).to_csv(tmp_path / f"{name}.csv", index=False)
    sides = ["--model", str(tmp_path / "a.csv"), "--model", str(tmp_path / "b.csv"), "--languages", "en,tr", "--limit", "3"]
    more = ["--profile", "smoke", "--judge", "m@http://localhost:1/v1", "--dry-run", "--price", "2"]
    done = mlpo("evaluate", *sides, *more, build=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "18 answers to draw (fewer where the store has some), 24 verdicts to give." in done.stdout
    assert "36 requests to send" in done.stdout  # two a verdict; an empty answer loses without one
    assert "in money" in done.stdout
    assert not (tmp_path / "runs").exists()
