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
#     inputs: ["04/completions", "05/reward"]
# ---

# %% [markdown]
# # Pairs and mixtures
#
# **You will be able to**
#
# - turn completions into preference pairs by role, by reward, and at random as a control;
# - say how often the "worse" source wins under the reward model, and why that share must be shown;
# - share a budget of pairs among languages, in the mixtures EN-1, ML-5 and ML-23;
# - keep the same pair recognisable in every mixture.
#
# **Before this chapter**
#
# - chapters 04 and 05: completions, and a reward model to rank them.
#
# ## Overview
#
# A {term}`preference pair` says: to this {term}`prompt`, the {term}`chosen` answer is better than the {term}`rejected` one. The paper ranks
# {term}`completions <completion>` with a {term}`reward model` [S]. One could also go by role: then the native answer is always chosen. Which of the two
# decided in the paper is unknown, so the book makes both kinds and counts how often they disagree. Then it builds {term}`mixtures <mixture>`: the same
# number of pairs drawn from one language, five, or all.

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; where random numbers start
inputs: str = "recorded"  # recorded | build; where completions and reward come from

# %%
import pandas as pd

from mlpo import MlpoError, chapters, plots
from mlpo.data import mix, pair, prompts, score
from mlpo.display import show_texts
from mlpo.evaluate import stats
from mlpo.records import Completion
from mlpo.rewards import RewardModel

run = chapters.start("06_pairs_and_mixtures", profile=profile, seed=seed, inputs=inputs)
completions = run.input("04/completions")
reward = RewardModel.from_adapter(run.profile.models.base, run.input_dir("05/reward"))

# %% [markdown]
# ## Score everything
#
# Every completion gets its {term}`reward`, once; the store remembers.

# %%
asked = {
    (p.id, p.lang): p
    for lang in run.languages
    for p in prompts.seed_prompts("pref", lang)
}
completions["reward"] = score.run(
    run.store,
    reward,
    [asked[k] for k in zip(completions.prompt_id, completions.lang, strict=True)],
    list(completions.text),
    run.profile.budget.block,
)
completions.groupby(["lang", "role"], sort=False)["reward"].mean().unstack().round(2)

# %% [markdown]
# ## Three rules
#
# - **role**: native over translated, whatever the reward model thinks;
# - **reward**: the highest reward over the lowest, among all completions of a prompt (four: one native, one translated, two of the policy);
# - **random**: two of them in random order, a {term}`negative control`. It says nothing about which answer is better, so a method that "improves" on it is
#   fooling us.

# %%
rows = [
    Completion(c.id, c.prompt_id, c.lang, c.role, c.text, c.cut)
    for c in completions.itertuples()
]
pairs = [
    made
    for rule in ("role", "reward", "random")
    for made in pair.make(
        list(asked.values()), rows, list(completions.reward), rule, seed
    )
]
table = pd.DataFrame([vars(p) for p in pairs])
run.table("pairs", table)
table.groupby(["rule", "lang"], sort=False).size().unstack(0)

# %% [markdown]
# ## How often does the translated answer win?
#
# Among the role pairs, the reward model may well prefer the side that the rule rejects, although chapter 05 taught it with some pairs of this very kind,
# on other prompts. A share of one half would mean that the role tells nothing about what the model prefers.

# %%
role = table[table.rule == "role"].assign(
    wins=lambda t: (t.rejected_reward > t.chosen_reward).astype(float)
)
for lang, some in [*role.groupby("lang", sort=False), (None, role)]:
    e = stats.clustered_share(list(some.wins), list(some.prompt_id))
    name = "translated_wins" if lang is None else f"translated_wins[{lang}]"
    run.estimate(name, e)
long = table.assign(
    chosen_length=table.chosen.str.len(), rejected_length=table.rejected.str.len()
)
long.groupby("rule", sort=False)[["chosen_length", "rejected_length"]].mean().round(0)

# %% [markdown]
# Length is the first thing to look at in any set of pairs: if the chosen side is longer throughout, a {term}`policy` can learn to be long, and a reward
# model to count. Below are some reward pairs in which the native answer was not chosen.

# %%
some = (
    table[(table.rule == "reward") & (table.chosen_role != "native")]
    .groupby("lang", sort=False)
    .head(1)
)
show_texts(some[["lang", "prompt", "chosen", "rejected"]].head(4))

# %% [markdown]
# ## Mixtures
#
# EN-1 is English alone, ML-5 five languages, ML-23 all of them. The book gives each language of a mixture the same share of the total; that the paper did
# so too is a guess [I]. Its five languages are unknown; the book takes English, Vietnamese, German, Turkish and Portuguese. A mixture is cut to the
# profile's languages and says so in its name.

# %%
total = min(run.profile.budget.train_pairs, int((table.rule == "reward").sum()))
usable = [p for p in pairs if p.rule == "reward"]
members = []
for name in mix.MIXTURES:
    try:
        mixture = mix.make(usable, name, total, run.languages, run.profile.name, seed)
    except MlpoError as error:
        print(error)
        continue
    members += [
        {"mixture": name, "label": mixture.name, "pair": p.id, "lang": p.lang}
        for p in mixture.pairs
    ]
mixtures = pd.DataFrame(members)
run.table("mixtures", mixtures)
mixtures.groupby(["label", "lang"], sort=False).size().unstack(0)

# %% [markdown]
# An impossible budget is refused with the number that is missing, rather than filled with repeats: six English prompts give six English pairs and not
# two dozen, so under `cpu` there is no EN-1. A pair's identity is the hash of its two sides, so a pair that sits in two mixtures is known to be the
# same.

# %%
run.metric("pairs", len(table), n=len(table))
_ = run.save()

# %% [markdown]
# Recorded over all languages: the translated answer wins in a share of {num}`0.33 [0.12, 0.60], n = 48 <06_pairs_and_mixtures-cpu/translated_wins>` of the role pairs.
#
# ```{runfigure} translated_wins 06_pairs_and_mixtures-cpu
# ```

# %%
plots.translated_wins([run.id])

# %% [markdown]
# ## Exercise
#
# **Goal.** Keep only the reward pairs whose margin (chosen minus rejected reward) is above the median. Which roles stand on the chosen side before and
# after? (Two of a prompt's four completions are the policy's, so by chance alone half of the chosen ones would be.)

# %% tags=["solution", "hide-input"]
by_reward = table[table.rule == "reward"].assign(
    margin=lambda t: t.chosen_reward - t.rejected_reward
)
wide = by_reward[by_reward.margin > by_reward.margin.median()]
pd.DataFrame(
    {
        "all": by_reward.chosen_role.value_counts(),
        "wide margin": wide.chosen_role.value_counts(),
    }
)

# %% [markdown]
# ## Summary
#
# - A rule makes pairs; the random rule is the control that a result must beat.
# - Where role and reward disagree, the share is shown with its interval.
# - Mixtures share a fixed total among languages; pairs keep their identity.
#
# **What's next.** Chapter 07 trains a policy on these pairs, offline.
