"""Step 2: translation, by a small language model tuned for it or shown examples, an NLLB or M2M100 model, or a server.

Every translation is checked; one that fails is tried again with other random numbers, and what still fails is kept with the
reason, never silently dropped. Long texts are cut at sentences, translated part by part, and joined.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mlpo import languages
from mlpo.data.prompts import seed_prompts
from mlpo.errors import MlpoError
from mlpo.models import Lazy, Loaded, device, digest, fingerprint, ready, split_revision
from mlpo.profiles import Sampling, ServerLimits
from mlpo.records import Answer, Prompt, Text, Translator
from mlpo.sample import chat, log_likelihood, sample, seed_of
from mlpo.server import Server
from mlpo.store import Store, item_id

if TYPE_CHECKING:
    import pandas as pd

STEP_VERSION = 3
LONGEST = 200  # characters translated in one piece: in every language that fits into the limits below
TRIES = 3


@dataclass(frozen=True)
class Translation:
    """`rejected`: why the text should not be used (empty: it passed); `tries` counts attempts, `tokens` those of the text."""

    text: str
    rejected: str = ""
    tries: int = 1
    tokens: int = 0


@functools.cache
def shots(source: str, target: str, prompts: int, references: int) -> str:
    """Few-shot examples for one language pair from the split `sft`, up to where the text to translate belongs."""
    pairs = list(zip(seed_prompts("sft", source), seed_prompts("sft", target), strict=True))
    lines = [(a.text, b.text) for a, b in pairs[:prompts]]
    lines += [(a.reference, b.reference) for a, b in pairs[prompts : prompts + references]]
    names = languages.get(source).name, languages.get(target).name
    return "".join(f"{names[0]}: {a}\n{names[1]}: {b}\n\n" for a, b in lines) + f"{names[0]}:"


class FewShotTranslator:
    """A causal LM that is shown fixed translations and writes the next line: greedily, and at random on later attempts."""

    def __init__(self, loaded: Loaded | Lazy, prompts: int = 4, references: int = 2, max_new_tokens: int = 128) -> None:
        self.loaded, self.examples, self.max_new_tokens = loaded, (prompts, references), max_new_tokens

    def fingerprint(self, source: str, target: str) -> str:
        return digest(["few-shot", self.loaded.fingerprint, self.max_new_tokens, shots(source, target, *self.examples)])

    def translate(self, texts: Sequence[Text], source: str, target: str, attempt: int = 0) -> list[Answer]:
        """Translations in the order of `texts`; the examples are read once for all of them."""
        asked = [f" {text.text}\n{languages.get(target).name}:" for text in texts]
        sampling = Sampling(temperature=0.5 if attempt else 0, top_p=0.9, max_new_tokens=self.max_new_tokens)
        seeds = [seed_of(digest([text.id, attempt])) for text in texts]
        drawn = sample(self.loaded, asked, sampling, seeds, prefix=shots(source, target, *self.examples), stop="\n")
        return [Answer(row.text, row.cut, len(row.tokens)) for row in drawn]


def request(text: str, target: str) -> str:
    """What the tuned translator is asked."""
    return f"Translate into {languages.get(target).name}: {text}"


class TunedTranslator:
    """A causal LM trained to translate both ways (`tools/recorded.py translator`).

    It writes several candidates, the likeliest one and random ones, and of those without a visible flaw takes the one from which
    it finds the source likeliest when it translates back: the noisy channel of statistical machine translation.
    """

    def __init__(self, loaded: Loaded | Lazy, candidates: int = 4, max_new_tokens: int = 128, batch: int = 64) -> None:
        self.loaded, self.candidates, self.max_new_tokens, self.batch = loaded, candidates, max_new_tokens, batch

    def fingerprint(self, source: str, target: str) -> str:
        return digest(["tuned", self.loaded.fingerprint, self.candidates, self.max_new_tokens, source, target])

    def translate(self, texts: Sequence[Text], source: str, target: str, attempt: int = 0) -> list[Answer]:
        """Best candidates in the order of `texts`. The first attempt includes the greedy one, later ones are all random."""
        return self.translate_pairs(texts, [(source, target)] * len(texts), attempt)

    def translate_pairs(self, texts: Sequence[Text], pairs: Sequence[tuple[str, str]], attempt: int = 0) -> list[Answer]:
        """The same with a source and a target for each text, all in one batch."""
        asked = [chat(self.loaded.tokenizer, request(text.text, pair[1])) for text, pair in zip(texts, pairs, strict=True)]
        sampling = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=self.max_new_tokens)
        drawn = [(i, k) for i in range(len(texts)) for k in range(self.candidates)]
        first = 1 if attempt == 0 else 0  # candidates that are not drawn at random
        seeds = [None if k < first else seed_of(digest([texts[i].id, attempt, k - first])) for i, k in drawn]
        rows = sample(self.loaded, [asked[i] for i, _ in drawn], sampling, seeds, batch=self.batch)
        found: list[dict[str, Any]] = [{} for _ in texts]
        for (i, _), row in zip(drawn, rows, strict=True):
            found[i].setdefault(row.text, row)
        for i, (text, (source, target)) in enumerate(zip(texts, pairs, strict=True)):
            sound = {made: row for made, row in found[i].items() if not flaw(text.text, made, target, source, row.cut)}
            found[i] = sound or found[i]
        rivals = [(i, made) for i, some in enumerate(found) if len(some) > 1 for made in some]
        end = self.loaded.tokenizer.eos_token
        back = log_likelihood(
            self.loaded,
            [texts[i].text + end for i, _ in rivals],
            [chat(self.loaded.tokenizer, request(made, pairs[i][0])) for i, made in rivals],
        )
        score = dict(zip(rivals, back, strict=True))
        best = [some[max(some, key=lambda made: score.get((i, made), 0.0))] for i, some in enumerate(found)]
        return [Answer(row.text, row.cut, len(row.tokens)) for row in best]


class Seq2SeqTranslator:
    """NLLB-200 or M2M100, from the hub or a folder. Greedy at first, sampled on later attempts."""

    def __init__(self, name: str, max_new_tokens: int = 256) -> None:
        import transformers

        place, revision = split_revision(name)
        try:
            model = transformers.AutoModelForSeq2SeqLM.from_pretrained(place, revision=revision, use_safetensors=True)
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(place, revision=revision)
        except (OSError, ValueError) as error:
            raise MlpoError(
                f"The translator {name!r} cannot be loaded ({str(error).splitlines()[0]}): give a folder that holds it, check the "
                "network and HF_TOKEN, or name a causal language model."
            ) from None
        commit = getattr(model.config, "_commit_hash", None)
        self.model, self.max_new_tokens = model.to(device()), max_new_tokens
        self.name = f"{place}@{commit}" if commit else name
        self._identity = fingerprint(place, commit or revision)

    def fingerprint(self, source: str, target: str) -> str:
        return digest(["seq2seq", self._identity, source, target, self.max_new_tokens])

    def code(self, lang: str) -> tuple[str, int]:
        """The model's own name and token of a language: ISO 639-1 for M2M100, FLORES-200 for NLLB."""
        own = getattr(self.tokenizer, "lang_code_to_id", {})
        flores = languages.get(lang).nllb
        name, token = (lang, own[lang]) if lang in own else (flores, self.tokenizer.convert_tokens_to_ids(flores))
        if token == self.tokenizer.unk_token_id:
            raise MlpoError(f"The translator {self.name!r} does not know {languages.get(lang).name}: choose another.")
        return name, token

    def translate(self, texts: Sequence[Text], source: str, target: str, attempt: int = 0) -> list[Answer]:
        import torch

        if attempt and len(texts) > 1:  # each text draws its own random numbers, whatever else is in the batch
            return [self.translate([text], source, target, attempt)[0] for text in texts]
        self.tokenizer.src_lang = self.code(source)[0]
        filled = self.tokenizer([text.text for text in texts], return_tensors="pt", padding=True).to(self.model.device)
        torch.manual_seed(seed_of(digest([texts[0].id, attempt])))
        options: dict[str, Any] = {"do_sample": True, "temperature": 0.7} if attempt else {"do_sample": False, "num_beams": 1}
        with torch.inference_mode():
            rows = self.model.generate(
                **filled, forced_bos_token_id=self.code(target)[1], max_new_tokens=self.max_new_tokens, **options
            )
        end = self.tokenizer.eos_token_id
        decoded = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [Answer(text.strip(), end not in row[1:].tolist(), len(row)) for text, row in zip(decoded, rows, strict=True)]


