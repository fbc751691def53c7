"""Step 1: prompts. The project's own seed set, and files of the user's in the same form (JSONL, CSV or Parquet)."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlpo import languages, paths
from mlpo.errors import MlpoError
from mlpo.records import Prompt

SEED = paths.PACKAGE / "data" / "seed"
SURE = 40  # characters from which language identification is relied on
SPLITS = ("sft", "rm", "pref", "pool", "dev", "test")
SUFFIXES = (".jsonl", ".csv", ".parquet")


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)
    id: str = Field(min_length=1)
    text: str = Field(min_length=1)
    lang: str = "en"
    split: str = "pool"
    task: str = Field("open", pattern="^(open|summarize)$")
    category: str = ""
    reference: str = ""


def read_file(path: Path) -> list[Prompt]:
    """Rows of a prompt file, checked one by one; MlpoError names file, row and fix. Only `id` and `text` are required, other
    columns than those of a prompt are ignored. A text in another script than that of its `lang` is an error too.
    """
    prompts: list[Prompt] = []
    seen: set[str] = set()
    for place, values in _rows(path):
        try:
            row = _Row(**values)
        except ValidationError as error:
            first = error.errors()[0]
            raise MlpoError(f"{path}, {place}, {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
        languages.get(row.lang)
        if any(c.isalpha() for c in row.text) and languages.script_share(row.text, row.lang) < 0.5:
            raise MlpoError(
                f"{path}, {place}: the text of {row.id!r} is not in the script of {row.lang!r}; correct `lang` or the text."
            )
        if row.id in seen:
            raise MlpoError(f"{path}, {place}: the id {row.id!r} stands twice; give each row its own.")
        seen.add(row.id)
        prompts.append(Prompt(**row.model_dump()))
    if not prompts:
        raise MlpoError(f"The prompt file {path} is empty: it needs at least one row.")
    return prompts


def _rows(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    """(place, values) of each row of a file; empty cells are left out."""
    if path.suffix not in SUFFIXES:
        raise MlpoError(f"The prompt file {path} is none of {', '.join(SUFFIXES)}: save it as one of them.")
    try:
        if path.suffix == ".parquet":
            yield from _table_rows(path)
            return
        text = path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise MlpoError(f"The prompt file {path} does not exist: check the path.") from None
    except UnicodeDecodeError as error:
        raise MlpoError(f"{path}, byte {error.start}: not valid UTF-8; save the file as UTF-8.") from None
    if path.suffix == ".csv":
        yield from _csv_rows(path, text)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                values = json.loads(line)
                if not isinstance(values, dict):
                    raise ValueError("it is another kind of value")
            except (ValueError, RecursionError) as error:
                raise MlpoError(f"{path}, line {number}: not a JSON object ({error}); mend or remove the line.") from None
            yield f"line {number}", values


def _csv_rows(path: Path, text: str) -> Iterable[tuple[str, dict[str, Any]]]:
    import csv
    import io

    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise MlpoError(f"{path}, line {reader.line_num}: the row has not as many cells as the header; mend the row.")
            yield f"line {reader.line_num}", {key: value for key, value in row.items() if value != ""}
    except csv.Error as error:
        raise MlpoError(f"{path}, line {reader.line_num}: not valid CSV ({error}); mend the row.") from None


def _table_rows(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise MlpoError(f"{path} is not a Parquet file ({str(error).splitlines()[0]}): save it again.") from None
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"row {number}", {key: value for key, value in row.items() if value is not None}


def clean(prompts: Sequence[Prompt], shortest: int = 8, longest: int = 1000) -> tuple[list[Prompt], dict[str, int]]:
    """Prompts worth translating, and how many were left out for which reason. Lengths are in characters; articles may be longer.

    Left out: too short or too long, another language than English, the same text twice (letters and digits alone count).
    """
    found = languages.identify([p.text for p in prompts])
    counts = {"too short": 0, "too long": 0, "not English": 0, "duplicate": 0}
    kept: list[Prompt] = []
    seen: set[str] = set()
    for prompt, lang in zip(prompts, found, strict=True):
        text = prompt.text.strip()
        key = "".join(char for char in text.casefold() if char.isalnum())
        if prompt.lang != "en":
            counts["not English"] += 1
        elif len(text) < shortest:
            counts["too short"] += 1
        elif len(text) > longest * (20 if prompt.task == "summarize" else 1):
            counts["too long"] += 1
        elif languages.script_share(text, "en") < 0.5 or (lang != "en" and len(text) >= SURE):
            counts["not English"] += 1
        elif key in seen:
            counts["duplicate"] += 1
        else:
            seen.add(key)
            kept.append(prompt)
    return kept, counts


def seed_prompts(split: str, lang: str, task: str = "open") -> list[Prompt]:
    """Prompts of one split and task of the seed set in one language, in the order of their ids (`pool` is English only).

    An article to `summarize` comes with the request in front of it, in its language.
    """
    if split not in SPLITS:
        raise MlpoError(f"Unknown split {split!r}: choose {', '.join(SPLITS)}.")
    if split == "test" and not (paths.RESULTS / "plan.yaml").exists():
        raise MlpoError("The split 'test' stays unread until results/plan.yaml is committed: use 'dev'.")
    rows = _seed_file("pool" if split == "pool" else languages.get(lang).code)
    chosen = sorted((p for p in rows if p.split == split and p.task == task), key=lambda p: p.id)
    return [replace(p, text=to_summarize(p.text, lang)) for p in chosen] if task == "summarize" else chosen


def to_summarize(article: str, lang: str) -> str:
    """An article with the request to summarize it in front, in its language."""
    return f"{json.loads((SEED / 'summarize.json').read_text(encoding='utf-8'))[lang]}\n\n{article}"


@functools.cache
def _seed_file(name: str) -> list[Prompt]:
    lines = (SEED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [Prompt(**json.loads(line)) for line in lines]
