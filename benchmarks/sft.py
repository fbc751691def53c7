"""Seconds of supervised fine-tuning with mlpo's loss against TRL's own, same model, rows and steps; losses asserted equal.

On a CPU TRL multiplies every position of a batch with the vocabulary's matrix; `mlpo.train.sft` only those of the answers.
The two alternate, so that a slow moment of the machine hits both.
"""

import statistics
import tempfile
import time

from datasets import Dataset
from trl import SFTConfig

from mlpo.data.prompts import seed_prompts
from mlpo.models import load
from mlpo.profiles import Training
from mlpo.train import common, sft

STEPS, REPEATS = 3, 3
LANGUAGES = ("en", "el", "hi", "zh")

prompts = [p for lang in LANGUAGES for p in seed_prompts("sft", lang)[:2]]
rows = [
    {"prompt": [{"role": "user", "content": p.text}], "completion": [{"role": "assistant", "content": p.reference}]}
    for p in prompts
]
config = Training(learning_rate=3e-4, epochs=STEPS, batch=len(rows), lora_rank=16)


def trained(trainer_class):
    """Seconds of the training alone, and the loss of each step."""
    loaded = load("pretrained")
    options = common.arguments(config, seed=0, micro_batch=len(rows)) | {"save_strategy": "no"}
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class(
            model=loaded.model,
            args=SFTConfig(output_dir=folder, max_length=512, **options),
            train_dataset=Dataset.from_list(rows),
            processing_class=loaded.tokenizer,
            peft_config=common.lora(config),
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    return seconds, [row["loss"] for row in trainer.state.log_history if "loss" in row]


ratios = []
for _ in range(REPEATS):
    (stock, losses), (ours, same) = trained(sft.StockTrainer), trained(sft.SFTTrainer)
    assert all(abs(a - b) < 1e-3 for a, b in zip(losses, same, strict=True)), (losses, same)
    ratios.append(stock / ours)
ratios.sort()
print(
    f"SFT, {STEPS} steps of {len(rows)} rows: TRL's seconds over ours {statistics.median(ratios):.2f} "
    f"(from {ratios[0]:.2f} to {ratios[-1]:.2f}, {REPEATS} repeats); last: {stock:.1f} s and {ours:.1f} s; "
    f"losses {losses} and {same}"
)
