"""`mlpo data` from the command line, on the user's own prompts and with tiny real models; sharded, killed, inspected."""

from __future__ import annotations

import datasets
import pandas as pd
import pytest
from conftest import mlpo

from mlpo import MlpoError, profiles
from mlpo.data import pipeline
from mlpo.data.mix import MIXTURES
from mlpo.display import print_texts, printable, show_texts

ENGLISH = ["Why does bread rise in a warm kitchen?", "Name two uses of old newspapers.", "Describe a quiet lake in the morning."]
TURKISH = [
    "Ekmek hamuru sıcak bir mutfakta neden kabarır?",
    "Eski gazeteler için iki kullanım söyleyin.",
    "Sabahları sakin bir gölü anlatın.",
]


class Scripted:
    """Stands in for translator, generators and reward, so that the line itself is what is tested here."""

    name = fingerprint = "scripted"

    def __init__(self, *_, **__):
        self.calls = 0


class Translator(Scripted):
    def fingerprint(self, source, target):
        return f"scripted {source} {target}"

    def translate(self, texts, source, target, attempt=0):
        from mlpo.records import Answer

        known = dict(zip(ENGLISH, TURKISH, strict=True))
        return [Answer(known.get(t.text, "Bu, sorunuza verilen kısa ve çevrilmiş bir yanıttır."), False, 5) for t in texts]


class Generator(Scripted):
    def generate(self, prompts, sampling, seeds):
        from mlpo.records import Answer

        lead = {True: "This is a short and plain answer to what was asked here,", False: "Bu da sorulana verilen kısa bir yanıt,"}
        names = {True: ["bread", "a river", "stones", "the light"], False: ["ekmek", "çiçek", "deniz", "ışık"]}
        words = lambda p, seed: " ".join(names[p.isascii()][seed >> k & 3] for k in range(0, 20, 2))
        return [Answer(f"{lead[p.isascii()]} {words(p, s)}.", False, 9) for p, s in zip(prompts, seeds, strict=True)]


class Reward(Scripted):
    @classmethod
    def from_adapter(cls, *_):
        made = cls()
        made.fingerprint = "reward"
        return made

    def score(self, prompts, completions):
        return [float(len(text)) for text in completions]


@pytest.fixture
def line(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.translate, "make", lambda name, limits=None: Translator())
    monkeypatch.setattr(pipeline.complete, "generator", lambda name, limits=None: Generator())
    monkeypatch.setattr("mlpo.rewards.recorded", Reward.from_adapter)
    path = tmp_path / "own.csv"
    path.write_text("id,text\n" + "".join(f"u{i},{text}\n" for i, text in enumerate(ENGLISH)))
    profile = profiles.load("smoke").model_copy(update={"languages": ("en", "tr")})

    def make(**given):
        return pipeline.Line(profile, tmp_path / given.pop("folder", "out"), source=str(path), **given)

    return make


def whole(line):
    for step in (pipeline.run_translate, pipeline.run_complete, pipeline.run_score):
        step(line)
    pipeline.run_pair(line, rules=("reward", "random"))
    return line


def test_the_line_from_a_users_prompts_to_a_data_set(line):
    done = whole(line())
    folders = pipeline.run_mix(done, ["ML-23"], "reward", total=6)
    rows = datasets.load_dataset(str(folders[0]), split="train")
    assert len(rows) == 6
    first = rows[0]
    assert [m["role"] for m in first["prompt"] + first["chosen"] + first["rejected"]] == ["user", "assistant", "assistant"]
    assert first["chosen_reward"] > first["rejected_reward"]
    provenance = {
        "prompt_id",
        "lang",
        "rule",
        "chosen_generator",
        "rejected_sampling",
        "chosen_seed",
        "rejected_translator",
        "reward_model",
    }
    assert provenance <= set(rows.column_names)
    card = (folders[0] / "README.md").read_text()
    assert "# ML-23 & smoke: 6 preference pairs in 2 languages" in card
    assert "| tr | 3 |" in card
    assert (folders[0] / "summary.svg").stat().st_size > 1000
    assert set(rows["prompt_source"]) == set(ENGLISH)
    assert {row["prompt_translator"] for row in rows if row["lang"] == "tr"} == {"tuned"}
    drawn = next(row for row in rows if row["chosen_role"] == "policy")
    origin = done.store.origin(drawn["chosen_id"])
    assert (origin["step"], origin["seed"], origin["model"]) == ("complete", drawn["chosen_seed"], "scripted")
    assert (
        pipeline.run_mix(done, ["ML-23"], "random", total=2) == folders
    )  # in the same place: `datasets` must not show the old one
    assert set(datasets.load_dataset(str(folders[0]), split="train")["rule"]) == {"random"}
    card = (folders[0] / "README.md").read_text()
    (folders[0] / "README.md").unlink()
    assert pipeline.run_card(done, ["ML-23"]) == folders
    assert (folders[0] / "README.md").read_text() == card


