"""Step 2: translation of English text, few-shot by a causal language model."""

from __future__ import annotations

from collections.abc import Sequence

from mlpo import languages
from mlpo.data.prompts import seed_prompts
from mlpo.models import Loaded, digest
from mlpo.profiles import Sampling
from mlpo.records import Text
from mlpo.sample import sample, seed_of
from mlpo.store import Store, item_id

STEP_VERSION = 1
SHOTS = 4  # prompts of `sft` shown with their translations; the references of the first two are shown too


class FewShotTranslator:
    """Translator (protocol) that shows a causal LM a few fixed translations and lets it write the next line, greedily.

    The shots come from the split `sft`, in the target language; they are read once for a whole batch.
    """

    def __init__(self, loaded: Loaded, max_new_tokens: int = 96) -> None:
        self.loaded = loaded
        self.sampling = Sampling(temperature=0, top_p=1, max_new_tokens=max_new_tokens)

    def shots(self, source: str, target: str) -> str:
        """The few-shot prefix of one language pair."""
        pairs = []
        for i, (a, b) in enumerate(zip(seed_prompts("sft", source), seed_prompts("sft", target), strict=True)):
            if i < SHOTS:
                pairs.append((a.text, b.text))
            if i < 2:
                pairs.append((a.reference, b.reference))
        names = languages.get(source).name, languages.get(target).name
        return "".join(f"{names[0]}: {a}\n{names[1]}: {b}\n\n" for a, b in pairs) + f"{names[0]}:"

    def translate(self, texts: Sequence[Text], source: str, target: str) -> list[str]:
        """Translations in the order of `texts`; text in the target language is returned as it is."""
        if source == target:
            return [text.text for text in texts]
        prompts = [f" {text.text}\n{languages.get(target).name}:" for text in texts]
        seeds = [seed_of(digest(text.id)) for text in texts]
        drawn = sample(self.loaded, prompts, self.sampling, seeds, prefix=self.shots(source, target), stop="\n")
        return [row.text for row in drawn]


def run(store: Store, translator: FewShotTranslator, texts: Sequence[Text], target: str, block: int) -> dict[str, str]:
    """Translations of English `texts` by text id; what the store holds is not made again."""
    if target == "en":
        return {text.id: text.text for text in texts}
    options, shots = translator.sampling.model_dump(), digest(translator.shots("en", target))
    ids = [
        item_id("translate", STEP_VERSION, [digest(text.text), target, shots], translator.loaded.fingerprint, options)
        for text in texts
    ]
    items = dict(zip(ids, texts, strict=True))  # equal texts are one item
    done = store.complete("translate", items, lambda _, some: translator.translate(some, "en", target), block)
    return {text.id: done[item] for item, text in zip(ids, texts, strict=True)}
