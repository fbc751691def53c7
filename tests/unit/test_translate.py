"""Translators and the checks on what they write."""

from __future__ import annotations

import json

import pytest

from mlpo import MlpoError
from mlpo.data import translate
from mlpo.data.prompts import seed_prompts
from mlpo.languages import LANGUAGES
from mlpo.models import load
from mlpo.records import Answer, Text
from mlpo.store import Store


class Scripted:
    """A translator that says what it is told, attempt by attempt."""

    def __init__(self, *attempts: str, cut: bool = False):
        self.attempts, self.cut, self.calls = attempts, cut, []

    def fingerprint(self, source: str, target: str) -> str:
        return "scripted"

    def translate(self, texts, source, target, attempt=0):
        self.calls.append((attempt, [text.text for text in texts]))
        return [Answer(self.attempts[min(attempt, len(self.attempts) - 1)], self.cut) for _ in texts]


ENGLISH = "Why does the sky look blue at midday but red near sunset?"
GERMAN = "Warum sieht der Himmel mittags blau aus, aber bei Sonnenuntergang rot?"


@pytest.mark.parametrize(
    ("text", "target", "why"),
    [
        (GERMAN, "de", ""),
        ("", "de", "empty"),
        (ENGLISH, "de", "copied"),
        (GERMAN, "hi", "wrong script"),
        (GERMAN, "nl", "wrong language"),
        ("Warum ist der Himmel " + "so blau wie " * 12, "de", "repeats itself"),
        ("Warum ist das so?", "de", "too short"),
        (GERMAN + " " + " ".join(p.reference for p in seed_prompts("sft", "de")[:3]), "de", "too long"),
    ],
)
def test_flaws_are_named(text, target, why):
    assert translate.flaw(ENGLISH, text, target) == why


def test_two_borrowed_words_in_a_hindi_text_are_no_copy():
    hindi = "मधुमक्खियाँ फूलों से nectar लेती हैं और उससे शहद बनाती हैं, इसलिए bees बहुत उपयोगी होती हैं।"
    assert translate.flaw("Bees take nectar from flowers and make honey of it, so bees are very useful.", hindi, "hi") == ""


def test_the_seed_sets_own_texts_have_no_flaws():
    """The thresholds let through what a careful writer wrote: at most one text in a hundred is turned away."""
    wrong = []
    for lang in LANGUAGES:
        for a, b in zip(seed_prompts("dev", "en"), seed_prompts("dev", lang), strict=True):
            if lang != "en":
                both = ((a.text, b.text), (a.reference, b.reference))
                wrong += [(lang, a.id, why) for x, y in both if (why := translate.flaw(x, y, lang))]
    assert len(wrong) <= 0.01 * 22 * 40, wrong


def test_a_failed_translation_is_tried_again_and_what_fails_is_kept_with_its_reason(tmp_path):
    good = Scripted(ENGLISH, GERMAN)
    done = translate.run(Store(tmp_path / "a.sqlite"), good, [(ENGLISH, "en", "de")], 8)
    assert done[0] == translate.Translation(GERMAN, "", 2)
    bad = Scripted(ENGLISH)
    done = translate.run(Store(tmp_path / "b.sqlite"), bad, [(ENGLISH, "en", "de")], 8)
    assert (done[0].text, done[0].rejected) == (ENGLISH, "copied")
    assert [attempt for attempt, _ in bad.calls] == [0, 1, 2]
    cut = translate.run(Store(tmp_path / "c.sqlite"), Scripted(GERMAN, cut=True), [(ENGLISH, "en", "de")], 8)
    assert cut[0].rejected == "cut by the limit"


def test_equal_texts_are_one_item_and_each_gets_it(tmp_path):
    translator = Scripted(GERMAN)
    store = Store(tmp_path / "s.sqlite")
    done = translate.run(store, translator, [(ENGLISH, "en", "de")] * 2, 2)
    assert done[0] == done[1]
    assert [len(texts) for _, texts in translator.calls] == [1]
    assert translate.run(store, translator, [(ENGLISH, "en", "de")], 2) == done[:1]
    assert len(translator.calls) == 1
    assert translate.run(store, translator, [(ENGLISH, "en", "en"), ("", "en", "de")], 2) == [
        translate.Translation(ENGLISH),
        translate.Translation("", "empty"),
    ]


def test_several_languages_go_in_one_call_each_with_its_own_translator_call_and_identity(tmp_path):
    translator = Scripted(GERMAN)
    store = Store(tmp_path / "s.sqlite")
    done = translate.run(store, translator, [(ENGLISH, "en", "de"), (ENGLISH, "en", "hi"), (GERMAN, "de", "en")], 8)
    assert [made.rejected for made in done] == ["", "wrong script", "copied"]
    assert store.count("translate") == 3
    assert [attempt for attempt, _ in translator.calls] == [0, 0, 0, 1, 1, 2, 2]


def test_long_texts_are_cut_at_sentences_and_joined(tmp_path):
    text = " ".join(p.reference for p in seed_prompts("sft", "en")[:8])
    parts = translate.sentences(text)
    assert len(parts) > 2
    assert " ".join(parts) == text
    assert all(len(part) <= translate.LONGEST and part[-1] in ".!?" for part in parts)
    assert "".join(translate.sentences("水はなぜ冷たいですか。氷だからです。" * 30)) == "水はなぜ冷たいですか。氷だからです。" * 30
    assert translate.sentences("no end of sentence") == ["no end of sentence"]
    assert translate.sentences("It cost 3.50 in 2020. Then it rose.", 25) == ["It cost 3.50 in 2020.", "Then it rose."]
    done = translate.run(Store(tmp_path / "s.sqlite"), Scripted("Eins."), [(text, "en", "de")], 8)
    assert done[0].text == " ".join(["Eins."] * len(parts))


