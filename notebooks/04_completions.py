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
# # Completions: native against translated
#
# **You will be able to**
#
# - say how the book's {term}`base` was made, what was tried, and what it can and cannot do;
# - say who answers in the paper, who answers here, and why the contrast matters;
# - draw answers from a language model: {term}`temperature`, nucleus ({term}`nucleus sampling`), one random number a {term}`token`;
# - see with your own eyes what a weak model's translated answers look like, in nine scripts;
# - tell an answer that ended from one that was cut, and count what is rejected.
#
# **Before this chapter**
#
# - chapter 03: the splits, and the translator;
# - what a softmax is.
#
# ## Overview
#
# A {term}`preference pair` needs two answers, or {term}`completions <completion>`, to one {term}`prompt`. By its authors' account the paper sets answers
# of a strong multilingual model, given in the language itself, against English answers of a weaker model that a machine then translated [A]+[I]. A
# {term}`policy` that learns to prefer the first is meant to move away from translated language [A].
#
# In the small profiles of this book the {term}`strong generator` is the seed set's own {term}`reference` answer, and the {term}`weak generator` is SmolLM2,
# a model of 135 million parameters that speaks English in effect, translated by the translator of chapter 03. A third source is the
# policy itself: its own samples, which {term}`on-policy` methods learn from. Here they are samples of {term}`base`, with which every policy starts. In
# the profiles that use a model hub all three are models.

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; where random numbers start
temperature: float = 0.7  # 0.0..2.0; 0 takes the likeliest token each time

# %%
import time

import pandas as pd
import torch

from mlpo import chapters, languages, models, plots
from mlpo.data import complete, mix, prompts, translate
from mlpo.display import show_texts
from mlpo.evaluate import stats

run = chapters.start(
    "04_completions", profile=profile, seed=seed, temperature=temperature
)
budget = run.profile.budget
sampling = run.profile.sampling.model_copy(update={"temperature": temperature})
scripts = [
    lang
    for lang in ("en", "ru", "el", "ar", "he", "hi", "ja", "ko", "zh")
    if lang in run.languages
]

# %% [markdown]
# ## How base was made
#
# The paper starts from Aya 23 [P], a model that follows instructions in 23 languages. This book's stand-in is {term}`base`: the {term}`pretrained` Gemma 3 270M
# after supervised fine-tuning ({term}`SFT`) on the split `sft`, 60 prompts and 20 articles in each of the 23 languages. It was made once, is frozen, and is the
# same for everything that follows. How was it chosen? On `dev` alone, by the bits per character that the reference costs as an answer to its prompt (lower
# is better). First the settings, each over a quarter of an {term}`epoch`: learning rate, rank, with and without short human chat from
# `chatterbot-corpus`, which exists in 17 of the languages. Then the length of training:
#
# ```{runfigure} sft_compare sft-compare
# ```

# %%
plots.sft_compare(["sft-compare"], "recorded")

# %% [markdown]
# Most of the gain comes within the first quarter of an epoch. Against the first setting, rank 16 at a rate of 3e-4, a higher rate gains a little
# ({num}`−0.038 bits/character [−0.061, −0.021], n = 230 <sft-compare/difference[rank 16, rate 1e-3]>`), a lower one loses a little, four times the rank does nothing that can be told from noise, and human
# chat for half of the rows costs much ({num}`0.24 bits/character [0.13, 0.34], n = 230 <sft-compare/difference[rank 16, rate 3e-4, half chatterbot]>`): it is short and teaches other answers. The
# length of training matters more, and in both directions. All 23 languages say the same things, so one epoch passes over each content 23 times; one epoch
# ({num}`1.52 bits/character [1.38, 1.65], n = 230 <sft-compare/bits[one epoch]>`) came out best, half of one not far behind, and two ({num}`1.60 bits/character [1.43, 1.76], n = 230 <sft-compare/bits[two epochs]>`) worse than one, perhaps because
# the model had begun to learn the 80 contents by heart. At the higher rate half an epoch brought nothing over a quarter. So `base` is one epoch at 3e-4: loss
# {num}`3.3 nats/token, n = 80 <sft/loss_first>` over the first ten steps, {num}`2.6 nats/token, n = 80 <sft/loss_last>` over the last. By language, before and after:
#
# ```{runfigure} held_out_bits sft
# ```

# %%
plots.held_out_bits(["sft"], "recorded")

# %% [markdown]
# A part of the drop is form: `pretrained` has never seen the turn format and does not know that short answers are wanted. Compare within a language only;
# a Chinese character carries more than a Latin letter. Here is what base says to one `dev` prompt, in several scripts, beside the English source and
# the translator's way back to English (a poor help: that way was trained on prompts, never on answers).

