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
#     inputs: ["03/prompts", "05/reward"]
# ---

# %% [markdown]
# # RLOO: learning from one's own samples
#
# **You will be able to**
#
# - derive the {term}`leave-one-out baseline` and compute it by hand;
# - write the {term}`RLOO` loss in ten lines and check it against the library;
# - say why a baseline lowers the variance and leaves the direction alone;
# - train a policy against a reward model with a KL penalty, and see when it games the reward.
#
# **Before this chapter**
#
# - chapter 05: the reward model; chapter 07: policy, reference, beta;
# - the idea of a gradient estimated from samples.
#
# ## Overview
#
# RLOO, REINFORCE with a leave-one-out baseline {cite:p}`ahmadian2024back`, is {term}`on-policy`: the policy answers a prompt $k$ times, the reward model scores
# the answers, and each answer is made likelier or less likely according to how much better or worse it is than *its own siblings*. There is no second network
# that predicts rewards, no clipping, no per-token credit: a whole answer is one action.

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; of the adapter's first weights and the samples
inputs: str = "recorded"  # recorded | build; where prompts and reward come from
beta: float = 0.1  # 0.0..10.0; weight of the KL penalty inside the reward
samples: int = 2  # 2..16; answers drawn for each prompt (k)

# %%
import pandas as pd
import torch

from mlpo import chapters, plots
from mlpo.data import complete, prompts
from mlpo.models import load
from mlpo.records import Prompt
from mlpo.rewards import RewardModel
from mlpo.train import rloo

run = chapters.start(
    "08_rloo", profile=profile, seed=seed, inputs=inputs, beta=beta, samples=samples
)
budget = run.profile.budget

# %% [markdown]
# ## The baseline, by hand
#
# Four answers to one prompt got these rewards. Each answer's *advantage* is its reward minus the mean of the other three.

# %%
rewards = torch.tensor([[2.0, 1.0, 0.0, 1.0]])
by_hand = torch.tensor([[2 - 2 / 3, 1 - 3 / 3, 0 - 4 / 3, 1 - 3 / 3]])
assert torch.allclose(rloo.advantages(rewards), by_hand)
rloo.advantages(rewards)

# %% [markdown]
# Leaving the answer itself out matters. The baseline then does not depend on the answer it is subtracted from, and subtracting it changes the
# gradient's expectation not at all, since the expected gradient of a log-probability is zero. It changes the variance a lot. A toy: choose among three
# actions, and estimate the gradient from four samples, many times, with and without the baseline.

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
# Both estimates agree with the exact gradient on average; the variance is not even close.
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
# TRL writes it as an importance-weighted loss, $-A\,\pi/\pi_\text{old}$, which has the same gradient when the samples come from the current policy. The check: its
# trainer's loss on those samples, differentiated in the same log-probabilities.

# %%
total = torch.tensor([[1.0, 0.0], [0.3, 0.9]]) - 0.1 * (
    logps.detach() - reference_logps
)
ratio = (logps - logps.detach()).exp()
(stock,) = torch.autograd.grad(-(ratio * rloo.advantages(total)).mean(), logps)
assert torch.allclose(stock, gradient, atol=1e-6)
print("largest difference:", (stock - gradient).abs().max().item())

# %% [markdown]
# (The unit tests compare with TRL's own `compute_loss` on a real model as well. One detail shows there: the policy that TRL trains is the one it samples
# from, with the logits divided by the temperature.)
#
# ## Training
#
# Prompts: those of the pool that survived chapter 03's checks, in equal shares of the languages. Reward: chapter 05's model.

# %%
table = run.input("03/prompts").query("kept")
per_language = max(1, budget.rloo_prompts // len(run.languages) + 1)
chosen = (
    table.groupby("lang", sort=False)
    .head(per_language)
    .head(max(budget.rloo_prompts, len(run.languages)))
)
asked = [Prompt(r.id, r.lang, "pool", "open", "", r.text) for r in chosen.itertuples()][
    : budget.rloo_prompts
]
reward = RewardModel.from_adapter(run.profile.models.base, run.input_dir("05/reward"))
config = run.profile.rloo.model_copy(
    update={"beta": beta, "batch": max(run.profile.rloo.batch, samples)}
)
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
# Reward should rise; the {term}`KL divergence` says what it cost; length says whether the policy found a short cut, such as saying almost nothing or
# going on for ever. A rising reward alone proves only that the reward model is pleased.

# %%
last = log.tail(max(1, len(log) // 4))
for name in ("reward", "kl", "length"):
    run.metric(f"{name}_last_quarter", last[name].mean(), n=len(last))
run.metric("prompts", len(asked), n=len(asked))

# %% [markdown]
# ## Its answers

# %%
policy = load(run.profile.models.base, adapter=trained.adapter)
dev = [
    p
    for lang in run.languages
    for p in prompts.seed_prompts("dev", lang)[: budget.eval_prompts]
]
answers = complete.run(
    run.store,
    policy,
    dev,
    run.profile.sampling,
    role="policy",
    seed=seed,
    block=budget.block,
)
run.table(
    "answers",
    pd.DataFrame(
        [
            {"prompt_id": a.prompt_id, "lang": a.lang, "text": a.text, "cut": a.cut}
            for a in answers
        ]
    ),
)
_ = run.save()

# %% [markdown]
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
# - The siblings of an answer are its baseline: unbiased, and of far lower variance than none.
# - The KL penalty sits inside the reward; TRL's loss has the gradient of the ten lines.
# - Read reward, KL and length together.
#
# **What's next.** Chapter 10 asks whether either policy is better than base, and how sure one can be.
