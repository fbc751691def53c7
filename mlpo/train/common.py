"""What the four trainings share: arguments, LoRA, and runs that go on after a kill and end in the same bytes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import Trainer

from mlpo import paths
from mlpo.errors import MlpoError
from mlpo.models import compute_dtype, digest, fingerprint
from mlpo.profiles import Training


@dataclass(frozen=True)
class Trained:
    """`adapter`: folder of the PEFT adapter. `log`: one row a step of what the trainer logged."""

    id: str
    adapter: Path
    log: list[dict[str, float]]
    tokens: int  # tokens that went through the trained model, padding included where TRL counts it


def lora(config: Training, task: str = "CAUSAL_LM", save: Sequence[str] | None = None) -> LoraConfig:
    """LoRA on all projections of attention and feed-forward; `save` names modules trained in full (a reward head)."""
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=2 * config.lora_rank,
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        task_type=task,
        modules_to_save=list(save) if save else None,
    )


def arguments(config: Training, seed: int, micro_batch: int) -> dict[str, Any]:
    """Trainer arguments common to all stages. bfloat16 only where the processor has it (TRL's default is always);
    a checkpoint at every step, so that a kill loses at most the step in flight."""
    if config.batch % micro_batch:
        raise MlpoError(f"A batch of {config.batch} cannot be cut into parts of {micro_batch}: set batch to a multiple.")
    return {
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": config.batch // micro_batch,
        "learning_rate": config.learning_rate,
        "num_train_epochs": config.epochs,
        "lr_scheduler_type": "linear" if config.decay else "constant_with_warmup",
        "warmup_steps": config.warmup_steps,
        "bf16": compute_dtype() == torch.bfloat16,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": torch.cuda.is_available(),
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 2,
        "seed": seed,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def identity(step: str, version: int, model: str, config: Training, seed: int, **more: Any) -> str:
    """Id of a training: the hash of all that decides its outcome."""
    parts = {"step": step, "version": version, "model": fingerprint(model), "config": config.model_dump(), "seed": seed}
    return digest(parts | more)


def completion_loss(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Negative log-likelihood of the tokens whose label is not -100, summed, in nats; shape ().

    The same number as TRL's loss. On a CPU TRL multiplies every position, prompt and padding too, with the matrix of the
    vocabulary, which in a small model with a large vocabulary is most of the work; here only the answers' positions are.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = causal.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    targets = inputs["labels"][:, 1:]
    mask = targets != -100
    logits = causal.lm_head(hidden[:, :-1][mask])
    return torch.nn.functional.cross_entropy(logits.float(), targets[mask], reduction="sum")


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; one cut by a kill (its trainer state comes last, and is missing or broken) is removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            return path
        except (OSError, ValueError):
            shutil.rmtree(path)
    return None


def adapters() -> Path:
    return paths.BUILD / "adapters"


def run(identity: str, make_trainer: Callable[[Path], Trainer]) -> Trained:
    """Train once: an adapter that exists under `identity` is returned, an interrupted training goes on.

    `make_trainer(folder)` builds the trainer with its checkpoints in `folder`.
    """
    target = paths.writable(adapters(), "MLPO_BUILD") / identity[:16]
    if not (target / "training.json").exists():
        work = target.with_name(f"{target.name}.checkpoints")
        checkpoint = last_checkpoint(work)
        trainer = make_trainer(work)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        trainer.save_model(str(part))
        _clean(part)
        log = [{k: v for k, v in row.items() if isinstance(v, int | float)} for row in trainer.state.log_history]
        tokens = int(trainer.state.num_input_tokens_seen or max((row.get("num_tokens", 0) for row in log), default=0))
        (part / "training.json").write_text(json.dumps({"id": identity, "log": log, "tokens": tokens}), encoding="utf-8")
        os.replace(part, target)
        shutil.rmtree(work, ignore_errors=True)
    saved = json.loads((target / "training.json").read_text(encoding="utf-8"))
    return Trained(identity, target, saved["log"], saved["tokens"])


def _clean(folder: Path) -> None:
    """Keep the adapter alone, and take the path of this machine out of its configuration."""
    for path in folder.iterdir():
        if path.name not in ("adapter_model.safetensors", "adapter_config.json"):
            path.unlink() if path.is_file() else shutil.rmtree(path)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True), encoding="utf-8")
