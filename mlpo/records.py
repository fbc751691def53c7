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
class Answer:
    """What a model wrote, in `tokens` tokens (0: not known). `cut`: stopped by the token limit."""

    text: str
    cut: bool
    tokens: int = 0


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
    """Two answers to one prompt, to be judged. A judge is never told who wrote them."""

    prompt: Prompt
    a: str
    b: str


@dataclass(frozen=True)
class Verdict:
    """`difference` is score(a) - score(b) for judges that score, else None. `flipped`: a judge that sees two answers named the
    same place in both orders, which counts as a tie."""

    outcome: Literal["A", "B", "tie", "unparsable"]
    difference: float | None = None
    flipped: bool = False


class Translator(Protocol):
    """`attempt` 0 is the best try, later ones use other random numbers. `fingerprint` covers all that decides the output."""

    def fingerprint(self, source: str, target: str) -> str: ...

    def translate(self, texts: Sequence[Text], source: str, target: str, attempt: int = 0) -> Sequence[Answer]: ...


class Generator(Protocol):
    """Answers prompts, each with its own seed; `name` is for people, `fingerprint` identifies the weights."""

    name: str
    fingerprint: str

    def generate(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> Sequence[Answer]: ...


class Reward(Protocol):
    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]: ...


class Judge(Protocol):
    """`needs_reference`: it compares answers with the reference of the prompt, and can do nothing without one."""

    name: str
    needs_reference: bool

    def judge(self, matches: Sequence[Match]) -> list[Verdict]: ...
