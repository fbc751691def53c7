"""Direct preference optimisation (Rafailov et al. 2023): TRL's DPOTrainer on `base`, the adapter switched off as reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from trl import DPOConfig, DPOTrainer

from mlpo.data.pair import Pair, to_trl
from mlpo.errors import MlpoError
from mlpo.models import digest, load
from mlpo.profiles import Training
from mlpo.train import common

STEP_VERSION = 1


def loss(
    policy_chosen: torch.Tensor,
    policy_rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """Mean DPO loss over a batch, from log-probabilities of whole answers; each argument (pairs,). A larger beta keeps the
    policy nearer to the reference. Rafailov et al. 2023, equation 7."""
    margin = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    return -logsigmoid(beta * margin).mean()


def make_trainer(
    pairs: Sequence[Pair], config: Training, folder: Path, seed: int = 0, model: str = "base", four_bit: bool = False
) -> DPOTrainer:
    """TRL's trainer over `pairs`; `four_bit` trains the adapter on NF4 weights (QLoRA)."""
    loaded = load(model, four_bit=four_bit)
    arguments = common.arguments(config, seed, micro_batch=min(2, config.batch))
    return DPOTrainer(
        model=loaded.model,
        args=DPOConfig(output_dir=str(folder), beta=config.beta, max_length=512, **arguments),
        train_dataset=Dataset.from_list(to_trl(pairs)),
        processing_class=loaded.tokenizer,
        peft_config=common.lora(config),
    )


def train(pairs: Sequence[Pair], config: Training, seed: int = 0, model: str = "base", four_bit: bool = False) -> common.Trained:
    """Train a policy's adapter on preference pairs. Raises MlpoError where there are none."""
    if not pairs:
        raise MlpoError("DPO needs at least one preference pair: make a larger mixture (chapter 06).")
    identity = common.identity("dpo", STEP_VERSION, model, config, seed, four_bit=four_bit, pairs=digest(to_trl(pairs)))
    return common.run(identity, lambda folder: make_trainer(pairs, config, folder, seed, model, four_bit))
