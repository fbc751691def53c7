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
#     recorded: ["reward"]
# ---

# %% [markdown]
# # A reward model, per language
#
# **You will be able to**
#
# - write the loss of the {term}`Bradley-Terry model` in one line and say what it assumes;
# - make training pairs whose order is known without asking anybody;
# - measure a reward model by kind of mistake and by language, with intervals, and see whether its numbers mean what they say;
# - tell what it learned from what it merely saw, and notice when it is over-fitted;
# - test whether a reward that shares its eyes with the judge leads the judge astray, and say why it must not share them whatever the test says.
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
# against the same answer spoiled on purpose (a {term}`corruption`), and against what {term}`base` itself answers. Two kinds of spoiling are held out of
# training, so that we can ask whether the model learned "better" or only these particular faults.
#
# The chapter trains a small one in front of you. The one that the chapters after this use is larger and recorded; the second half is about that one.

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; where random numbers start

# %%
import numpy as np
import pandas as pd
import torch

from mlpo import chapters, plots, rewards
from mlpo.corruptions import KINDS, corrupt
from mlpo.data import complete, prompts
from mlpo.display import show_texts
from mlpo.evaluate import stats
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
# To these come answers of {term}`base`. Nobody has compared them with the references one by one; that the references are better is an assumption about their
# writers, and a safe one as long as base is as small as this. Of each reference two pairs are used: one against base, one against a fault drawn at random.

# %%
base = complete.generator(run.profile.models.base, run.profile.server)
own = complete.run(
    run.store,
    base,
    rm,
    run.profile.sampling,
    role="policy",
    seed=seed,
    block=budget.block,
)
taught = [kind for kind in KINDS if kind not in run.profile.held_out_corruptions]
pairs = reward.draw(reward.known_pairs(rm, [c for c in own if c.text], taught))
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
log.tail(3).round(3)

# %% [markdown]
# ## Does it generalise?
#
# Other prompts (`dev`), and all kinds of spoiling, the held-out ones included. The model is right when the reference scores higher; the share of pairs in
# which it is right is its {term}`accuracy <accuracy (of a reward model)>`.


# %%
def tested(model, pairs):
    """One row a pair: the difference of rewards, better minus worse."""
    asked = [pair.prompt for pair in pairs]
    better = model.score_texts(asked, [pair.chosen for pair in pairs])
    worse = model.score_texts(asked, [pair.rejected for pair in pairs])
    frame = pd.DataFrame(pairs)[["kind", "lang", "prompt_id"]]
    frame["margin"] = np.array(better) - np.array(worse)
    return frame.assign(right=(frame.margin > 0).astype(float))


model = RewardModel.from_adapter("base", trained.adapter)
dev = [
    p
    for lang in run.languages
    for p in prompts.seed_prompts("dev", lang)[: budget.reward_prompts]
]
checked = tested(model, reward.known_pairs(dev))
checked["held_out"] = checked.kind.isin(run.profile.held_out_corruptions)
run.table("dev", checked)


# %%
def record(name, some):
    run.estimate(name, stats.clustered_share(list(some.right), list(some.prompt_id)))


for by in ("kind", "lang"):
    for name, some in checked.groupby(by, sort=False):
        record(f"accuracy[{name}]", some)
record("accuracy", checked)
record("accuracy_held_out", checked[checked.held_out])
_ = run.save()  # what the figure below reads; the end of the chapter adds to it
checked.pivot_table(index="kind", columns="lang", values="right", sort=False)[
    run.languages
].round(2)

# %% [markdown]
# Recorded: this small model puts the reference above the spoiled answer in a share of {num}`0.60 [0.32, 0.83], n = 414 <05_reward_model-cpu/accuracy>` of all `dev` pairs, and of
# {num}`0.72 [0.42, 0.91], n = 138 <05_reward_model-cpu/accuracy_held_out>` of those spoiled in the two ways that training never showed. Guessing gives one half: two pairs for each of three prompts a language are
# enough to see the machinery run, and too few to learn from.
#
# ```{runfigure} reward_accuracy 05_reward_model-cpu
# ```