# %%
base = models.load(run.profile.models.base)
first = prompts.seed_prompts("dev", "en")[1]
samples = pd.DataFrame(
    [
        {"lang": p.lang, "prompt": p.text}
        for lang in scripts
        for p in prompts.seed_prompts("dev", lang)
        if p.id == first.id
    ]
)
greedy = sampling.model_copy(update={"temperature": 0.0})
said = complete.LocalGenerator(base).generate(
    list(samples.prompt), greedy, [0] * len(samples)
)
samples["answer"] = [row.text for row in said]

# %%
translator = translate.make(run.profile.models.translator, run.profile.server)
back = lambda some, langs: translate.to_english(
    run.store, translator, some, langs, budget.block
)
samples["back-translation"] = back(samples.answer, samples.lang)
print(first.text)
show_texts(samples)

# %% [markdown]
# Fluent in English and some large languages, ungrammatical or repetitive in others, mostly on the subject, and often wrong. A model of this size knows little. Everything in this book
# is measured relative to this base.
#
# ## One token at a time
#
# A language model gives a score to every token of its vocabulary. Divide the scores by the *temperature*, turn them into
# probabilities, keep the smallest set of tokens that together hold 95 % of the mass (the *nucleus*), and let one random number between 0 and 1
# choose among them: walk along the cumulative probabilities until you have passed that share of the nucleus. That is all of sampling. Here it is for
# one token.

# %%
from mlpo.sample import chat

question = prompts.seed_prompts("pref", "en")[0]
ids = base.tokenizer(
    chat(base.tokenizer, question.text), add_special_tokens=False, return_tensors="pt"
)
with torch.inference_mode():
    logits = base.model(**ids.to(base.model.device)).logits[0, -1].float().cpu()
probability, token = torch.softmax(logits / max(temperature, 0.01), -1).sort(
    descending=True
)
nucleus = probability.cumsum(-1) - probability < sampling.top_p
uniform = torch.rand((), generator=torch.Generator().manual_seed(seed))
drawn = (
    (probability[nucleus].cumsum(-1) <= uniform * probability[nucleus].sum())
    .sum()
    .item()
)
print(question.text)
first = base.tokenizer.decode([token[drawn]])
print(f"{int(nucleus.sum())} of {len(token):,} tokens are in the nucleus")
print(f"the answer begins with {first!r}")

# %% [markdown]
# The package does the same for many rows at once. It reads a prompt once for all of its samples, rows that have finished leave the {term}`batch`, and waiting
# ones take their place. Each row's random numbers come from its own identity (the hash of model, prompt, settings and {term}`seed`), so that another batch
# size does not change them, though rounding may still turn a token here and there. The answers are kept in a store under that identity: what is there
# is not drawn again.

# %% [markdown]
# ## Three ways to answer
#
# How many prompts are needed? Chapter 06 wants to fill {term}`mixtures <mixture>` of one, five and all languages with the same total. English alone must then
# have as many pairs as all languages together, while the other languages need only a few each. A fifth more than that is answered, because some answers will be
# rejected.
#
# **Native** ({term}`native completion`). In the small profiles these are the references of the split `pref`, written in the language by a model that had the English
# before it: native in the sense of the paper, not free of {term}`translationese`. Neither {term}`SFT` nor the reward model of
# chapter 05 ever sees them.

# %%
needed = mix.needed(list(mix.MIXTURES), budget.train_pairs, run.languages)
asked = [
    p
    for lang, number in needed.items()
    for p in prompts.seed_prompts("pref", lang)[: round(1.2 * number) + 1]
]
options = {"seed": seed, "block": budget.block}
native = complete.native(run.store, run.profile, asked, sampling, seed=seed)
print(len(asked), "prompts;", needed)

# %% [markdown]
# **Translated.** The weak model answers the English prompt, and the translator carries the answer over. SmolLM2 likes to talk, and the token
# limit cuts off nearly every answer. So only whole sentences are translated, in the small profiles the first ones up to 160 characters. Without that limit they
# would be far longer than references; with it they come out shorter (chapter 06 counts). In English they stand as they are.

# %%
weak = complete.generator(run.profile.models.weak, run.profile.server)
english = [p for p in asked if p.lang == "en"]
translated, rejected = complete.translated(
    run.store,
    weak,
    translator,
    english,
    asked,
    sampling,
    longest=budget.weak_characters,
    **options,
)
del weak
pd.Series(list(rejected.values()), dtype=str).value_counts()

# %% [markdown]
# **Policy.** Two samples of base for each prompt, in the prompt's own language.

