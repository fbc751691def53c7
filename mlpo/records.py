"""One record type a step, and the protocols by which steps call each other. All batched, all typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mlpo.profiles import Sampling


@dataclass(frozen=True)
class Prompt:
    """One request of a split, in one language. `reference` is empty where there is none (`pool`)."""

    id: str
    lang: str
    split: str
    task: str
    category: str
    text: str
    reference: str = ""


@dataclass(frozen=True)
class Text:
    """A text to translate; `id` identifies it in the store."""

    id: str
    text: str


@dataclass(frozen=True)
class Completion:
    """One answer to one prompt. `role`: native | translated | policy. `cut`: stopped by the token limit."""

    id: str
    prompt_id: str
    lang: str
    role: str
    text: str
    cut: bool = False


@dataclass(frozen=True)
class Match:
    """Two answers to one prompt, to be judged."""

    prompt: Prompt
    a: str
    b: str


@dataclass(frozen=True)
class Verdict:
    """`difference` is score(a) - score(b) for judges that score, else None."""

    outcome: Literal["A", "B", "tie", "unparsable"]
    difference: float | None = None


class Translator(Protocol):
    def translate(self, texts: Sequence[Text], source: str, target: str) -> list[str]: ...


class Generator(Protocol):
    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]: ...


class Reward(Protocol):
    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]: ...


class Judge(Protocol):
    def judge(self, matches: Sequence[Match]) -> list[Verdict]: ...
