"""Step 6: mixtures (EN-1, ML-5, ML-23; of the paper's names only ML-23-230K is confirmed): which languages share a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlpo.data.pair import Pair
from mlpo.errors import MlpoError
from mlpo.languages import LANGUAGES, get
from mlpo.models import digest


class Spec(BaseModel):
    """A mixture in words: languages, a budget in pairs (`total`, or `per_language`), and how a total is shared.

    `equal`: the same number each; `proportional`: as many as there are; `temperature`: in proportion to the number there is to
    the power 1 / `temperature` (1 is proportional, large is nearly equal).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=r"^\w[\w .&+-]*$")  # it names a folder
    languages: tuple[str, ...] = Field(min_length=1)
    total: int | None = Field(None, ge=1)
    per_language: int | None = Field(None, ge=1)
    allocation: Literal["equal", "proportional", "temperature"] = "equal"
    temperature: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _one_budget(self) -> Spec:
        if (self.total is None) == (self.per_language is None):
            raise ValueError("give either total or per_language")
        return self


# Which five languages the paper's ML-5 has is unknown; these are the book's own choice (all in Latin script), and a second one
# of five scripts.
MIXTURES: dict[str, tuple[str, ...]] = {
    "EN-1": ("en",),
    "ML-5": ("en", "vi", "de", "tr", "pt"),
    "ML-5-scripts": ("en", "ar", "zh", "hi", "ru"),
    "ML-23": tuple(LANGUAGES),
}


@dataclass(frozen=True)
class Mixture:
    """`name` says where it was cut to a profile's languages, e.g. "ML-5 & smoke"."""

    name: str
    languages: tuple[str, ...]
    pairs: tuple[Pair, ...]


def read_spec(text: str, total: int, force: bool = False) -> Spec:
    """The spec of a named mixture with a `total`, or of a YAML file, whose own budget stands unless `force` is set; MlpoError
    names what is wrong with it."""
    if text in MIXTURES:
        return Spec(name=text, languages=MIXTURES[text], total=total)
    if not Path(text).is_file():
        raise MlpoError(f"Unknown mixture {text!r}: choose {', '.join(MIXTURES)}, or give a YAML file.")
    try:
        values = yaml.safe_load(Path(text).read_text(encoding="utf-8"))
        spec = Spec(**{"name": Path(text).stem, **values})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "budget"
        raise MlpoError(f"The mixture {text}, {where}: {first['msg'].removeprefix('Value error, ')}.") from None
    except (yaml.YAMLError, TypeError, UnicodeDecodeError) as error:
        raise MlpoError(f"The mixture {text} is not a YAML mapping ({str(error).splitlines()[0]}): mend it.") from None
    for code in spec.languages:
        get(code)
    return spec.model_copy(update={"total": total, "per_language": None}) if force else spec


def shares(spec: Spec, languages: Sequence[str], available: Mapping[str, int]) -> dict[str, int]:
    """Pairs of each language; what a total leaves over after whole parts goes to the largest remainders, then the first."""
    if spec.per_language is not None:
        return dict.fromkeys(languages, spec.per_language)
    assert spec.total is not None
    power = {"equal": 0.0, "proportional": 1.0, "temperature": 1 / spec.temperature}[spec.allocation]
    weights = {lang: max(available.get(lang, 0), 0 if power else 1) ** power for lang in languages}
    exact = {lang: spec.total * weight / (sum(weights.values()) or 1) for lang, weight in weights.items()}
    given = {lang: int(value) for lang, value in exact.items()}
    for lang in sorted(languages, key=lambda lang: given[lang] - exact[lang])[: spec.total - sum(given.values())]:
        given[lang] += 1
    return given


def make(pairs: Sequence[Pair], spec: Spec, profile_languages: Sequence[str], profile: str, seed: int = 0) -> Mixture:
    """The pairs of a mixture. A pair keeps its id in every mixture; a language's pairs are taken in one seeded order, so that a
    smaller budget is a part of a larger one.

    Raises MlpoError where no language is left, and where languages lack pairs (it says which lacks how many).
    """
    wanted = tuple(code for code in spec.languages if code in profile_languages)
    if not wanted:
        raise MlpoError(f"The mixture {spec.name!r} shares no language with the profile {profile!r}.")
    label = spec.name if len(wanted) == len(spec.languages) else f"{spec.name} & {profile}"
    chosen: list[Pair] = []
    lacking = []
    numbers = shares(spec, wanted, Counter(pair.lang for pair in pairs))
    for lang, number in numbers.items():
        have = sorted((pair for pair in pairs if pair.lang == lang), key=lambda pair: digest([seed, pair.id]))
        if len(have) < number:
            lacking.append(f"{lang} lacks {number - len(have)}")
        chosen += have[:number]
    if lacking:
        total = sum(numbers.values())
        raise MlpoError(f"The mixture {label!r} with {total} pairs is impossible: {', '.join(lacking)}; lower the budget.")
    return Mixture(label, wanted, tuple(chosen))


def needed(names: Sequence[str], total: int, languages: Sequence[str]) -> dict[str, int]:
    """Pairs that each language must have so that every one of the named mixtures can be made in equal shares."""
    most = dict.fromkeys(languages, 0)
    for name in names:
        wanted = [code for code in MIXTURES[name] if code in languages]
        for lang, number in shares(Spec(name=name, languages=tuple(wanted) or ("en",), total=total), wanted, {}).items():
            most[lang] = max(most[lang], number)
    return most
