"""Step 1: prompts. The project's own seed set, and JSONL files of the user's in the same form."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlpo import languages, paths
from mlpo.errors import MlpoError
from mlpo.records import Prompt

SEED = paths.PACKAGE / "data" / "seed"
SURE = 40  # characters from which language identification is relied on
SPLITS = ("sft", "rm", "pref", "pool", "dev", "test")


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str = Field(min_length=1)
    lang: str
    split: str
    task: str = Field(pattern="^(open|summarize)$")
    category: str
    text: str = Field(min_length=1)
    reference: str = ""


def read_jsonl(path: Path) -> list[Prompt]:
    """Rows of a JSONL prompt file, checked one by one; MlpoError names file, line and fix.

    A row whose text is clearly in another language than its `lang` is an error too: training on it would teach that language.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise MlpoError(f"The prompt file {path} does not exist: check the path.") from None
    except UnicodeDecodeError as error:
        raise MlpoError(f"{path}, byte {error.start}: not valid UTF-8; save the file as UTF-8.") from None
    prompts: list[Prompt] = []
    seen: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = _Row(**json.loads(line))
        except (json.JSONDecodeError, TypeError) as error:
            raise MlpoError(f"{path}, line {number}: not a JSON object ({error}); mend or remove the line.") from None
        except ValidationError as error:
            first = error.errors()[0]
            raise MlpoError(f"{path}, line {number}, {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
        languages.get(row.lang)
        if any(c.isalpha() for c in row.text) and languages.script_share(row.text, row.lang) < 0.5:
            raise MlpoError(
                f"{path}, line {number}: the text of {row.id!r} is not in the script of {row.lang!r}; correct `lang` or the text."
            )
        if row.id in seen:
            raise MlpoError(f"{path}, line {number}: the id {row.id!r} stands twice; give each row its own.")
        seen.add(row.id)
        prompts.append(Prompt(**row.model_dump()))
    if not prompts:
        raise MlpoError(f"The prompt file {path} is empty: it needs at least one row.")
    long = [p for p in prompts if len(p.text) + len(p.reference) >= SURE]  # a few words are too little to identify
    found = languages.identify([f"{p.text} {p.reference}" for p in long])
    if wrong := [prompt for prompt, lang in zip(long, found, strict=True) if lang != prompt.lang]:
        ids = ", ".join(p.id for p in wrong[:5])
        raise MlpoError(
            f"{path}: {len(wrong)} row(s) are not in the language they name, first {ids} ({wrong[0].lang!r}); "
            "correct `lang` or the text."
        )
    return prompts


def pool(path: str | None = None) -> list[Prompt]:
    """English prompts for the pipeline to translate: the seed set's, or those of a JSONL file of the user's."""
    if path is None:
        return seed_prompts("pool", "en")
    prompts = read_jsonl(Path(path))
    if other := [p for p in prompts if p.lang != "en"]:
        raise MlpoError(f"{path}: the prompt {other[0].id!r} is in {other[0].lang!r}; prompts to translate are English.")
    return prompts


def seed_prompts(split: str, lang: str) -> list[Prompt]:
    """Prompts of one split of the seed set in one language, in the order of their ids (`pool` is English only)."""
    if split not in SPLITS:
        raise MlpoError(f"Unknown split {split!r}: choose {', '.join(SPLITS)}.")
    if split == "test" and not (paths.RESULTS / "plan.yaml").exists():
        raise MlpoError("The split 'test' stays unread until results/plan.yaml is committed: use 'dev'.")
    name = "pool" if split == "pool" else languages.get(lang).code
    path = SEED / f"{name}.jsonl"
    if not path.exists():
        have = ", ".join(sorted(p.stem for p in SEED.glob("??.jsonl")))
        raise MlpoError(f"The seed set has no prompts in {lang!r} yet: it has {have}; take it out of the profile's languages.")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted((Prompt(**row) for row in rows if row["split"] == split), key=lambda prompt: prompt.id)
