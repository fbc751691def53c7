"""The reward model: TRL's RewardTrainer (Bradley-Terry loss) on `base`, with pairs of known order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from mlpo.corruptions import KINDS, corrupt
from mlpo.models import digest, load
from mlpo.profiles import Training
from mlpo.records import Completion, Prompt
from mlpo.train import common

STEP_VERSION = 1


@dataclass(frozen=True)
class KnownPair:
    """The reference of a prompt against the same made worse; `kind` says how (a corruption, or "weak translated")."""

    kind: str
    prompt_id: str
    lang: str
    prompt: str
    chosen: str
    rejected: str


def known_pairs(prompts: Sequence[Prompt], weak: Sequence[Completion] = (), kinds: Sequence[str] = KINDS) -> list[KnownPair]:
    """Every kind of corruption of every reference, and the translated weak answers where given."""
    by_key: Mapping[tuple[str, str], Prompt] = {(p.id, p.lang): p for p in prompts}
    pairs = [
        KnownPair(kind, p.id, p.lang, p.text, p.reference, worse)
        for p in prompts
        for kind in kinds
        if (worse := corrupt(p, kind, by_key)) != p.reference
    ]
    for answer in weak:
        p = by_key[answer.prompt_id, answer.lang]
        pairs.append(KnownPair("weak translated", p.id, p.lang, p.text, p.reference, answer.text))
    return pairs


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
