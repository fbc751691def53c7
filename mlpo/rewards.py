"""Rewards of answers: the book's own reward model, any classifier with one output, a served one, or a rule that can be verified."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from mlpo.models import Lazy, Loaded, ready, recorded_adapter
from mlpo.records import Prompt
from mlpo.server import Server


class FinalNumber:
    """Reward (protocol) that can be verified: 1.0 where the last number of an answer is that of the reference, else 0.0."""

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        pairs = [(last_number(p.reference), last_number(text)) for p, text in zip(prompts, completions, strict=True)]
        return [float(right is not None and right == given) for right, given in pairs]


def last_number(text: str) -> float | None:
    """The last number in a text, in digits of any script; a mark before exactly three last digits separates thousands."""
    found = re.findall(r"[-−]?\d+(?:[.,٫٬]\d+)*", text)
    if not found:
        return None
    sign, digits = found[-1][0] in "-−", found[-1].lstrip("-−")
    parts = re.split(r"[.,٫٬]", digits)
    thousands = len(parts) > 1 and len(parts[-1]) == 3
    value = float("".join(parts)) if thousands or len(parts) == 1 else float(f"{''.join(parts[:-1])}.{parts[-1]}")
    return -value if sign else value


class RewardModel:
    """Reward (protocol): one number for an answer to a prompt; higher is better, the scale is arbitrary.

    The model is `base` (or any causal LM) with the adapter and head that `mlpo.train.reward` trains.
    """

    def __init__(self, loaded: Loaded | Lazy) -> None:
        self.loaded, self.fingerprint = loaded, loaded.fingerprint

    @classmethod
    def from_adapter(cls, base: str, adapter: Path) -> RewardModel:
        return cls(ready(base, adapter=adapter, reward=True))

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


class ServedReward:
    """Reward (protocol) over a classifier with one output that a server holds: NAME@URL, where URL/classify takes a
    conversation and gives `probs` (vLLM: the address without /v1)."""

    def __init__(self, server: Server) -> None:
        self.server, self.fingerprint = server, server.fingerprint

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        """Rewards in the order given; MlpoError where the server does not work."""
        said = lambda prompt, text: [{"role": "user", "content": prompt.text}, {"role": "assistant", "content": text}]
        return self.server.classify([said(p, text) for p, text in zip(prompts, completions, strict=True)])


def recorded() -> RewardModel:
    """The reward model that everything after chapter 05 uses: recorded, on `base`, whatever the policy."""
    return RewardModel.from_adapter("base", recorded_adapter("reward"))