# %%
plots.reward_accuracy([run.id])

# %% [markdown]
# A kind well below one half is worse than blind: the model prefers the fault. A high number for a taught kind says that the
# lesson was learned; a high number for a held-out kind suggests that something more general was. It proves less than it seems to: shuffled and repeated texts
# mostly lack a proper end, and so do the truncated ones that training did show.
#
# **Over-fitted?** A model that is right on the pairs that it saw and not on new ones has learned the pairs. The detector compares the two and speaks up where
# the gap is beyond its interval.

# %%
seen = tested(model, pairs)
like = checked[checked.kind.isin(taught)]
seen_like = seen[seen.kind.isin(taught)]
record("accuracy_train", seen_like)
warning = reward.overfitted(
    list(seen_like.right), list(like.right), list(like.prompt_id)
)
warning or "no sign of over-fitting"

# %% [markdown]
# ## The recorded model
#
# Eight times as many prompts, half an epoch of them: {num}`0.96 [0.87, 0.99], n = 1288 <reward/accuracy>` over all kinds of `dev` pairs, {num}`0.982 [0.898, 0.997], n = 111 <reward/accuracy_train>` on pairs
# that it was trained on, {num}`0.96 [0.87, 0.99], n = 368 <reward/accuracy_held_out>` on the two kinds held out. This is the model that the chapters from 06 on call *the* reward model.
#
# ```{runfigure} reward_kinds reward
# ```

# %%
plots.reward_kinds(["reward"])

# %% [markdown]
# **By language.** English less the mean of the others: {num}`−0.07 [−0.17, +0.02], n = 8 <reward/english_minus_others>`. Reward models are often said to be worse outside English; for
# large ones, trained mostly on English, more than 8 points worse were measured [P]. This one saw as many pairs in each language.
#
# ```{runfigure} reward_languages reward
# ```

# %%
plots.reward_languages(["reward"])

# %% [markdown]
# **Outside of what it was trained on.** On articles with summaries, a task that training never showed, it is right in a share of
# {num}`0.99 [0.66, 1.00], n = 120 <reward/accuracy_articles>`. And the reference beats base's own answer in {num}`0.86 [0.70, 0.95], n = 184 <reward/accuracy[base's answer]>` of the pairs: the one kind of pair in
# which nobody spoiled anything. A model that is shown faults alone need not find any in fluent nonsense, which is why base's answers
# are there. How it fares in languages that it was not trained on is left to a later run (`python tools/recorded.py fits`).

# %% [markdown]
# **Do its numbers mean what they say?** The sigmoid of a difference of rewards is a probability by the loss's own account. A model is *calibrated* when of the
# pairs for which it says 0.8, four in five come out so.
#
# ```{runfigure} calibration reward
# ```

# %%
plots.calibration(["reward"])

# %% [markdown]
# ## A reward that shares the judge's eyes
#
# It would be quick to put a reward head on the {term}`encoder` that the judge of chapter 10 uses: the embeddings are there, and a ridge regression on the
# differences of pairs does the rest. Here is why the book does not. First the head:

# %%
from mlpo.evaluate.judge import EmbeddedJudge

embedded = EmbeddedJudge(run.store)


def seen_by_encoder(asked, texts):
    """Features of answers to prompts: the answer's embedding, and its product with the prompt's. (answers, 768)"""
    answer, prompt = embedded.embed(texts), embedded.embed(asked)
    return np.concatenate([answer, answer * prompt], 1)


asked = [pair.prompt for pair in pairs]
gap = seen_by_encoder(asked, [p.chosen for p in pairs]) - seen_by_encoder(
    asked, [p.rejected for p in pairs]
)
head = np.linalg.solve(gap.T @ gap + 0.1 * np.eye(gap.shape[1]), gap.sum(0))
float((gap @ head > 0).mean())  # right on its own training pairs