def test_a_reward_that_can_be_checked(line, monkeypatch):
    """The reference is English alone; its last number decides in every language."""
    from mlpo.records import Answer

    made = line()
    own = made.folder.parent / "own.csv"
    own.write_text(f"id,text,reference\nu0,{ENGLISH[0]},The answer is 7\n")
    pipeline.run_translate(made)
    says = lambda self, prompts, sampling, seeds: [Answer(f"Bu sorunun yanıtı {7 + s % 2} olmalı.", False, 1) for s in seeds]
    monkeypatch.setattr(Generator, "generate", says)
    pipeline.run_complete(made, samples=8)
    pipeline.run_score(made, reward="number")
    table = made.read("scored")
    turkish = table[(table.lang == "tr") & (table.role == "policy")]
    assert set(turkish.reward) == {0.0, 1.0}
    assert all((row.reward == 1) == (" 7 " in row.text) for row in turkish.itertuples())
    assert set(table.reward_model) == {"number"}


def test_a_steps_table_says_what_was_rejected_and_why(line, monkeypatch):
    monkeypatch.setattr(Translator, "translate", lambda self, texts, s, t, attempt=0: [export_answer(x.text) for x in texts])
    said = pipeline.run_translate(made := line())
    table = made.read("prompts")
    assert "3 rejected: copied" in said
    assert set(table.loc[table.lang == "tr", "rejected"]) == {"copied"}
    assert set(table.loc[table.lang == "tr", "tries"]) == {3}
    pipeline.run_complete(made)
    assert set(made.read("completions").lang) == {"en"}  # nothing is answered that was rejected


def export_answer(text):
    from mlpo.records import Answer

    return Answer(text, False, 3)


def test_shards_together_are_the_whole(line):
    alone = whole(line(folder="alone"))
    for i in (1, 2, 3):
        for step in (pipeline.run_translate,):
            assert f"shard {i} of 3" in step(line(folder="split", shard=(i, 3)))
    pipeline.run_translate(line(folder="split"))
    for i in (1, 2, 3):
        pipeline.run_complete(line(folder="split", shard=(i, 3)))
    split = line(folder="split")
    before = split.store.count("complete")
    pipeline.run_complete(split)
    assert split.store.count("complete") == before > 0  # nothing was made again
    for i in (1, 2, 3):
        pipeline.run_score(line(folder="split", shard=(i, 3)))
    split = line(folder="split")
    assert split.store.count("score") > 0
    pipeline.run_score(split)
    for name in ("prompts", "completions", "scored"):
        pd.testing.assert_frame_equal(alone.read(name), split.read(name))


def test_dry_runs_count_and_run_nothing(line):
    made = line()
    assert pipeline.run_translate(made, dry=True).startswith("3 translations, about ")
    assert made.store.count("translate") == 0
    pipeline.run_translate(made)
    assert "nothing was run" in pipeline.run_complete(made, dry=True)
    assert made.store.count("complete") == 0


def test_steps_out_of_order_say_what_comes_first(line):
    made = line()
    pairs = lambda made: pipeline.run_pair(made, ["reward"])
    for step, before in ((pipeline.run_complete, "translate"), (pipeline.run_score, "complete"), (pairs, "score")):
        with pytest.raises(MlpoError, match=f"run `mlpo data {before}` first"):
            step(made)
    with pytest.raises(MlpoError, match="run `mlpo data pair` first"):
        pipeline.run_mix(made, None)
    with pytest.raises(MlpoError, match="no such mixture"):
        pipeline.run_card(made, ["ML-5"])


