"""The reward model: TRL's RewardTrainer (Bradley-Terry loss) on `base`, with pairs of known order."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from mlpo.corruptions import KINDS, corrupt
from mlpo.evaluate.stats import clustered_share
from mlpo.models import digest, load
from mlpo.profiles import Training
from mlpo.records import Completion, Prompt
from mlpo.train import common

STEP_VERSION = 1


@dataclass(frozen=True)
class KnownPair:
    """The reference of a prompt against something worse; `kind` says what: a corruption of it, a weak model's answer
    ("weak translated"), or an answer of `base` ("base's answer")."""

    kind: str
    prompt_id: str
    lang: str
    prompt: str
    chosen: str
    rejected: str


BY_ROLE = {"translated": "weak translated", "policy": "base's answer"}


def known_pairs(prompts: Sequence[Prompt], answers: Sequence[Completion] = (), kinds: Sequence[str] = KINDS) -> list[KnownPair]:
    """Every kind of corruption of every reference, and the weak and base's own answers where given.

    Base's answers are among the rejected because a model that is shown nothing but spoiled references need not find any fault
    in fluent nonsense.
    """
    by_key: Mapping[tuple[str, str], Prompt] = {(p.id, p.lang): p for p in prompts}
    pairs = [
        KnownPair(kind, p.id, p.lang, p.text, p.reference, worse)
        for p in prompts
        for kind in kinds
        if (worse := corrupt(p, kind, by_key)) != p.reference
    ]
    for answer in answers:
        p = by_key[answer.prompt_id, answer.lang]
        pairs.append(KnownPair(BY_ROLE[answer.role], p.id, p.lang, p.text, p.reference, answer.text))
    return pairs


def draw(pairs: Sequence[KnownPair], each: int = 2) -> list[KnownPair]:
    """At most `each` pairs a reference: base's answer where there is one, the rest drawn at random by prompt and language."""
    by_reference: dict[tuple[str, str], list[KnownPair]] = {}
    for pair in pairs:
        by_reference.setdefault((pair.prompt_id, pair.lang), []).append(pair)
    chosen = []
    for (prompt_id, lang), mine in by_reference.items():
        first = [pair for pair in mine if pair.kind == BY_ROLE["policy"]][:each]
        others = [pair for pair in mine if pair.kind != BY_ROLE["policy"]]
        chosen += [*first, *random.Random(f"{prompt_id}/{lang}").sample(others, min(len(others), each - len(first)))]
    return chosen


def train(pairs: Sequence[KnownPair], config: Training, seed: int = 0, model: str = "base") -> common.Trained:
    """Train a LoRA adapter and a one-output head so that chosen scores above rejected."""
    identity = common.identity("reward", STEP_VERSION, model, config, seed, pairs=digest([asdict(pair) for pair in pairs]))
    rows = [
        {
            "prompt": [{"role": "user", "content": pair.prompt}],
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
        }
        for pair in pairs
    ]

    def make_trainer(folder: Path) -> RewardTrainer:
        loaded = load(model, reward=True)
        arguments = common.arguments(config, seed, micro_batch=min(4, config.batch))
        return RewardTrainer(
            model=loaded.model,
            args=RewardConfig(output_dir=str(folder), max_length=512, center_rewards_coefficient=0.01, **arguments),
            train_dataset=Dataset.from_list(rows),
            processing_class=loaded.tokenizer,
            peft_config=common.lora(config, "SEQ_CLS", ["score"]),
        )

    return common.run(identity, make_trainer)


def overfitted(train: Sequence[float], dev: Sequence[float], dev_prompts: Sequence[str], tolerance: float = 0.05) -> str:
    """A warning where a reward model ranks the pairs that it was trained on clearly better than the same kinds of pairs on new
    prompts: by more than `tolerance`, interval included. "" where it does not. `train`, `dev`: 1 right, 0 wrong, one a pair.
    """
    seen, new = sum(train) / len(train), clustered_share(list(dev), dev_prompts)
    if new.hi >= seen - tolerance:
        return ""
    return (
        f"Over-fitted: right on {seen:.3f} of the training pairs, but on {new.value:.3f} [{new.lo:.3f}, {new.hi:.3f}] of such "
        "pairs on new prompts; train for fewer epochs, on more prompts, or with a smaller rank."
    )