class ServedTranslator:
    """A chat model behind a server, told to translate and shown the same examples."""

    def __init__(self, server: Server, prompts: int = 4, references: int = 2, max_new_tokens: int = 256) -> None:
        self.server, self.examples, self.max_new_tokens = server, (prompts, references), max_new_tokens

    def fingerprint(self, source: str, target: str) -> str:
        return digest(["served", self.server.fingerprint, self.max_new_tokens, shots(source, target, *self.examples)])

    def translate(self, texts: Sequence[Text], source: str, target: str, attempt: int = 0) -> list[Answer]:
        names = languages.get(source).name, languages.get(target).name
        told = f"Translate from {names[0]} into {names[1]}. Reply with the {names[1]} text alone.\n\n"
        lead = told + shots(source, target, *self.examples)
        sampling = Sampling(temperature=0.7 if attempt else 0, max_new_tokens=self.max_new_tokens)
        seeds = [seed_of(digest([text.id, attempt])) for text in texts]
        return self.server.chat([f"{lead} {text.text}\n{names[1]}:" for text in texts], sampling, seeds)


def make(name: str, limits: ServerLimits | None = None) -> Translator:
    """The translator of a profile: `tuned` is the book's own, MODEL@URL a server, an encoder-decoder NLLB or M2M100; any other
    model translates few-shot."""
    from transformers import AutoConfig

    if name == "tuned":
        return TunedTranslator(ready(name))
    if "@http" in name:
        return ServedTranslator(Server(name, limits))
    if "/" in name:
        place, revision = split_revision(name)
        try:
            if AutoConfig.from_pretrained(place, revision=revision).is_encoder_decoder:
                return Seq2SeqTranslator(name)
        except (OSError, ValueError):
            pass  # load() says what is missing
    return FewShotTranslator(ready(name))


