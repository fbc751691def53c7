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
#     inputs: ["03/prompts"]
#     recorded: ["reward"]
# ---

# %% [markdown]
# # RLOO: learning from one's own samples
#
# **You will be able to**
#
# - derive the {term}`leave-one-out baseline` and compute it by hand;
# - write the {term}`RLOO` loss in ten lines and check its gradient against the form that the library uses;
# - say when a baseline lowers the variance, and why it leaves the direction alone;
# - train a {term}`policy` against a {term}`reward model` with a price on the {term}`KL divergence`, and name the signs that it games the reward
#   ({term}`over-optimisation`).
#
# **Before this chapter**
#
# - chapter 05: the reward model; chapter 07: policy, {term}`reference`, {term}`beta`;
# - the idea of a gradient estimated from samples.
#
# ## Overview
#
# RLOO, {term}`REINFORCE` with a leave-one-out baseline {cite:p}`ahmadian2024back`, is {term}`on-policy`: the policy answers a {term}`prompt` $k$ times, the
# reward model scores the answers, and each answer is made likelier or less likely according to how much better or worse it is than *its own siblings*, the
# other answers to that prompt. There is no second network that predicts rewards, no clipping, no per-token credit: a whole answer is one action.

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; of the adapter's first weights and the samples
inputs: str = "recorded"  # recorded | build; where the prompts come from
beta: float = 0.1  # 0.0..10.0; weight of the KL penalty inside the reward
samples: int = 2  # 2..16; answers drawn for each prompt (k)

# %%
import pandas as pd
import torch

from mlpo import chapters, plots
from mlpo.data import complete, prompts
from mlpo.models import load
from mlpo.records import Prompt
from mlpo.rewards import recorded
from mlpo.train import rloo

run = chapters.start(
    "08_rloo", profile=profile, seed=seed, inputs=inputs, beta=beta, samples=samples
)
budget = run.profile.budget

# %% [markdown]
# ## The baseline, by hand
#
# Four answers to one prompt got these {term}`rewards <reward>`. Each answer's {term}`advantage` is its reward minus the mean of the other three.

# %%
rewards = torch.tensor([[2.0, 1.0, 0.0, 1.0]])
by_hand = torch.tensor([[2 - 2 / 3, 1 - 3 / 3, 0 - 4 / 3, 1 - 3 / 3]])
assert torch.allclose(rloo.advantages(rewards), by_hand)
rloo.advantages(rewards)

# %% [markdown]
# Leaving the answer itself out matters. The baseline then does not depend on the answer it is subtracted from, and subtracting it changes the
# {term}`gradient`'s expectation not at all, since the expected gradient of a {term}`log-probability` is zero. It can change the variance a lot. A toy: choose
# among three actions, and estimate the gradient with four samples, many times, with and without the baseline.

# %%
generator = torch.Generator().manual_seed(seed)
logits = torch.tensor([0.2, -0.1, 0.4])
probability, value = logits.softmax(-1), torch.tensor([5.0, 6.0, 7.0])
actions = torch.multinomial(
    probability, 4 * 20_000, replacement=True, generator=generator
).view(-1, 4)
score = (
    torch.nn.functional.one_hot(actions, 3) - probability
)  # gradient of log pi(action) in the logits
got = value[actions]
plain = (got[..., None] * score).mean(1)
with_baseline = (rloo.advantages(got)[..., None] * score).mean(1)
exact = probability * (value - (probability * value).sum())
pd.DataFrame(
    {
        "exact gradient": exact,
        "plain mean": plain.mean(0),
        "RLOO mean": with_baseline.mean(0),
        "plain variance": plain.var(0),
        "RLOO variance": with_baseline.var(0),
    }
).round(3)

# %% [markdown]
# Both estimates agree with the exact gradient on average; the variance is not even close. The reason is that these rewards, 5, 6 and 7, have a large part in
# common, which the baseline takes away. Put −1, 0 and 1 in their place and the order turns round: there is nothing to take away, and a baseline made of a few
# siblings brings noise of its own. The level of a reward model's scores differs between prompts, so there usually is something to take away.
#
# ## The loss in ten lines
#
# The reward is the reward model's score minus a penalty for straying from the reference, $R(x, y) = r(x, y) - \beta \log\frac{\pi(y|x)}{\pi_\text{ref}(y|x)}$,
# and the gradient is the mean over samples of advantage times the gradient of $\log \pi(y|x)$.


# %%
def rloo_gradient_loss(logps, reference_logps, rewards, beta):
    """Loss whose gradient is RLOO's. logps, reference_logps, rewards: (prompts, k); gradients flow through logps alone."""
    total = rewards - beta * (logps.detach() - reference_logps)
    others = (total.sum(1, keepdim=True) - total) / (total.shape[1] - 1)
    return -((total - others) * logps).mean()


logps = torch.tensor([[-3.0, -5.0], [-4.0, -2.0]], requires_grad=True)
reference_logps = torch.tensor([[-3.5, -4.0], [-4.0, -2.5]])
ours = rloo_gradient_loss(
    logps, reference_logps, torch.tensor([[1.0, 0.0], [0.3, 0.9]]), beta=0.1
)
(gradient,) = torch.autograd.grad(ours, logps)
gradient

# %% [markdown]
# ## Prompts and reward
#
# Prompts: those of the pool that survived chapter 03's checks, taken from the languages in turn, so that each has an equal share as far as the budget goes.
# Reward: the recorded model of chapter 05.

