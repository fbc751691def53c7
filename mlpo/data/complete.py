"""Step 3: completions. Every answer of a model to a prompt is drawn here, for data, training and evaluation alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlpo.models import Loaded, digest
from mlpo.profiles import Sampling
from mlpo.records import Completion, Prompt
from mlpo.sample import chat, sample, seed_of
from mlpo.store import Store, item_id

STEP_VERSION = 1


def run(
    store: Store,
    loaded: Loaded,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    role: str,
    seed: int = 0,
    samples: int = 1,
    block: int = 32,
) -> list[Completion]:
    """`samples` answers of one model to each prompt, in the order of `prompts` (samples of a prompt side by side)."""
    options = sampling.model_dump()
    ids = [
        item_id("complete", STEP_VERSION, [digest(prompt.text)], loaded.fingerprint, options, seed * 1000 + k)
        for prompt in prompts
        for k in range(samples)
    ]
    asked = [prompt for prompt in prompts for _ in range(samples)]

    def compute(some: list[str], texts: list[str]) -> list[dict[str, object]]:
        formatted = [chat(loaded.tokenizer, text) for text in texts]
        order = sorted(range(len(some)), key=lambda i: formatted[i])  # samples of one prompt side by side: read once
        drawn = sample(loaded, [formatted[i] for i in order], sampling, [seed_of(some[i]) for i in order])
        by_item = {some[i]: {"text": row.text, "cut": row.cut} for i, row in zip(order, drawn, strict=True)}
        return [by_item[item] for item in some]

    done = store.complete("complete", dict(zip(ids, (p.text for p in asked), strict=True)), compute, block)
    return [
        Completion(item, prompt.id, prompt.lang, role, done[item]["text"], done[item]["cut"])
        for item, prompt in zip(ids, asked, strict=True)
    ]


def whole_sentences(text: str) -> str:
    """`text` on one line, up to its last sentence end (not a list's number); all of it where there is none."""
    text = " ".join(text.split())
    ends = [match.end() for match in re.finditer(r"(?<!\d)[.!?](?=\s|$)", text)]
    return text[: ends[-1]] if ends else text


def references(prompts: Sequence[Prompt]) -> list[Completion]:
    """The native side of the small profiles: references, written in the language by a strong writer."""
    return [Completion(digest(["reference", p.id, p.lang]), p.id, p.lang, "native", p.reference) for p in prompts]
