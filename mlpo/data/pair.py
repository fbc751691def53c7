"""Step 5: preference pairs from completions, by role or by reward."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from mlpo.errors import MlpoError
from mlpo.models import digest
from mlpo.records import Completion, Prompt

STEP_VERSION = 2
Rule = Literal["role", "reward", "best_random", "random"]


@dataclass(frozen=True)
class Pair:
    """One preference: `chosen` over `rejected` as answers to `prompt`. `rewards` are those of chosen and rejected."""

    id: str
    prompt_id: str
    lang: str
    rule: str
    chosen_id: str
    rejected_id: str
    prompt: str
    chosen: str
    rejected: str
    chosen_role: str
    rejected_role: str
    chosen_reward: float
    rejected_reward: float


def make(
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    rewards: Sequence[float],
    rule: Rule,
    seed: int = 0,
    margin: float | None = None,
) -> list[Pair]:
    """At most one pair a prompt and language. `role`: native over translated; `reward`: highest over lowest reward;
    `best_random`: highest over any other; `random`: two completions in random order (the control). With `margin`, only pairs
    whose rewards differ by at least as much, either way. Prompts without two different completions give none. Where the rewards
    come from `rewards.FinalNumber` (1 right, 0 wrong), `reward` with margin 1 sets right answers against wrong ones.

    Raises MlpoError where completions belong to a prompt that is not among `prompts`.
    """
    by_key = {(p.id, p.lang): p for p in prompts}
    key = lambda row: (row[0].prompt_id, row[0].lang)
    pairs = []
    for (prompt_id, lang), group in groupby(sorted(zip(completions, rewards, strict=True), key=key), key):
        prompt = by_key.get((prompt_id, lang))
        if prompt is None:
            raise MlpoError(f"A completion answers prompt {prompt_id!r} in {lang!r}, which is not among the prompts given.")
        if both := _choose(list(group), rule, seed):
            (chosen, r_chosen), (rejected, r_rejected) = both
            if margin is not None and abs(r_chosen - r_rejected) < margin:
                continue
            texts = [prompt.text, chosen.text, rejected.text]
            sides_of = [prompt_id, lang, chosen.id, rejected.id]
            identity = digest({"step": "pair", "version": STEP_VERSION, "sides": sides_of, "texts": texts})
            sides = (prompt.text, chosen.text, rejected.text, chosen.role, rejected.role, r_chosen, r_rejected)
            pairs.append(Pair(identity, prompt_id, lang, rule, chosen.id, rejected.id, *sides))
    return pairs


def _choose(
    group: list[tuple[Completion, float]], rule: Rule, seed: int
) -> tuple[tuple[Completion, float], tuple[Completion, float]] | None:
    group = sorted(group, key=lambda row: row[0].id)
    if rule == "role":
        native = [row for row in group if row[0].role == "native"]
        translated = [row for row in group if row[0].role == "translated"]
        best, worst = (native[0], translated[0]) if native and translated else (None, None)
    elif rule in ("reward", "best_random"):
        best, worst = max(group, key=lambda row: row[1]), min(group, key=lambda row: row[1])
        others = [row for row in group if row[0].text != best[0].text]
        if rule == "best_random" and others:
            worst = random.Random(f"{seed}/{group[0][0].id}").choice(others)
    else:
        best, worst = random.Random(f"{seed}/{group[0][0].id}").sample(group, 2) if len(group) > 1 else (None, None)
    if best is None or worst is None or best[0].text == worst[0].text or not worst[0].text or not best[0].text:
        return None
    return best, worst


def to_trl(pairs: Iterable[Pair]) -> list[dict[str, object]]:
    """Rows in TRL's conversational preference format: prompt, chosen, rejected as lists of messages."""
    message = lambda role, text: [{"role": role, "content": text}]
    return [
        {
            "prompt": message("user", pair.prompt),
            "chosen": message("assistant", pair.chosen),
            "rejected": message("assistant", pair.rejected),
        }
        for pair in pairs
    ]
