# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   mlpo:
#     inputs: ["06/pairs", "06/mixtures"]
# ---

# %% [markdown]
# # DPO: from ten lines to a trained policy
#
# **You will be able to**
#
# - write the {term}`DPO` loss in ten lines and check it against the library to the last digits;
# - say what {term}`beta` does;
# - train a {term}`policy` on {term}`preference pairs <preference pair>` with a {term}`LoRA` {term}`adapter`, the {term}`reference` being the same model with the
#   adapter off;
# - read the curves: what should rise, what should fall, what should worry you.
#
# **Before this chapter**
#
# - chapter 06: the pairs;
# - the {term}`log-probability` of a text under a language model.
#
# ## Overview
#
# {term}`RLHF` as first practised trains a {term}`reward model` and then a policy against it. Direct preference optimisation {cite:p}`rafailov2023dpo` skips
# the middle: the policy's own log-probabilities, measured against a frozen reference, act as the {term}`reward`, and the Bradley-Terry loss of chapter 05 is
# applied to them directly. It needs pairs and the reference, and nothing else; no text is generated during training. That makes it cheap, and it makes it
# {term}`off-policy`: it learns from answers that were written beforehand, usually by somebody else.
#
# This chapter trains on the pairs that chapter 06 made by reward. Some of their answers are samples of {term}`base`, which is also where the policy starts;
# the others are native or translated.

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; of the adapter's first weights and the order of pairs
inputs: str = "recorded"  # recorded | build; where the pairs come from
mixture: str = "ML-23"  # EN-1 | ML-5 | ML-23; which mixture of chapter 06 to train on
beta: float = 0.1  # 0.001..10.0; how strongly the policy is tied to the reference
four_bit: bool = False  # QLoRA: 4-bit weights; saves memory, not CPU time

# %%
import pandas as pd
import torch

from mlpo import MlpoError, chapters, plots
from mlpo.data import complete, prompts
from mlpo.data.pair import Pair
from mlpo.train import dpo

run = chapters.start(
    "07_dpo",
    profile=profile,
    seed=seed,
    inputs=inputs,
    mixture=mixture,
    beta=beta,
    four_bit=four_bit,
)
members = run.input("06/mixtures").query("mixture == @mixture")
if members.empty:
    raise MlpoError(
        f"Chapter 06 could not make {mixture} within its budget: choose another mixture, or a smaller budget."
    )
table = run.input("06/pairs").query("rule == 'reward'").set_index("id", drop=False)
chosen_pairs = [Pair(**table.loc[pair]) for pair in members["pair"]][
    : run.profile.budget.train_pairs
]
print(f"{len(chosen_pairs)} pairs of {members['label'].iloc[0]}")

# %% [markdown]
# ## The loss in ten lines
#
# Call $\pi$ the policy, $\pi_\text{ref}$ the reference, $y_w$ the {term}`chosen` and $y_l$ the {term}`rejected` answer to the {term}`prompt` $x$:
#
# $$\mathcal{L} = -\log \sigma\left(\beta \left[\log\frac{\pi(y_w|x)}{\pi_\text{ref}(y_w|x)} - \log\frac{\pi(y_l|x)}{\pi_\text{ref}(y_l|x)}\right]\right)$$
#
# The bracket is called the *margin*. First, the log-probability of an answer: the sum over its {term}`tokens <token>`, the prompt's tokens not counted.


# %%
def answer_logp(model, prompt_ids, answer_ids):
    """Log-probability of each answer given its prompt: (1, prompt), (1, answer) -> scalar."""
    logits = (
        model(torch.cat([prompt_ids, answer_ids], 1))
        .logits[:, prompt_ids.shape[1] - 1 : -1]
        .float()
    )
    return logits.log_softmax(-1).gather(-1, answer_ids[..., None]).sum()


def dpo_loss(policy_w, policy_l, reference_w, reference_l, beta):
    """Mean loss over pairs; each argument (pairs,)."""
    margin = (policy_w - reference_w) - (policy_l - reference_l)
    return -torch.nn.functional.logsigmoid(beta * margin).mean()


# %% [markdown]
# At the start the policy *is* the reference, every margin is zero and the loss is $\log 2$, whatever the pairs. So a check at the start proves nothing. We
# give the adapter small random weights first, and then ask TRL's trainer for its loss on two pairs.

# %%
trainer = dpo.make_trainer(
    chosen_pairs[:2],
    run.profile.dpo.model_copy(update={"beta": beta}),
    run.folder / "check",
    seed,
    run.profile.models.base,
    four_bit,
)
model = trainer.model.eval()
generator = torch.Generator().manual_seed(1)
for name, weight in model.named_parameters():
    if "lora_B" in name:
        weight.data = (torch.randn(weight.shape, generator=generator) * 0.02).to(weight)

batch = next(iter(trainer.get_train_dataloader()))
with torch.no_grad():
    stock = trainer.compute_loss(model, batch).item()

# %%
rows = [trainer.train_dataset[i] for i in range(2)]
tensor = lambda ids: torch.tensor([ids], device=model.device)
with torch.no_grad():
    sides = {}
    for side in ("chosen_ids", "rejected_ids"):
        asked = [(tensor(row["prompt_ids"]), tensor(row[side])) for row in rows]
        sides["policy", side] = torch.stack(
            [answer_logp(model, *pair) for pair in asked]
        )
        with model.disable_adapter():
            sides["reference", side] = torch.stack(
                [answer_logp(model, *pair) for pair in asked]
            )
    ours = dpo_loss(
        sides["policy", "chosen_ids"],
        sides["policy", "rejected_ids"],
        sides["reference", "chosen_ids"],
        sides["reference", "rejected_ids"],
        beta,
    ).item()