# %%
table = run.input("03/prompts").query("kept")
turn = table.groupby("lang").cumcount()
chosen = table.assign(turn=turn).sort_values("turn", kind="stable")
asked = [
    Prompt(row.id, row.lang, "pool", "open", "", row.text)
    for row in chosen.head(budget.rloo_prompts).itertuples()
]
reward = recorded()
batch_size = samples * max(1, run.profile.rloo.batch // samples)
config = run.profile.rloo.model_copy(update={"beta": beta, "batch": batch_size})
pd.Series([p.lang for p in asked]).value_counts(sort=False)

# %% [markdown]
# ## The same gradient from the library
#
# TRL writes the loss as an importance-weighted one, $-A\,\pi/\pi_\text{old}$, which has the same gradient when the samples come from the current policy. (It also
# clips the ratio, which does nothing while the ratio is 1.) To check this on the real model we give the adapter small random weights, let TRL's trainer sample
# answers to one prompt, and differentiate its loss in one matrix of the adapter.

# %%
short = run.profile.sampling.model_copy(update={"max_new_tokens": 16})
one_group = config.model_copy(update={"batch": samples})
trainer = rloo.make_trainer(
    asked[:1], reward, one_group, short, samples, run.folder / "check", seed,
    run.profile.models.base,
)  # fmt: skip
model = trainer.model
generator = torch.Generator().manual_seed(1)
for name, weight in model.named_parameters():
    if "lora_B" in name:
        weight.data = (torch.randn(weight.shape, generator=generator) * 0.02).to(weight)
        watched = weight
batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
(stock,) = torch.autograd.grad(trainer.compute_loss(model, batch), watched)


# %% [markdown]
# Then the ten lines, on the same answers: their log-probabilities under policy and reference, their rewards, and the loss from above. One detail: the policy that
# TRL trains is the one it samples with, its logits divided by the {term}`temperature`. ({term}`Nucleus sampling <nucleus sampling>` leaves out the tail of that policy, so the samples are
# not quite its own.)


# %%
def answer_logps():
    """Log-probability of each sampled answer under the model as it is now: (1, k)."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    logits = model(ids, attention_mask=mask).logits.float() / short.temperature
    length = batch["completion_ids"].shape[1]
    logps = logits[:, -length - 1 : -1].log_softmax(-1)
    chosen = logps.gather(-1, batch["completion_ids"][..., None]).squeeze(-1)
    return (chosen * batch["completion_mask"]).sum(1)[None]


decode = trainer.processing_class.decode
answers = [
    decode(row[used.bool()], skip_special_tokens=True)
    for row, used in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
]
scores = torch.tensor([reward.score_texts([asked[0].text] * samples, answers)])
with torch.no_grad(), model.disable_adapter():
    reference_logps = answer_logps()
ours = rloo_gradient_loss(
    answer_logps(), reference_logps, scores.to(reference_logps), beta
)
(gradient,) = torch.autograd.grad(ours, watched)
gap = ((gradient - stock).norm() / stock.norm().clamp(min=1e-9)).item()
print(f"relative difference of the gradients: {gap:.1e}")
assert gap < 1e-2
trainer = model = watched = None  # frees their memory

# %% [markdown]
# ## Training

# %%
trained = rloo.train(
    asked, reward, config, run.profile.sampling, samples, seed, run.profile.models.base
)
log = pd.DataFrame(
    [
        {
            "step": r["step"],
            "reward": r["reward"],
            "kl": r.get("kl", 0.0),
            "length": r["completions/mean_length"],
        }
        for r in trained.log
        if "reward" in r
    ]
)
run.table("log", log)
run.keep("policy", trained.adapter)
log.iloc[[0, len(log) // 2, -1]].round(3)

# %% [markdown]
# Reward should rise; the KL divergence says what it cost; the length in {term}`tokens <token>` says whether the policy found a short cut, such as saying
# almost nothing or going on for ever. A rising reward alone proves only that the reward model is pleased. Two things to know when you read the curves: TRL logs
# the KL divergence per token, while the price in the reward is on the whole answer; and each step answers other prompts, so in a short run the reward mostly
# follows the prompts.

# %%
last = log.tail(max(1, len(log) // 2))
for name in ("reward", "kl", "length"):
    run.metric(f"{name}_last_half", last[name].mean(), n=len(last))
run.metric("prompts", len(asked), n=len(asked))
run.metric("gradient_difference_to_trl", gap, n=samples)

# %% [markdown]
# ## Its answers
#
# As in chapter 07, the policy answers the `dev` prompts, for the {term}`judge` of chapter 10.

# %%
policy = load(run.profile.models.base, adapter=trained.adapter)
dev = [
    p
    for lang in run.languages
    for p in prompts.seed_prompts("dev", lang)[: budget.eval_prompts]
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
# The recorded run takes only a few steps. Like that of chapter 07 it shows the machinery and is too short to teach much. Both were recorded before the reward model of
# chapter 05 took its present form, with a smaller one that had seen no answers of base; yours will use the present one.
#
# ```{runfigure} training 08_rloo-cpu
# ```

# %%
plots.training([run.id])

# %% [markdown]
# ## Exercise
#
# **Goal.** What happens to the advantages when all $k$ rewards of a prompt are equal, and what does the policy learn from that prompt? Then add 100 to all rewards of
# the example above and look again.

# %% tags=["solution", "hide-input"]
print(
    rloo.advantages(torch.full((1, 4), 0.7))
)  # all zero: nothing to learn, the compute was spent for nothing
print(
    rloo.advantages(rewards + 100) - rloo.advantages(rewards)
)  # no change: only differences within a prompt count

# %% [markdown]
# ## Summary
#
# - The siblings of an answer are its baseline: unbiased, and of lower variance than none where the rewards of a prompt share a level.
# - The KL penalty sits inside the reward; TRL's loss has the gradient of the ten lines.
# - Read reward, KL and length together.
#
# **What's next.** Chapter 10 asks whether either policy is better than {term}`base`, and how sure one can be.