def sentences(text: str, longest: int = LONGEST) -> list[str]:
    """`text` in parts of whole sentences, each at most `longest` characters where its sentences allow it."""
    parts: list[str] = []
    for sentence in re.split(r"(?<=[.!?।؟])(?=\s)|(?<=[.!?।؟][\"'”’»)])(?=\s)|(?<=[。！？])|(?=\n)", text):
        if parts and len(parts[-1]) + len(sentence.rstrip()) <= longest:
            parts[-1] += sentence
        elif sentence:
            parts.append(sentence)
    return [part.strip() for part in parts if part.strip()] or [text]


@functools.cache
def usual_length(target: str) -> float:
    """Characters in the target language for one of English, over the references of `sft`."""
    return sum(len(p.reference) for p in seed_prompts("sft", target)) / sum(len(p.reference) for p in seed_prompts("sft", "en"))


def flaw(original: str, text: str, target: str, source: str = "en", cut: bool = False) -> str:
    """Why a translation cannot be used: one short reason, or "" where nothing is wrong that can be seen without reading it."""
    if not text:
        return "empty"
    if cut:
        return "cut by the limit"
    if _share_copied(original, text) > 0.5:
        return "copied"
    if languages.script_share(text, target) < 0.5:
        return "wrong script"
    if languages.identify([text])[0] != target:
        return "wrong language"
    if repetition(text, target) > 0.4:
        return "repeats itself"
    ratio = len(text) / max(1, len(original)) / (usual_length(target) / usual_length(source))
    return "too short" if ratio < 0.4 else "too long" if ratio > 2.5 else ""


def _share_copied(original: str, text: str) -> float:
    """Share of the words of `text` (longer than three letters) that stand in `original` too."""
    split = lambda text: [word.strip(string.punctuation + "«»„“”’।؟،…") for word in text.casefold().split()]
    words, have = [word for word in split(text) if len(word) > 3 and not word.isdigit()], set(split(original))
    return sum(word in have for word in words) / len(words) if words else 0.0