# %%
before = run.store.count("complete")
started = time.monotonic()
policy = complete.run(
    run.store,
    complete.LocalGenerator(base),
    asked,
    sampling,
    role="policy",
    samples=2,
    **options,
)
seconds = time.monotonic() - started
by_key = {(p.id, p.lang): p for p in asked}
table = pd.DataFrame(
    [
        {
            "id": c.id,
            "prompt_id": c.prompt_id,
            "lang": c.lang,
            "role": c.role,
            "prompt": by_key[c.prompt_id, c.lang].text,
            "text": c.text,
            "cut": c.cut,
            "in_language": languages.is_in(c.text, c.lang),
            "rejected": rejected.get(c.id) or complete.flaw(c),
        }
        for c in [*native, *translated, *policy]
    ]
)
run.table("completions", table)
if run.store.count("complete") - before == len(policy):  # all of them drawn just now
    tokens = sum(len(base.tokenizer(c.text)["input_ids"]) for c in policy)
    run.timing["tokens_per_second"] = round(tokens / seconds, 1)
table.groupby(["role"], sort=False)[["cut", "in_language"]].mean().round(2)

# %% [markdown]
# An answer is *cut* when the token limit came before the end of its turn ({term}`truncation`). In chapter 05 the {term}`reward model` is taught to dislike references
# that were cut short on purpose; it will punish an answer that the limit cut, too. Languages that need more
# tokens for the same content are cut first (chapter 02). So the mark is kept with the answers, here and in chapters 07 and 08, and the share is worth a
# look by language as well as by role. For the role *translated* the mark says that the English answer was cut; its broken last sentence was dropped before translation.

# %%
for role, some in table.groupby("role", sort=False):
    for name in ("cut", "in_language"):
        e = stats.clustered_share(list(some[name]), list(some.prompt_id))
        run.estimate(f"{name}_{role}", e)
for lang, some in table[table.role == "policy"].groupby("lang", sort=False):
    run.estimate(
        f"cut_policy[{lang}]",
        stats.clustered_share(list(some["cut"]), list(some.prompt_id)),
    )
filtered = (
    table.assign(why=table.rejected.replace("", "kept"))
    .groupby(["role", "why"], sort=False)
    .size()
    .unstack(fill_value=0)
)
run.table("filtered", filtered.reset_index())
filtered

# %% [markdown]
# ```{runtable} 04_completions-cpu filtered
# :caption: What the filters kept and rejected, by role: answers in the wrong language, and translations that failed the checks of chapter 03
# ```
#
# ## Side by side
#
# Recorded: a share of {num}`0.003 [0.000, 0.007], n = 388 <04_completions-cpu/cut_policy>` of the policy's answers was cut by the limit, and
# {num}`0.990 [0.967, 1.000], n = 194 <04_completions-cpu/in_language_translated>` of the weak ones, translated or English as they stand, were in the language that they claim.
#
# The answers to one question, in nine scripts: the native one, the translated one with the English it was made from, and one sample of the policy with the
# translator's way back. To our eyes the translated column is in the language and
# mostly makes no sense, and the policy's sentences sound better while often making little. With so weak a translator the contrast is one of quality, not of style:
# translationese proper needs a better one. No native speaker has judged them.

# %%
one = table[(table.prompt_id == asked[0].id) & table.lang.isin(scripts)]
wide = (
    one.drop_duplicates(["lang", "role"])
    .pivot(index="lang", columns="role", values="text")
    .loc[scripts]
    .reset_index()
)
wide["back-translation"] = back(wide.policy, wide.lang)
side = wide[["lang", "native", "translated", "policy", "back-translation"]]
run.table("side_by_side", side)
print(asked[0].text)
english_side = wide[wide.lang == "en"].iloc[0]
print("native:", english_side.native, "\ntranslated from:", english_side.translated)
show_texts(side)

# %% [markdown]
# ```{runtable} 04_completions-cpu side_by_side
# :caption: Answers to one prompt (its English source is in the row en): native, translated, a sample of base, and the translator's own reading of that sample in English
# ```

# %%
_ = run.save()

# %% [markdown]
# ## Exercise
#
# **Goal.** How much do two samples of one prompt differ? Compute the mean chrF between the two policy samples of each prompt, by
# language, and predict what happens to it at temperature 0.2. Then run the chapter with `-p temperature=0.2` and check.

# %% tags=["solution", "hide-input"]
from sacrebleu.metrics import CHRF

own = (
    table[table.role == "policy"]
    .groupby(["lang", "prompt_id"], sort=False)["text"]
    .apply(list)
)
alike = own.apply(lambda pair: CHRF().sentence_score(pair[0], [pair[1]]).score)
alike.groupby("lang", sort=False).mean().round(1)

# %% [markdown]
# A low temperature leaves nearly all of the probability with the likeliest tokens, so the two samples should become more alike and chrF should rise. At
# temperature 0 they are one and the same text.
#
# ## Summary
#
# - `base` is a small fluent model made once from the split `sft`; what was tried and what it changed is recorded.
# - Native, translated, policy: three sources of answers, and the paper's contrast is the first against the second [A]+[I].
# - Sampling is one random number a token; tied to the row's identity, it is reproducible whatever the batch.
# - Cut answers and answers in another language are marked, because rewards and judges will trip over them.
#
# **What's next.** Someone must say which answer is better. Chapter 05 trains the model that does.
