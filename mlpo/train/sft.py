"""Supervised fine-tuning on references: it turns `pretrained` into `base`, the book's stand-in for Aya 23."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig
from trl import SFTTrainer as StockTrainer

from mlpo.models import digest, load
from mlpo.profiles import Training
from mlpo.records import Prompt
from mlpo.train import common

STEP_VERSION = 2


class SFTTrainer(StockTrainer):
    """TRL's trainer with the vocabulary's matrix used at the answers' positions only (`common.completion_loss`)."""

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if return_outputs:  # evaluation with logits: TRL's own way
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = common.completion_loss(model, inputs)
        if num_items_in_batch is None:
            return loss / (inputs["labels"][:, 1:] != -100).sum()
        processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return loss * processes / num_items_in_batch


def train(prompts: Sequence[Prompt], config: Training, seed: int = 0, model: str = "pretrained") -> common.Trained:
    """Train a LoRA adapter on prompt -> reference; the loss counts the answer's tokens alone."""
    rows = [
        {"prompt": [{"role": "user", "content": p.text}], "completion": [{"role": "assistant", "content": p.reference}]}
        for p in prompts
    ]
    identity = common.identity("sft", STEP_VERSION, model, config, seed, rows=digest(rows))

    def make_trainer(folder: Path) -> SFTTrainer:
        loaded = load(model)
        arguments = common.arguments(config, seed, micro_batch=min(8, config.batch))
        return SFTTrainer(
            model=loaded.model,
            args=SFTConfig(output_dir=str(folder), max_length=512, train_sampling_strategy="group_by_length", **arguments),
            train_dataset=Dataset.from_list(rows),
            processing_class=loaded.tokenizer,
            peft_config=common.lora(config),
        )

    return common.run(identity, make_trainer)