# %% [markdown]
# Then a policy that does nothing but please it: it starts from one of base's answers in English and, word by word, appends whichever word of the prompt raises the
# head's reward most. Will the judge's likeness to the reference rise with it, as one must fear of two instruments that see through the same encoder?


# %%
def please(prompt, text, steps=6):
    """The answer after `steps` greedy additions of words of the prompt."""
    vocabulary = sorted(set(prompt.split()))
    for _ in range(steps):
        options = [f"{text} {word}" for word in vocabulary]
        scores = seen_by_encoder([prompt] * len(options), options) @ head
        text = options[int(scores.argmax())]
    return text


english = [p for p in prompts.seed_prompts("dev", "en")[: 2 * budget.reward_prompts]]
honest = [
    c.text or "."
    for c in complete.run(
        run.store,
        base,
        english,
        run.profile.sampling,
        role="policy",
        seed=seed,
        block=budget.block,
    )
]
pleasing = [please(p.text, text) for p, text in zip(english, honest, strict=True)]
pd.DataFrame({"honest": honest, "pleasing": pleasing}).head(2)

# %%
texts = [p.text for p in english]
near = lambda said: (
    embedded.embed(said) * embedded.embed([p.reference for p in english])
).sum(1)
recorded = rewards.recorded()
change = {
    "head's reward": (seen_by_encoder(texts, pleasing) - seen_by_encoder(texts, honest))
    @ head,
    "judge's likeness to the reference": near(pleasing) - near(honest),
    "recorded reward model": np.array(recorded.score_texts(texts, pleasing))
    - np.array(recorded.score_texts(texts, honest)),
}
for name, values in change.items():
    e = stats.clustered_mean(list(values), [p.id for p in english])
    run.estimate(f"gaming[{name}]", e)
_ = run.save()
pd.DataFrame(change).mean().round(3)

# %% [markdown]
# Recorded: the head's reward changes by {num}`+0.11 [−0.01, +0.26], n = 6 <05_reward_model-cpu/gaming[head's reward]>`, the judge's measure of likeness by
# {num}`−0.007 [−0.013, −0.001], n = 6 <05_reward_model-cpu/gaming[judge's likeness to the reference]>`, and the recorded reward model, which has other eyes, by
# {num}`−0.5 [−1.5, +0.5], n = 6 <05_reward_model-cpu/gaming[recorded reward model]>`. So the fear is not borne out here: a head that was fitted to this few pairs hardly knows what it wants, and words of the prompt do not carry an
# answer towards its reference. That is no licence. A policy that is trained has more moves than appending words, and if it found one that both instruments like, nothing
# in the numbers would tell: the judge would agree with the reward for the wrong reason. So in this book a reward is never built on the judge's encoder, and the judge never selects training data.
#
# ## Exercise
#
# **Goal.** Does the model prefer long answers? Compare the reward of each `dev` reference with its length, within each language, by rank
# correlation.

# %% tags=["solution", "hide-input"]
scores = pd.DataFrame(
    {
        "lang": [p.lang for p in dev],
        "length": [len(p.reference) for p in dev],
        "reward": model.score(dev, [p.reference for p in dev]),
    }
)
scores.groupby("lang", sort=False).apply(
    lambda g: g["length"].corr(g["reward"], method="spearman")
).round(2)

# %% [markdown]
# With three references in a language, as under `cpu`, a correlation can be almost anything by chance. Nor are the languages independent
# witnesses: the references are parallel, so what is long in one language tends to be long in all.
#
# ## Summary
#
# - The loss only sees differences of rewards.
# - Pairs of known order can be made by spoiling references; held-out kinds, languages and tasks test what was learned.
# - Accuracy is reported by kind and by language, with intervals clustered by prompt ({term}`clustered interval`); calibration apart from it.
# - All chosen sides come from one writer. "Better" here means "more like that writer", and no test in this chapter can see past that.
# - A reward model must not share its encoder with the judge: agreement between the two would mean nothing.
#
# **What's next.** Chapter 06 lets the recorded model rank the completions of chapter 04 and builds preference pairs and mixtures from them.