print(f"ten lines {ours:.6f}, TRL {stock:.6f}, log 2 = {torch.tensor(2.0).log():.6f}")
assert abs(ours - stock) < (0.02 if four_bit else 1e-4)
trainer = model = None  # frees their memory

# %% [markdown]
# The same number, to the rounding of the machine. From here on the library does it.
#
# ## What beta does
#
# The {term}`gradient` of the loss pushes the chosen answer up and the rejected one down, and it fades once beta times the margin is large. A small beta lets
# the policy run far from the reference before it is satisfied; a large one stops it early. The table gives $\sigma(-\beta m)$, the factor by which a pair's
# push has shrunk when its margin is $m$.

# %%
margins = torch.linspace(0, 40, 5)
pd.DataFrame(
    {f"beta = {b}": torch.sigmoid(-b * margins).tolist() for b in (0.03, 0.1, 0.5)},
    index=pd.Index(margins.tolist(), name="margin in nats"),
).round(3)

# %% [markdown]
# ## Training
#
# One {term}`epoch`, that is one pass over the pairs. The adapter is all that is trained; switching it off gives the reference, so no second model is held in
# memory. A checkpoint is written at every step, so an interrupted training goes on and, on the same machine, ends in the same weights. A finished adapter is
# kept, and the same pairs, settings and {term}`seed` are not trained again. With `four_bit` the frozen weights are stored in {term}`NF4` ({term}`QLoRA`).

# %%
config = run.profile.dpo.model_copy(update={"beta": beta})
trained = dpo.train(chosen_pairs, config, seed, run.profile.models.base, four_bit)
log = pd.DataFrame(
    [
        {
            "step": r["step"],
            "loss": r["loss"],
            "margin": r["rewards/margins"],
            "chosen reward": r["rewards/chosen"],
        }
        for r in trained.log
        if "loss" in r
    ]
)
run.table("log", log)
run.keep("policy", trained.adapter)
log.iloc[[0, len(log) // 2, -1]].round(3)

# %% [markdown]
# Three curves to read together. The loss should fall and the margin rise: that is what was asked for. (TRL's margin is beta times the one above.) The third is
# the chosen answer's implicit {term}`reward`, beta times its log-probability ratio to the reference. It starts at zero and should not fall far below: when it does,
# the policy makes its margin by pushing *both* answers down, the rejected one faster, and its text may decay although the loss looks fine. Every step
# sees other pairs, so only a trend over many steps means anything.

# %%
last = log.tail(max(1, len(log) // 4))
run.metric("loss_last_quarter", last.loss.mean(), n=len(last), unit="nats")
run.metric("margin_last_quarter", last.margin.mean(), n=len(last))
run.metric("pairs", len(chosen_pairs), n=len(chosen_pairs))
run.metric("loss_difference_to_trl", abs(ours - stock), n=2, unit="nats")

# %% [markdown]
# ## Its answers
#
# The policy answers the `dev` prompts; chapter 10 lets a {term}`judge` compare them with those of base. (Also after `four_bit` the answers are given by
# the base that is not quantised, with the adapter on top.)

# %%
from mlpo.models import load

policy = load(run.profile.models.base, adapter=trained.adapter)
dev = [
    p
    for lang in run.languages
    for p in prompts.seed_prompts("dev", lang)[: run.profile.budget.eval_prompts]
]
answers = complete.table(
    run.store,
    complete.LocalGenerator(policy),
    dev,
    run.profile.sampling,
    seed=seed,
    block=run.profile.budget.block,
)
run.table("answers", answers)
_ = run.save()

# %% [markdown]
# Recorded, on pairs that an earlier reward model chose: mean loss over the last quarter of the steps {num}`0.13 nats, n = 5 <07_dpo-cpu/loss_last_quarter>`. A loss that has hardly moved from
# log 2 = 0.693 says that this run is too short to teach much: it shows the machinery.
#
# ```{runfigure} training 07_dpo-cpu
# ```

# %%
plots.training([run.id])

# %% [markdown]
# ## Exercise
#
# **Goal.** Show numerically that the gradient of the loss with respect to the policy's chosen log-probability is $-\beta\,\sigma(-\beta m)$ for margin $m$,
# for one pair with margin 3 and beta 0.1.

# %% tags=["solution", "hide-input"]
logp = torch.tensor([-10.0], requires_grad=True)
dpo.loss(
    logp, torch.tensor([-20.0]), torch.tensor([-12.0]), torch.tensor([-19.0]), beta=0.1
).backward()
expected = -0.1 * torch.sigmoid(torch.tensor(-0.1 * 3))
print(logp.grad.item(), expected.item())
assert torch.isclose(logp.grad[0], expected)

# %% [markdown]
# ## Summary
#
# - DPO is the Bradley-Terry loss on log-probability ratios; ten lines give TRL's number.
# - Beta says how far from the reference the policy may go.
# - Watch the reward of the chosen answer beside the loss.
#
# **What's next.** Chapter 08 does without pairs: the policy answers, the reward model scores, and the policy learns from its own samples.
