"""Step 3: completions. Every answer of a model to a prompt is drawn here, for data, training and evaluation alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlpo import languages
from mlpo.data import translate
from mlpo.models import Lazy, Loaded, digest, ready
from mlpo.profiles import Profile, Sampling, ServerLimits
from mlpo.records import Answer, Completion, Generator, Prompt, Translator
from mlpo.sample import chat, sample, seed_of
from mlpo.server import Server
from mlpo.store import Store, item_id

if TYPE_CHECKING:
    import pandas as pd

STEP_VERSION = 2


class LocalGenerator:
    """Generator (protocol) over a model on this machine."""

    def __init__(self, loaded: Loaded | Lazy, batch: int = 32) -> None:
        self.loaded, self.batch = loaded, batch
        self.name, self.fingerprint = loaded.name, loaded.fingerprint

    def generate(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        drawn = sample(self.loaded, [chat(self.loaded.tokenizer, p) for p in prompts], sampling, seeds, batch=self.batch)
        return [Answer(row.text, row.cut, len(row.tokens)) for row in drawn]


class ServedGenerator:
    """Generator (protocol) over an OpenAI-compatible server."""

    def __init__(self, server: Server) -> None:
        self.server, self.name, self.fingerprint = server, server.model, server.fingerprint

    def generate(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        return self.server.chat(prompts, sampling, seeds)


def generator(name: str, limits: ServerLimits | None = None) -> Generator:
    """The generator of a profile: MODEL@URL is a server, anything else a model for this machine."""
    return ServedGenerator(Server(name, limits)) if "@http" in name else LocalGenerator(ready(name))


def run(
    store: Store,
    model: Generator,
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
    asked = [(prompt, k) for prompt in prompts for k in range(samples)]
    ids = [
        item_id("complete", STEP_VERSION, [digest(prompt.text)], model.fingerprint, options, seed * 1000 + k) for prompt, k in asked
    ]

    def compute(some: list[str], texts: list[str]) -> list[dict[str, object]]:
        drawn = model.generate(texts, sampling, [seed_of(item) for item in some])
        return [{"text": row.text, "cut": row.cut, "tokens": row.tokens} for row in drawn]

    # Samples of one prompt go into one block, where the sampler reads the prompt once for all of them.
    order: dict[str, str] = {item: digest(prompt.text) for item, (prompt, _) in zip(ids, asked, strict=True)}
    items: dict[str, str] = {item: prompt.text for item, (prompt, _) in zip(ids, asked, strict=True)}
    done = store.complete("complete", items, compute, block, order=order.__getitem__)
    return [
        Completion(item, prompt.id, prompt.lang, role, done[item]["text"], done[item]["cut"])
        for item, (prompt, _) in zip(ids, asked, strict=True)
    ]


def table(store: Store, model: Generator, prompts: Sequence[Prompt], sampling: Sampling, *, seed: int, block: int) -> pd.DataFrame:
    """One answer of a policy to each prompt, as a chapter records them: prompt_id, lang, text, cut."""
    import pandas as pd

    done = run(store, model, prompts, sampling, role="policy", seed=seed, block=block)
    return pd.DataFrame([{"prompt_id": c.prompt_id, "lang": c.lang, "text": c.text, "cut": c.cut} for c in done])


def whole_sentences(text: str, longest: int | None = None) -> str:
    """`text` on one line, up to its last sentence end (not a list's number), or the last one within `longest` characters where
    there is one; all of it where it has none."""
    text = " ".join(text.split())
    ends = [match.end() for match in re.finditer(r"(?<!\d)[.!?](?=\s|$)", text)]
    within = [end for end in ends if longest is None or end <= longest] or ends[:1]
    return text[: within[-1]] if within else text


def flaw(completion: Completion) -> str:
    """Why an answer makes no pair: one short reason, or ""."""
    if not completion.text:
        return "empty"
    return "" if languages.is_in(completion.text, completion.lang) else "wrong language"


def references(prompts: Sequence[Prompt]) -> list[Completion]:
    """The native side of the small profiles: references, written in the language by a strong writer."""
    return [Completion(digest(["reference", p.id, p.lang, p.reference]), p.id, p.lang, "native", p.reference) for p in prompts]


def native(store: Store, profile: Profile, prompts: Sequence[Prompt], sampling: Sampling, *, seed: int) -> list[Completion]:
    """The strong side: references of the prompts, or answers of the model that the profile names."""
    if profile.models.strong == "references":
        return references(prompts)
    strong = generator(profile.models.strong, profile.server)
    return run(store, strong, prompts, sampling, role="native", seed=seed, block=profile.budget.block)


def translated(
    store: Store,
    weak: Generator,
    translator: Translator,
    english: Sequence[Prompt],
    wanted: Sequence[Prompt],
    sampling: Sampling,
    *,
    seed: int,
    block: int,
    longest: int | None = None,
) -> tuple[list[Completion], dict[str, str]]:
    """The weak side: answers to the English prompts, whole sentences of them (up to `longest` characters) translated for each
    prompt of `wanted` with the same id. Also why a translation should not be used, by completion id (only those that failed)."""
    answers = {c.prompt_id: c for c in run(store, weak, english, sampling, role="translated", seed=seed, block=block)}
    completions, rejected = [], {}
    done = translate.run(store, translator, [(whole_sentences(answers[p.id].text, longest), "en", p.lang) for p in wanted], block)
    for p, made in zip(wanted, done, strict=True):
        identity = digest([answers[p.id].id, p.lang, made.text])
        completions.append(Completion(identity, p.id, p.lang, "translated", made.text, answers[p.id].cut))
        if made.rejected:
            rejected[identity] = made.rejected
    return completions, rejected
