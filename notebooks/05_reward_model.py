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
#     inputs: []
# ---

# %% [markdown]
# # A reward model
#
# **You will be able to**
#
# - write the loss of the {term}`Bradley-Terry model` in one line and say what it assumes;
# - make training pairs whose order is known without asking anybody;
# - measure a reward model by kind of mistake and by language, with intervals;
# - tell what it learned from what it merely saw.
#
# **Before this chapter**
#
# - chapter 04: the three sources of answers;
# - fine-tuning with {term}`LoRA`: a small trainable addition to frozen weights.
#
# ## Overview
#
# In the paper a {term}`reward model` ranks the answers [S]. Neither its preference data nor its checkpoints were released, so the book trains its own:
# {term}`base` with one more output, a number, the {term}`reward`. It is taught with pairs whose order is hardly in dispute: a {term}`reference` answer
# against the same answer spoiled on purpose (a {term}`corruption`), and against a weak model's translated answer. Two kinds of spoiling are held out of
# training, so that we can ask whether the model learned "better" or only these particular faults.

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; where random numbers start

# %%
import pandas as pd
import torch

from mlpo import chapters, plots
from mlpo.corruptions import KINDS, corrupt
from mlpo.data import complete, prompts, translate
from mlpo.display import show_texts
from mlpo.rewards import RewardModel
from mlpo.train import reward

run = chapters.start("05_reward_model", profile=profile, seed=seed)
budget = run.profile.budget

# %% [markdown]
# ## The loss
#
# Bradley and Terry's model of comparisons says: the probability that the chosen answer beats the rejected one is the sigmoid of the
# difference of their rewards. Training makes the observed order likely:
#
# $$\mathcal{L} = -\log \sigma\big(r(x, y_w) - r(x, y_l)\big)$$
#
# Only differences count, so the scale's zero means nothing. Two answers that the model cannot tell apart cost $\log 2$.

# %%
chosen, rejected = torch.tensor([1.5, 0.2, 0.0]), torch.tensor([0.5, 0.9, 0.0])
loss = -torch.nn.functional.logsigmoid(chosen - rejected)
loss

# %% [markdown]
# ## Pairs of known order
#
# One reference, spoiled in each of the ways the book uses:

# %%
rm = [
    p
    for lang in run.languages
    for p in prompts.seed_prompts("rm", lang)[: budget.reward_prompts]
]
by_key = {(p.id, p.lang): p for p in rm}
example = rm[0]
spoiled = {kind: corrupt(example, kind, by_key) for kind in KINDS}
shown = pd.DataFrame(spoiled.items(), columns=["kind", "text"])
shown["lang"] = ["" if kind == "wrong language" else "en" for kind in shown.kind]
show_texts(shown)

# %% [markdown]
# The prompt itself is among them. A reward that only measures likeness to the prompt's subject is highest for the prompt repeated, and a
# {term}`policy` trained against such a reward is paid for repeating it.
#
# To these come weak answers, translated as in chapter 04, for some of the prompts.

