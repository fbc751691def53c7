"""Losses and baselines against numbers worked out by hand, and against TRL on the real model."""

from __future__ import annotations

import math

import pytest
import torch

from mlpo import MlpoError, profiles
from mlpo.data.pair import Pair
from mlpo.profiles import Sampling, Training
from mlpo.records import Prompt
from mlpo.train import dpo, rloo


def test_dpo_loss_equals_the_number_worked_out_by_hand():
    # margin = (-10 + 12) - (-20 + 19) = 3; beta 0.1: -log sigmoid(0.3)
    got = dpo.loss(*(torch.tensor([x]) for x in (-10.0, -20.0, -12.0, -19.0)), beta=0.1)
    assert got.item() == pytest.approx(math.log(1 + math.exp(-0.3)), abs=1e-6)


def test_dpo_loss_is_log_2_where_the_policy_is_the_reference():
    same = torch.tensor([-5.0, -7.0])
    assert dpo.loss(same, same - 3, same, same - 3, beta=0.7).item() == pytest.approx(math.log(2), abs=1e-6)


def test_leave_one_out_baseline_by_hand():
    got = rloo.advantages(torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]))
    assert got.tolist() == [[1 - 4, 2 - 3.5, 6 - 1.5], [-1.5, -1.5, 3.0]]


def test_leave_one_out_needs_two_samples():
    with pytest.raises(MlpoError, match="at least two samples"):
        rloo.advantages(torch.ones(3, 1))


def _pairs() -> list[Pair]:
    rows = [
        ("Name a fruit.", "An apple is a fruit that grows on trees.", "Fruit fruit fruit."),
        ("Bir meyve söyle.", "Elma ağaçta yetişen bir meyvedir.", "The apple."),
    ]
    sides = ("native", "translated", 1.0, 0.0)
    return [Pair(str(i), str(i), "en", "role", f"c{i}", f"r{i}", p, c, r, *sides) for i, (p, c, r) in enumerate(rows)]