def test_a_table_older_than_what_it_was_made_from_is_refused(line):
    done = whole(line())
    pipeline.run_translate(done)
    with pytest.raises(MlpoError, match=r"completions.parquet in .* is older than prompts.parquet: run `mlpo data complete` again"):
        pipeline.run_score(done)


def test_an_unknown_rule_and_one_without_pairs(line):
    done = whole(line())
    with pytest.raises(MlpoError, match="Unknown rule 'best'"):
        pipeline.run_pair(done, ["best"])
    with pytest.raises(MlpoError, match=r"no pairs by the rule 'role' .*, only by reward, random"):
        pipeline.run_mix(done, ["ML-23"], "role")


def test_an_impossible_mixture_is_named_and_the_possible_ones_are_made(line):
    done = whole(line())
    with pytest.raises(MlpoError, match="'EN-1' with 6 pairs is impossible: en lacks 3"):
        pipeline.run_mix(done, ["EN-1", "ML-23"], "reward", total=6)
    assert (done.folder / "mixtures" / "ML-23" / "README.md").exists()
    assert not (done.folder / "mixtures" / "EN-1").exists()


def test_inspect_shows_one_prompt_across_languages_and_steps(line):
    done = whole(line())
    frame = pipeline.inspect(done, "u1", [])
    assert list(dict.fromkeys(frame.lang)) == ["en", "tr"]
    assert list(frame[frame.lang == "tr"].step) == ["prompt", "translated", "policy", "policy"]
    assert frame.text.iloc[0] == ENGLISH[1]
    assert list(pipeline.inspect(done, None, ["tr"]).lang.unique()) == ["tr"]
    with pytest.raises(MlpoError, match="no prompt 'zz'"):
        pipeline.inspect(done, "zz", [])


def test_hostile_text_is_stored_as_it_is_and_shown_escaped(line, monkeypatch, capsys):
    evil = "Bu bir yanıt \x1b[31mkırmızı\u202e<b>x</b><end_of_turn> ve devamı burada."
    from mlpo.records import Answer

    monkeypatch.setattr(Generator, "generate", lambda self, p, s, seeds: [Answer(evil, False, 1) for _ in p])
    pipeline.run_translate(made := line())
    pipeline.run_complete(made)
    table = made.read("completions")
    assert evil in set(table[table.role == "policy"].text)
    assert printable(evil) == "Bu bir yanıt <001B>[31mkırmızı<202E><b>x</b><end_of_turn> ve devamı burada."
    assert printable("می\u200cخواهم") == "می\u200cخواهم"
    shown = show_texts(pd.DataFrame([{"lang": "tr", "text": evil}])).data
    print_texts(pipeline.inspect(made, None, ["tr"]))
    said = capsys.readouterr().out
    for page in (shown, said):
        assert "\x1b[31m" not in page
        assert "\u202e" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in shown
    assert "kırmızı" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data", "guess"], "Unknown step 'guess'"),
        (["data", "score", "--shard", "3/2"], "--shard '3/2' is not i/n"),
        (["data", "pair", "--dry-run"], "pair runs no model"),
        (["data", "score", "--limit", "3"], "--limit are for translate"),
        (["data", "complete"], "run `mlpo data translate` first"),
        (["data", "translate", "--prompts", "nowhere.csv"], "nowhere.csv does not exist"),
        (["data", "translate", "--prompts", "unknown"], "Unknown prompt source"),
    ],
)
def test_bad_calls_are_one_sentence(tmp_path, arguments, said):
    done = mlpo(*arguments, "--profile", "smoke", build=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("mlpo: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_named_mixtures_are_those_of_the_paper():
    assert {name: len(codes) for name, codes in MIXTURES.items()} == {"EN-1": 1, "ML-5": 5, "ML-5-scripts": 5, "ML-23": 23}
