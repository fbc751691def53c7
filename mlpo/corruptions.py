"""Answers made worse on purpose. They train and test the reward model, and test judges on pairs of known order."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import get_args

from mlpo.languages import split_characters
from mlpo.profiles import Corruption
from mlpo.records import Prompt

KINDS: tuple[str, ...] = get_args(Corruption)


def words(text: str, lang: str) -> list[str]:
    """Words of a text; characters where the language does not separate words."""
    return list(text) if split_characters(lang) else text.split()


def join(parts: list[str], lang: str) -> str:
    return ("" if split_characters(lang) else " ").join(parts)


def corrupt(prompt: Prompt, kind: str, prompts: Mapping[tuple[str, str], Prompt]) -> str:
    """The reference of `prompt` made worse in the way `kind`; `prompts` holds all of its split by (id, language).

    Drawn at random from the prompt's id, so that it is the same at every call. Unchanged where there is nothing to draw from (a
    lone prompt or language). To spoil other answers than references, put them in the references' place in both arguments.
    """
    draw = random.Random(f"{kind}/{prompt.id}/{prompt.lang}")
    parts = words(prompt.reference, prompt.lang)
    if kind == "other reference":
        others = sorted(p.id for p in prompts.values() if p.lang == prompt.lang and p.id != prompt.id)
        return prompts[draw.choice(others), prompt.lang].reference if others else prompt.reference
    if kind == "copied prompt":
        return prompt.text
    if kind == "truncation":
        return join(parts[: max(1, int(len(parts) * draw.uniform(0.3, 0.7)))], prompt.lang)
    if kind == "repetition":
        piece = parts[: max(2, len(parts) // 4)]
        return join((piece * 5)[: len(parts)], prompt.lang)
    if kind == "wrong language":
        others = sorted(p.lang for p in prompts.values() if p.id == prompt.id and p.lang != prompt.lang)
        return prompts[prompt.id, draw.choice(others)].reference if others else prompt.reference
    if kind == "shuffled words":
        draw.shuffle(parts)
        return join(parts, prompt.lang)
    raise ValueError(f"unknown corruption {kind!r}: choose {', '.join(KINDS)}")