def _shake(model: torch.nn.Module) -> None:
    """Give a fresh adapter weights that matter: at zero every policy is its reference and a check proves nothing."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data = (torch.randn(weight.shape, generator=generator) * 0.02).to(weight)


def _answer_logp(model, prompt: list[int], answer: list[int], temperature: float = 1.0) -> torch.Tensor:
    ids = torch.tensor([prompt + answer])
    logps = (model(ids).logits[0, len(prompt) - 1 : -1].float() / temperature).log_softmax(-1)
    return logps.gather(-1, torch.tensor(answer)[:, None]).sum()


def test_dpo_loss_and_gradient_equal_trl_on_the_real_model(tmp_path):
    config = profiles.load("smoke").dpo
    trainer = dpo.make_trainer(_pairs(), config, tmp_path)
    model = trainer.model.eval()
    _shake(model)
    batch = next(iter(trainer.get_train_dataloader()))
    watched = next(w for n, w in model.named_parameters() if "lora_B" in n)
    stock = trainer.compute_loss(model, batch)
    (stock_gradient,) = torch.autograd.grad(stock, watched)

    sides = []
    for side in ("chosen_ids", "rejected_ids"):
        rows = [(trainer.train_dataset[i]["prompt_ids"], trainer.train_dataset[i][side]) for i in range(2)]
        sides.append(torch.stack([_answer_logp(model, *row) for row in rows]))
        with torch.no_grad(), model.disable_adapter():
            sides.append(torch.stack([_answer_logp(model, *row) for row in rows]))
    ours = dpo.loss(sides[0], sides[2], sides[1], sides[3], config.beta)
    (gradient,) = torch.autograd.grad(ours, watched)
    assert abs(ours.item() - math.log(2)) > 1e-3
    assert ours.item() == pytest.approx(stock.item(), abs=1e-4)
    assert (gradient - stock_gradient).norm() <= 1e-3 * stock_gradient.norm()  # 1.3e-4 on AVX2: rounding differs with the CPU


class _Length:
    """A reward by length, in place of a reward model: what is tested is the loss."""

    fingerprint = "length"

    def score_texts(self, prompts, completions):
        return [len(c) / 10 for c in completions]


def test_rloo_loss_equals_trl_on_the_real_model(monkeypatch, tmp_path):
    kept = {}

    def capture(identity, make):
        kept["trainer"] = make(tmp_path)
        return kept

    monkeypatch.setattr(rloo.common, "run", capture)
    config = profiles.load("smoke").rloo.model_copy(update={"batch": 4, "beta": 0.05})
    prompts = [Prompt(str(i), "en", "pool", "open", "", t) for i, t in enumerate(("Name a fruit.", "Why is snow cold?"))]
    sampling = Sampling(max_new_tokens=8)
    rloo.train(prompts, _Length(), config, sampling, samples=2)
    trainer = kept["trainer"]
    model = trainer.model
    _shake(model)
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    stock = trainer.compute_loss(model, batch)
    watched = next(w for n, w in model.named_parameters() if "lora_B" in n)
    (stock_gradient,) = torch.autograd.grad(stock, watched)

    logps = []  # of the policy as it samples: TRL divides the logits by the temperature in the loss too
    for prompt, mask, answer, used in zip(
        batch["prompt_ids"], batch["prompt_mask"], batch["completion_ids"], batch["completion_mask"], strict=True
    ):
        logps.append(_answer_logp(model, prompt[mask.bool()].tolist(), answer[used.bool()].tolist(), sampling.temperature))
    # the gradient of RLOO: minus the mean over samples of advantage x gradient of the answer's log-probability
    (gradient,) = torch.autograd.grad(-(batch["advantages"] * torch.stack(logps)).mean(), watched)
    assert batch["advantages"].abs().max() > 0.01
    assert torch.allclose(gradient, stock_gradient, rtol=1e-2, atol=1e-3 * stock_gradient.abs().max().item())


def test_qlora_trains_on_four_bit_weights_and_leaves_them_as_they_are(tmp_path):
    pytest.importorskip("bitsandbytes")
    config = profiles.load("smoke").dpo
    trainer = dpo.make_trainer(_pairs(), config, tmp_path, four_bit=True)
    frozen = {n: w.clone() for n, w in trainer.model.named_parameters() if w.dtype == torch.uint8}
    assert len(frozen) > 50
    before = {n: w.clone() for n, w in trainer.model.named_parameters() if "lora_B" in n}
    trainer.train()
    after = dict(trainer.model.named_parameters())
    assert all(torch.equal(after[n], w) for n, w in frozen.items())
    assert any(not torch.equal(after[n], w) for n, w in before.items())


def test_the_faster_sft_loss_is_trls(base, tmp_path):
    """Same loss and same gradient as the stock trainer on the same batch, prompts and padding masked."""
    from datasets import Dataset
    from transformers import Gemma3TextConfig
    from transformers.models.gemma3 import Gemma3ForCausalLM
    from trl import SFTConfig

    from mlpo.train import common, sft

    rows = [("Why?", "Because it rains."), ("Name three fruits that grow on trees.", "Apples, pears and plums."), ("Hi", "Hello!")]
    data = [{"prompt": [{"role": "user", "content": a}], "completion": [{"role": "assistant", "content": b}]} for a, b in rows]
    config = Training(learning_rate=1e-3, batch=3, lora_rank=2)
    losses, gradients = [], []
    for trainer in (sft.StockTrainer, sft.SFTTrainer):
        torch.manual_seed(0)
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16}
        tiny = Gemma3ForCausalLM(Gemma3TextConfig(**shape, num_key_value_heads=1, vocab_size=len(base.tokenizer)))
        arguments = common.arguments(config, 0, 3) | {"save_strategy": "no"}
        made = trainer(
            model=tiny,
            args=SFTConfig(output_dir=str(tmp_path), max_length=64, **arguments),
            train_dataset=Dataset.from_list(data),
            processing_class=base.tokenizer,
            peft_config=common.lora(config),
        )
        for name, weight in made.model.named_parameters():
            if "lora_B" in name:
                torch.manual_seed(1)
                weight.data = torch.randn_like(weight) * 0.1
        batch = made._prepare_inputs(next(iter(made.get_train_dataloader())))
        items = (batch["labels"][:, 1:] != -100).sum()
        loss = made.compute_loss(made.model, dict(batch), num_items_in_batch=items)
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([w.grad.flatten() for w in made.model.parameters() if w.grad is not None]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert torch.allclose(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)
    assert gradients[0].abs().max() > 0
