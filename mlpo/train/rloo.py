"""REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024; Kool et al. 2019): TRL's RLOOTrainer with our reward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import RLOOConfig, RLOOTrainer

from mlpo.errors import MlpoError
from mlpo.models import digest, load
from mlpo.profiles import Sampling, Training
from mlpo.records import Prompt
from mlpo.rewards import RewardModel
from mlpo.train import common

STEP_VERSION = 1


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Leave-one-out advantages: each sample's reward minus the mean of its prompt's other samples. (prompts, k) -> same.

    Raises MlpoError for k = 1, where there is no other sample to compare with.
    """
    k = rewards.shape[-1]
    if k < 2:
        raise MlpoError("A leave-one-out baseline needs at least two samples a prompt: set k to 2 or more.")
    others = (rewards.sum(-1, keepdim=True) - rewards) / (k - 1)
    return rewards - others


def make_trainer(
    prompts: Sequence[Prompt],
    reward: RewardModel,
    config: Training,
    sampling: Sampling,
    samples: int,
    folder: Path,
    seed: int = 0,
    model: str = "base",
) -> RLOOTrainer:
    """TRL's trainer with `reward`; its loss is of the policy that samples, with the logits divided by the temperature."""
    loaded = load(model)

    def score(prompts: list[Any], completions: list[Any], **_: Any) -> list[float | None]:
        return [*reward.score_texts([p[-1]["content"] for p in prompts], [c[0]["content"] for c in completions])]

    return RLOOTrainer(
        model=loaded.model,
        reward_funcs=score,
        args=RLOOConfig(
            output_dir=str(folder),
            num_generations=samples,
            max_completion_length=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            beta=config.beta,
            disable_dropout=True,
            **common.arguments(config, seed, micro_batch=config.batch),
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": p.text}]} for p in prompts]),
        processing_class=loaded.tokenizer,
        peft_config=common.lora(config),
    )


def train(
    prompts: Sequence[Prompt],
    reward: RewardModel,
    config: Training,
    sampling: Sampling,
    samples: int,
    seed: int = 0,
    model: str = "base",
) -> common.Trained:
    """Train a policy's adapter on its own samples, `samples` (k) a prompt; the KL penalty `config.beta` is in the reward.

    Raises MlpoError where the batch does not hold whole groups of k samples.
    """
    if config.batch % samples:
        raise MlpoError(f"An RLOO batch of {config.batch} cannot hold whole groups of k = {samples}: make it a multiple.")
    drawn = {"sampling": sampling.model_dump(), "samples": samples, "reward": reward.fingerprint}
    asked = [[p.id, p.lang, digest(p.text)] for p in prompts]
    identity = common.identity("rloo", STEP_VERSION, model, config, seed, prompts=asked, **drawn)

    make = lambda folder: make_trainer(prompts, reward, config, sampling, samples, folder, seed, model)
    return common.run(identity, make)
