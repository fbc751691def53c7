"""Profiles: one YAML file says which models, languages, sizes and limits a run uses; the code path is the same for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlpo import paths
from mlpo.errors import MlpoError
from mlpo.languages import LANGUAGES

Corruption = Literal["other reference", "copied prompt", "truncation", "repetition", "wrong language", "shuffled words"]
NAMES = ("smoke", "cpu", "laptop", "gpu", "paper")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Models(_Strict):
    """Names of models: packaged ("base", "pretrained", "smollm2"), a local folder, a hub repository; generators and translators
    may be a server too (MODEL@URL)."""

    base: str
    weak: str  # English-centred generator whose answers are translated
    translator: str  # "tuned" (the book's own), NLLB or M2M100, or a causal LM that translates few-shot
    strong: str = "references"  # native side: the references of `pref`, or a model


class Sampling(_Strict):
    """How text is drawn: temperature 0 is greedy; nucleus sampling keeps the smallest set of tokens with mass `top_p`."""

    temperature: float = Field(0.7, ge=0, le=2)
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: int = Field(64, ge=1, le=4096)


class ServerLimits(_Strict):
    """How hard a served model (MODEL@URL) is worked: requests side by side and a minute, seconds to wait, tries."""

    concurrency: int = Field(8, ge=1)
    requests_per_minute: float | None = Field(None, gt=0)
    timeout_s: float = Field(120, gt=0)
    tries: int = Field(6, ge=1)


class Training(_Strict):
    """One training stage. `batch` is in pairs (SFT: rows; RLOO: completions) per optimisation step."""

    learning_rate: float = Field(gt=0, lt=1)
    epochs: float = Field(1, gt=0)
    batch: int = Field(2, ge=1)
    lora_rank: int = Field(8, ge=1)
    warmup_steps: int = Field(0, ge=0)
    decay: bool = False  # the learning rate falls linearly to zero; else it stays
    beta: float = Field(0.1, ge=0)


class Budget(_Strict):
    """Sizes (INTERFACES, budgets). Prompts are counted per language, training items over all languages together."""

    eval_prompts: int = Field(ge=2)
    translation_prompts: int = Field(ge=1)
    reward_prompts: int = Field(ge=2)
    train_pairs: int = Field(ge=1)
    rloo_prompts: int = Field(ge=1)
    weak_characters: int | None = Field(None, ge=20)  # of a weak answer, its first sentences up to here; None: all of it
    block: int = Field(16, ge=1)  # items generated or scored together and committed at once


class Limits(_Strict):
    """Wall-clock limits of the chapter runner, in seconds."""

    cell_seconds: int = Field(ge=1)
    chapter_seconds: int = Field(ge=1)


class Profile(_Strict):
    name: str
    languages: tuple[str, ...] = Field(min_length=2)
    models: Models
    sampling: Sampling
    budget: Budget
    prompts: str | None = None  # source of English prompts to translate (a file, or a name of data.sources); None: the seed set
    server: ServerLimits = ServerLimits()
    sft: Training
    reward: Training
    dpo: Training
    rloo: Training
    held_out_corruptions: tuple[Corruption, ...] = Field(("repetition", "shuffled words"), min_length=1)
    limits: Limits

    @field_validator("languages")
    @classmethod
    def _known(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [code for code in codes if code not in LANGUAGES]:
            raise ValueError(f"unknown language {unknown[0]!r}; choose from {', '.join(LANGUAGES)}")
        if len(set(codes)) < len(codes):
            raise ValueError("a language is listed twice; list each once")
        return codes

    @model_validator(mode="after")
    def _possible(self) -> Profile:
        if "en" not in self.languages:
            raise ValueError("languages must contain en: prompts are translated from English")
        return self


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _read(name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    path = paths.PACKAGE / "profiles" / f"{name}.yaml" if name in NAMES else Path(name)
    if not path.is_file():
        raise MlpoError(f"Unknown profile {name!r}: choose {', '.join(NAMES)}, or give the path of a YAML file.")
    if name in seen:
        raise MlpoError(f"The profile {path} extends itself ({' -> '.join((*seen, name))}): remove one `extends`.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MlpoError(f"The profile {path} is not valid YAML ({str(error).splitlines()[0]}): mend it.") from None
    if not isinstance(values, dict):
        raise MlpoError(f"The profile {path} holds no settings: start it with `extends: cpu`.")
    parent = values.pop("extends", None)
    values.setdefault("name", path.stem)
    if isinstance(values.get("prompts"), str):
        beside = path.parent.resolve() / values["prompts"]  # a relative file lies beside its profile
        values["prompts"] = str(beside) if beside.suffix else values["prompts"]
    if parent not in (None, *NAMES) and (beside := path.parent.resolve() / str(parent)).exists():
        parent = beside
    return _merge(_read(str(parent), (*seen, name)), values) if parent else values


def load(name: str) -> Profile:
    """The profile of a name, or of a YAML file that may say `extends: NAME`; MlpoError names the key and the fix."""
    values = _read(str(name))
    try:
        return Profile(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "profile"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            model: Any = Profile
            for part in first["loc"][:-1]:
                model = model.model_fields[part].annotation
            message = f"unknown key; the keys here are {', '.join(model.model_fields)}"
        raise MlpoError(f"Profile {name!r}, key {where!r}: {message}.") from None
