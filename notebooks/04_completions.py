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
# - say who answers in the paper, who answers here, and why the contrast matters;
# - draw answers from a language model: {term}`temperature`, nucleus ({term}`nucleus sampling`), one random number a {term}`token`;
# - see {term}`translationese` with your own eyes, in several scripts;
# - tell an answer that ended from one that was cut.
#
# **Before this chapter**
#
# - chapter 03: the splits, and the few-shot translator;
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
import pandas as pd
import torch

from mlpo import chapters, languages, models
from mlpo.data import complete, prompts, translate
from mlpo.display import show_texts
from mlpo.evaluate import stats
from mlpo.records import Completion, Text

run = chapters.start(
    "04_completions", profile=profile, seed=seed, temperature=temperature
)
budget = run.profile.budget
sampling = run.profile.sampling.model_copy(update={"temperature": temperature})

# %% [markdown]
# ## One token at a time
#
# A language model gives a score to every token of its vocabulary. Divide the scores by the *temperature*, turn them into
# probabilities, keep the smallest set of tokens that together hold 95 % of the mass (the *nucleus*), and let one random number between 0 and 1
# choose among them: walk along the cumulative probabilities until you have passed that share of the nucleus. That is all of sampling. Here it is for
# one token.

# %%
base = models.load(run.profile.models.base)
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
# The package does the same for many rows at once, reads a prompt once for those of its samples that share a {term}`batch`, and lets finished rows
# leave it. Each row's random numbers come from its own identity (the hash of model, prompt, settings and {term}`seed`), so that another batch
# size does not change them, though rounding may still turn a token here and there. The answers are kept in a store under that identity: what is there
# is not drawn again.

# %% [markdown]
# ## Three ways to answer
#
# **Native** ({term}`native completion`). In the small profiles these are the references of the split `pref`. Neither {term}`SFT` nor the reward model of
# chapter 05 ever sees them.

# %%
asked = [
    p
    for lang in run.languages
    for p in prompts.seed_prompts("pref", lang)[: budget.completion_prompts]
]
if run.profile.models.strong == "references":
    native = complete.references(asked)
else:
    strong = models.load(run.profile.models.strong)
    native = complete.run(
        run.store, strong, asked, sampling, role="native", seed=seed, block=budget.block
    )
len(native)

# %% [markdown]
# **Translated.** The weak model answers the English prompt, and the {term}`few-shot` translator carries the answer over. SmolLM2 likes to talk and the token
# limit often cuts it off, so only the part up to its last full stop, question or exclamation mark is translated. In English that part
# stands as it is.

# %%
weak = models.load(run.profile.models.weak)
english = [p for p in asked if p.lang == "en"]
weak_english = complete.run(
    run.store, weak, english, sampling, role="translated", seed=seed, block=budget.block
)
del weak
translator = translate.FewShotTranslator(models.load(run.profile.models.translator))
translated = []
for lang in run.languages:
    done = translate.run(
        run.store,
        translator,
        [Text(c.id, complete.whole_sentences(c.text)) for c in weak_english],
        lang,
        budget.block,
    )
    for c in weak_english:
        identity = models.digest([c.id, lang, done[c.id]])
        translated.append(
            Completion(identity, c.prompt_id, lang, "translated", done[c.id], c.cut)
        )
del translator

# %% [markdown]
# **Policy.** Two samples of base for each prompt, in the prompt's own language.

# %%
policy = complete.run(
    run.store,
    base,
    asked,
    sampling,
    role="policy",
    seed=seed,
    samples=2,
    block=budget.block,
)
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
        }
        for c in [*native, *translated, *policy]
    ]
)
run.table("completions", table)
table.groupby(["role"], sort=False)[["cut", "in_language"]].mean().round(2)

# %% [markdown]
# An answer is *cut* when the token limit came before the end of its turn ({term}`truncation`). A cut answer looks like one that was truncated on
# purpose, so a {term}`reward model` that has learned to dislike truncation will punish it for the limit and not for its words. Languages that need more
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
length = (
    table.assign(characters=table.text.str.len())
    .groupby(["lang", "role"], sort=False)["characters"]
    .mean()
)
length.unstack().round(0)

# %%
_ = run.save()

# %% [markdown]
# ## Side by side
#
# Recorded: a share of {num}`0.20 [0.08, 0.35], n = 96 <04_completions-cpu/cut_policy>` of the policy's answers was cut by the limit, and
# {num}`0.90 [0.81, 0.99], n = 48 <04_completions-cpu/in_language_translated>` of the translated ones were in the language that they claim.
#
# The table below has one prompt's native and translated answers as recorded. The cell under it sets the answers to one question side by side in each language: the native
# one, the translated one, and one sample of the policy. To our eyes the translated column reads like English in foreign words, where it is in the
# language at all, and the policy's sentences sound like the language while often making little sense. No native speaker has judged them.
#
# ```{runtable} 06_pairs_and_mixtures-cpu pairs
# :columns: lang, prompt, chosen, rejected
# :rows: 8
# :caption: The native answer (chosen) and the translated one (rejected) to one prompt, as chapter 06 pairs them by role
# ```

# %%
first = table[table.prompt_id == table.prompt_id.iloc[0]]
wide = (
    first.drop_duplicates(["lang", "role"])
    .pivot(index="lang", columns="role", values="text")
    .loc[run.languages]
)
show_texts(wide.reset_index()[["lang", "native", "translated", "policy"]])

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
# - Native, translated, policy: three sources of answers, and the paper's contrast is the first against the second [A]+[I].
# - Sampling is one random number a token; tied to the row's identity, it is reproducible whatever the batch.
# - Cut answers and answers in another language are marked, because rewards and judges will trip over them.
#
# **What's next.** Someone must say which answer is better. Chapter 05 trains the model that does.