# %%
some_ids = sorted({p.id for p in rm})[: max(1, budget.reward_prompts // 3)]
weak_translated, rejected = complete.translated(
    run.store,
    complete.generator(run.profile.models.weak, run.profile.server),
    translate.make(run.profile.models.translator, run.profile.server),
    [by_key[i, "en"] for i in some_ids],
    [p for p in rm if p.id in some_ids],
    run.profile.sampling,
    longest=budget.weak_characters,
    seed=seed,
    block=budget.block,
)
weak_translated = [c for c in weak_translated if c.text]
len(weak_translated), len(rejected)

# %%
taught = [kind for kind in KINDS if kind not in run.profile.held_out_corruptions]
pairs = reward.known_pairs(rm, weak_translated, taught)
pd.Series([pair.kind for pair in pairs]).value_counts()

# %% [markdown]
# ## Training
#
# TRL's `RewardTrainer` with a LoRA {term}`adapter` and a new head on {term}`base` (also where the policy of a profile is another model); one {term}`epoch`. A small extra term pulls the two rewards of a pair towards a sum of zero,
# because the loss leaves the zero of the scale open. It does not fix the unit: how far apart rewards come to lie depends on the training, and with it how
# much a price on the {term}`KL divergence` weighs against them in chapter 08.

# %%
trained = reward.train(pairs, run.profile.reward, seed=seed)
log = pd.DataFrame(
    [
        {"step": r["step"], "loss": r["loss"], "accuracy": r.get("accuracy")}
        for r in trained.log
        if "loss" in r
    ]
)
run.table("log", log)
run.keep("reward", trained.adapter)
log.tail(3).round(3)

# %% [markdown]
# ## Does it generalise?
#
# Other prompts (`dev`), and all kinds of spoiling, the held-out ones included. The model is right when the reference scores higher; the share of pairs in
# which it is right is its {term}`accuracy <accuracy (of a reward model)>`.

# %%
model = RewardModel.from_adapter("base", trained.adapter)
dev = [
    p
    for lang in run.languages
    for p in prompts.seed_prompts("dev", lang)[: budget.reward_prompts]
]
tests = reward.known_pairs(dev)
by_prompt = {(p.id, p.lang): p for p in dev}
asked = [by_prompt[t.prompt_id, t.lang] for t in tests]
reference_score = dict(
    zip(
        [(p.id, p.lang) for p in dev],
        model.score(dev, [p.reference for p in dev]),
        strict=True,
    )
)
spoiled = model.score(asked, [t.rejected for t in tests])
results = pd.DataFrame(
    [
        {
            "prompt_id": t.prompt_id,
            "lang": t.lang,
            "kind": t.kind,
            "margin": reference_score[t.prompt_id, t.lang] - s,
        }
        for t, s in zip(tests, spoiled, strict=True)
    ]
)
results["right"] = (results.margin > 0).astype(float)
results["held_out"] = results.kind.isin(run.profile.held_out_corruptions)
run.table("dev", results)


# %%
from mlpo.evaluate import stats


def record(name: str, some: pd.DataFrame) -> None:
    e = stats.clustered_share(list(some.right), list(some.prompt_id))
    run.estimate(name, e)


for kind, some in results.groupby("kind"):
    record(f"accuracy[{kind}]", some)
for lang, some in results.groupby("lang", sort=False):
    record(f"accuracy[{lang}]", some)
record("accuracy", results)
record("accuracy_held_out", results[results.held_out])
_ = run.save()
results.pivot_table(index="kind", columns="lang", values="right", sort=False)[
    run.languages
].round(2)

# %% [markdown]
# Recorded: the reference scores above the spoiled answer in a share of {num}`0.93 [0.83, 1.00], n = 414 <05_reward_model-cpu/accuracy>` of all `dev` pairs, and of
# {num}`0.971 [0.932, 1.000], n = 138 <05_reward_model-cpu/accuracy_held_out>` of those spoiled in the two ways that training never showed.
#
# ```{runfigure} reward_accuracy 05_reward_model-cpu
# ```

# %%
plots.reward_accuracy([run.id])

# %% [markdown]
# Half right is guessing. A kind well below that is worse than blind: the model prefers the fault. A high number for a taught kind says that the
# lesson was learned; a high number for a held-out kind suggests that something more general was. All of these faults are crude. The weak translated
# answers are not among the tests here: how the model treats those is seen in chapter 06.
#
# ## Exercise
#
# **Goal.** Does the model prefer long answers? Compare the reward of each `dev` reference with its length, within each language, by rank
# correlation.

# %% tags=["solution", "hide-input"]
scores = pd.DataFrame(
    [
        {
            "lang": p.lang,
            "length": len(p.reference),
            "reward": reference_score[p.id, p.lang],
        }
        for p in dev
    ]
)
scores.groupby("lang", sort=False).apply(
    lambda g: g["length"].corr(g["reward"], method="spearman")
).round(2)

# %% [markdown]
# With ten references in a language, as under `cpu`, anything between about −0.65 and +0.65 is within what chance gives. Nor are the languages independent
# witnesses: the references are parallel, so what is long in one language tends to be long in all.
#
# ## Summary
#
# - The loss only sees differences of rewards.
# - Pairs of known order can be made by spoiling references; held-out kinds test what was learned.
# - Accuracy is reported by kind and by language, with intervals clustered by prompt ({term}`clustered interval`).
#
# **What's next.** Chapter 06 lets this model rank the completions of chapter 04 and builds preference pairs and mixtures from them.