@pytest.fixture(scope="module", params=["nllb", "m2m100"])
def seq2seq(request, tmp_path_factory):
    """A tiny checkpoint of the architecture, in a folder as the hub would give it, with a tokenizer trained on the spot."""
    import sentencepiece
    import transformers

    folder = tmp_path_factory.mktemp(request.param)
    texts = [p.text for lang in LANGUAGES for p in seed_prompts("sft", lang)]
    if request.param == "nllb":
        pieces = ["<s>", "<pad>", "</s>", "<unk>", *sorted(set("▁" + "".join(texts)))]
        codes = [language.nllb for language in LANGUAGES.values()]
        vocabulary = {piece: i for i, piece in enumerate(pieces)}
        tokenizer = transformers.NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=codes)
    else:
        model = folder / "sentencepiece.bpe.model"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=(writer := model.open("wb")), vocab_size=2500, minloglevel=2
        )
        writer.close()
        trained = sentencepiece.SentencePieceProcessor(model_file=str(model))
        pieces = ["<s>", "<pad>", "</s>", "<unk>"] + [trained.id_to_piece(i) for i in range(3, 2500)]
        (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
        tokenizer = transformers.M2M100Tokenizer(str(folder / "vocab.json"), str(model))
    shape = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = transformers.M2M100Config(vocab_size=len(pieces) + 250, encoder_ffn_dim=16, decoder_ffn_dim=16, **shape)
    transformers.M2M100ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return translate.make(str(folder))


def test_nllb_and_m2m100_know_all_languages_and_write_into_the_one_asked_for(seq2seq, monkeypatch):
    assert isinstance(seq2seq, translate.Seq2SeqTranslator)
    codes = {lang: seq2seq.code(lang) for lang in LANGUAGES}
    assert len({token for _, token in codes.values()}) == 23
    assert {name for name, _ in codes.values()} in ({one.nllb for one in LANGUAGES.values()}, set(LANGUAGES))
    seen = []
    generate = seq2seq.model.generate
    monkeypatch.setattr(seq2seq.model, "generate", lambda **k: seen.append(k) or generate(**k))
    seq2seq.max_new_tokens = 6
    rows = seq2seq.translate([Text("1", ENGLISH), Text("2", "Short.")], "en", "el")
    assert len(rows) == 2
    assert seen[0]["forced_bos_token_id"] == codes["el"][1]
    assert seen[0]["do_sample"] is False
    assert (seen[0]["input_ids"] == codes["en"][1]).sum(-1).tolist() == [1, 1]  # the source language is marked
    sampled = [seq2seq.translate([Text("1", ENGLISH)], "en", "el", attempt=1)[0].text for _ in range(2)]
    assert sampled[0] == sampled[1]
    assert seen[-1]["do_sample"] is True
    assert seq2seq.fingerprint("en", "el") != seq2seq.fingerprint("en", "de")


def test_a_translator_that_cannot_be_loaded_is_one_sentence(tmp_path):
    with pytest.raises(MlpoError, match="cannot be loaded"):
        translate.Seq2SeqTranslator(str(tmp_path))


def test_few_shots_are_the_models_own_translation(base):
    translator = translate.FewShotTranslator(load("pretrained"), max_new_tokens=16)
    lead = translate.shots("en", "de", *translator.examples)
    assert lead.startswith("English: ")
    assert lead.endswith("\n\nEnglish:")
    assert not any(p.text in lead or p.reference in lead for p in seed_prompts("dev", "en"))
    rows = translator.translate([Text("1", "Why is the sky blue?")], "en", "de")
    assert "Himmel" in rows[0].text


def test_the_tuned_translator_takes_the_candidate_from_which_the_source_is_likeliest(monkeypatch):
    """The mechanics on the untuned model: candidates of each text stay with it, flawed ones come last, later attempts differ."""
    loaded = load("pretrained")
    translator = translate.TunedTranslator(loaded, candidates=3, max_new_tokens=12)
    texts = [Text("1", "Why is the sky blue?"), Text("2", "Name two fruits that grow in cold places.")]
    seen = []
    score = translate.log_likelihood
    monkeypatch.setattr(translate, "log_likelihood", lambda *a, **k: seen.append((a, score(*a, **k))) or seen[-1][1])
    first = translator.translate(texts, "en", "de")
    again = translator.translate(texts, "en", "de")
    later = translator.translate(texts, "en", "de", attempt=1)
    assert first == again
    assert [row.text for row in later] != [row.text for row in first]
    mixed = translator.translate_pairs(texts, [("en", "de"), ("en", "fr")])  # other languages beside it change nothing
    assert mixed == [first[0], translator.translate(texts[1:], "en", "fr")[0]]
    (_, sources, before), scores = seen[0]
    assert sources
    for text, row in zip(texts, first, strict=True):
        mine = [i for i, source in enumerate(sources) if source.startswith(text.text)]
        asked = {i: before[i].split("English: ")[1].split("<end_of_turn>")[0] for i in mine}
        sound = [not translate.flaw(text.text, made, "de", "en", row.cut) for made in [*asked.values(), row.text]]
        assert all(sound) or not any(sound)  # candidates with a flaw compete only among themselves
        assert not mine or row.text.strip() == asked[max(mine, key=lambda i: scores[i])].strip()
    assert translator.fingerprint("en", "de") != translator.fingerprint("en", "fr")