def repetition(text: str, lang: str, size: int = 3) -> float:
    """Share of runs of `size` words (of three times as many characters where words are not separated) that came before."""
    parts, size = (list(text), 3 * size) if languages.split_characters(lang) else (text.split(), size)
    runs = [tuple(parts[i : i + size]) for i in range(len(parts) - size + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def measure(
    store: Store, translator: Translator, english: Sequence[Prompt], own: Sequence[Prompt], block: int, round_trip: bool = False
) -> pd.DataFrame:
    """How good a translator is on prompts that exist in the language too: one row for each of `own`, which has the same ids.

    chrF (Popović 2015, 0 to 100) of the translation and of the English itself against the language's own text; with
    `round_trip`, of its translation back against the English. The rest are shares and ratios as `flaw` uses them.
    """
    import pandas as pd
    from sacrebleu.metrics import CHRF

    chrf = lambda text, reference: CHRF().sentence_score(text, [reference]).score
    in_english = {p.id: p.text for p in english}
    done = run(store, translator, [(in_english[p.id], "en", p.lang) for p in own], block)
    back = [Translation("")] * len(own)
    if round_trip:
        back = run(store, translator, [(made.text, p.lang, "en") for p, made in zip(own, done, strict=True)], block)
    rows = []
    for p, made, returned in zip(own, done, back, strict=True):
        source, text = in_english[p.id], made.text
        row: dict[str, Any] = {"id": p.id, "lang": p.lang, "source": source, "translation": text, "reference": p.text}
        row |= {"chrf": chrf(text, p.text), "chrf_copy": chrf(source, p.text), "in_language": languages.is_in(text, p.lang)}
        row |= {"length_ratio": len(text) / len(p.text), "copied": _share_copied(source, text)}
        row |= {"repetition": repetition(text, p.lang), "rejected": made.rejected, "tries": made.tries}
        if returned.text:
            row |= {"back-translation": returned.text, "round_trip": chrf(returned.text, source)}
        rows.append(row)
    return pd.DataFrame(rows)


def run(store: Store, translator: Translator, wanted: Sequence[tuple[str, str, str]], block: int) -> list[Translation]:
    """Translations of (text, source, target), in order; what the store holds is not made again. Text in the target language
    stays as it is."""
    items: dict[str, tuple[str, str, str]] = {}
    ids: dict[tuple[str, str, str], str] = {}
    for text, source, target in dict.fromkeys(wanted):
        for part in sentences(text) if text and source != target else []:
            key = (part, source, target)
            ids[key] = item_id("translate", STEP_VERSION, [digest(part), source, target], translator.fingerprint(source, target))
            items[ids[key]] = key
    done = store.complete("translate", items, lambda _, some: _translate_block(translator, some), block)

    def whole(text: str, source: str, target: str) -> Translation:
        if not text or source == target:
            return Translation(text, "" if text else "empty")
        return _join([Translation(**done[ids[part, source, target]]) for part in sentences(text)], target)

    return [whole(*one) for one in wanted]


def to_english(store: Store, translator: Translator, texts: Sequence[str], langs: Sequence[str], block: int) -> list[str]:
    """The translator's own reading of `texts`, a help for the eye and no more; "" for those that are in English."""
    wanted = [(text, lang, "en") for text, lang in zip(texts, langs, strict=True)]
    done = run(store, translator, wanted, block)
    return ["" if lang == "en" else made.text for made, lang in zip(done, langs, strict=True)]


def _translate_block(translator: Translator, parts: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    results: dict[tuple[str, str, str], Translation] = {}
    waiting = list(parts)
    for attempt in range(TRIES):
        for part, answer in zip(waiting, _attempt(translator, waiting, attempt), strict=True):
            text, source, target = part
            why = flaw(text, answer.text, target, source, answer.cut)
            if attempt == 0 or not why:  # what never passes keeps its first text
                results[part] = Translation(answer.text, why, tokens=answer.tokens)
            results[part] = replace(results[part], tries=attempt + 1)
        waiting = [part for part in waiting if results[part].rejected]
        if not waiting:
            break
    return [asdict(results[part]) for part in parts]


def _attempt(translator: Translator, parts: Sequence[tuple[str, str, str]], attempt: int) -> list[Answer]:
    """One attempt at each part: all at once where the translator can do that, else one pair of languages after the other."""
    texts, pairs = [Text(digest(part[0]), part[0]) for part in parts], [(source, target) for _, source, target in parts]
    if isinstance(translator, TunedTranslator):
        return translator.translate_pairs(texts, pairs, attempt)
    answers: dict[int, Answer] = {}
    for pair in dict.fromkeys(pairs):
        mine = [i for i, other in enumerate(pairs) if other == pair]
        answers |= zip(mine, translator.translate([texts[i] for i in mine], *pair, attempt), strict=True)
    return [answers[i] for i in range(len(parts))]


def _join(parts: Sequence[Translation], target: str) -> Translation:
    why = next((part.rejected for part in parts if part.rejected), "")
    space = "" if languages.split_characters(target) else " "
    return Translation(space.join(part.text for part in parts), why, max(part.tries for part in parts))
