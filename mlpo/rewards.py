"""Batched scoring by a reward model: a classifier with one output on top of a language model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from mlpo.models import Loaded, load
from mlpo.records import Prompt

NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")  # digits of any script: \d and float() both know them


class FinalNumber:
    """Reward (protocol) that can be verified: 1.0 where the last number of an answer is that of the reference, else 0.0."""

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        last = lambda text: float(found[-1].replace(",", "")) if (found := NUMBER.findall(text)) else None
        return [
            float(last(p.reference) is not None and last(text) == last(p.reference))
            for p, text in zip(prompts, completions, strict=True)
        ]


class RewardModel:
    """Reward (protocol): one number for an answer to a prompt; higher is better, the scale is arbitrary.

    The model is `base` (or any causal LM) with the adapter and head that `mlpo.train.reward` trains.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    @classmethod
    def from_adapter(cls, base: str, adapter: Path) -> RewardModel:
        return cls(load(base, adapter=adapter, reward=True))

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        """Rewards in the order given; batched by length."""
        return self.score_texts([p.text for p in prompts], completions)

    @torch.inference_mode()
    def score_texts(self, prompts: Sequence[str], completions: Sequence[str], batch: int = 16) -> list[float]:
        tokenizer, model = self.loaded.tokenizer, self.loaded.model
        rows = [
            tokenizer(
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": p}, {"role": "assistant", "content": c}], tokenize=False
                ),
                add_special_tokens=False,
            )["input_ids"]
            for p, c in zip(prompts, completions, strict=True)
        ]
        scores = [0.0] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(rows), batch):
            some = order[start : start + batch]
            filled = tokenizer.pad({"input_ids": [rows[i] for i in some]}, padding_side="right", return_tensors="pt")
            logits = model(**filled.to(model.device)).logits.float().squeeze(-1)
            for i, value in zip(some, logits.tolist(), strict=True):
                scores[i] = value
        return scores
