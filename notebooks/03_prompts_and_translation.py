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
# # Prompts and translation
#
# **You will be able to**
#
# - read the {term}`seed set`: its splits, and why a {term}`prompt` never changes its {term}`split`;
# - translate prompts with nothing but a small language model and a few examples;
# - say how good a translation is with {term}`chrF`, and where that number misleads;
# - reject a translation that is not in the language it claims.
#
# **Before this chapter**
#
# - chapter 02: the languages, and how language identification works;
# - that a language model continues text; nothing about machine translation.
#
# ## Overview
#
# The paper takes about 50,000 English prompts and has a machine translate them into 22 languages [S]. (The letters in brackets are the labels of
# chapter 01: they say how well a statement about the paper is known.) Which translator it used is unknown; a sibling paper used
# NLLB-200-3.3B ({term}`NLLB`) [P], a model of several gigabytes. This book must run on a laptop without a model hub, so its default translator is
# the small model that its policies descend from: the {term}`pretrained` Gemma 3 270M, shown a few translated examples. Its translations are poor.
# That is not only a weakness: what translated text does to preference data is one of the questions of this book (O2 in chapter 01), and here you
# can see such text.

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; where random numbers start

# %%
import pandas as pd

from mlpo import chapters, languages, models, plots
from mlpo.data import prompts, translate
from mlpo.display import show_texts
from mlpo.evaluate import stats
from mlpo.records import Text

run = chapters.start("03_prompts_and_translation", profile=profile, seed=seed)

# %% [markdown]
# ## The seed set
#
# The seed set holds prompts and a short answer to each, its {term}`reference`, in parallel: the same request under the same id in every language. A large
# language model wrote it for this project, in each language anew instead of by translation; no native speaker has checked it yet.
#
# Each id belongs to one split for good. `sft` teaches {term}`base`, `rm` the {term}`reward model`, `pref` makes
# {term}`preference pairs <preference pair>`, `dev` is what every choice in this book may look at, and `test` stays unread until a plan says what
# will be done with it. A sixth split, `pool`, exists in English alone: those are the prompts that the machine translates.

# %%
counts = {
    split: len(prompts.seed_prompts(split, "en"))
    for split in ("sft", "rm", "pref", "dev")
}
counts["pool"] = len(prompts.pool(run.profile.prompts))
pd.Series(counts, name="prompts")

# %%
one = prompts.seed_prompts("dev", "en")[0].id
rows = [
    p
    for lang in run.languages
    for p in prompts.seed_prompts("dev", lang)
    if p.id == one
]
show_texts(
    pd.DataFrame(
        [{"lang": p.lang, "text": p.text, "reference": p.reference} for p in rows]
    )
)

# %% [markdown]
# ## Translation by example
#
# A pretrained language model was never told to translate. But a text in which English lines alternate with Turkish lines is
# most plausibly continued with a Turkish line that means the same. So we write the beginning of such a text with pairs of the
# `sft` split, the *shots* ({term}`few-shot`), put the prompt at its end and let the model continue until the line is over.

# %%
loaded = models.load(run.profile.models.translator)
translator = translate.FewShotTranslator(loaded)
other = next(lang for lang in run.languages if lang != "en")
print(translator.shots("en", other)[-420:])

# %% [markdown]
# The shots are the same for every prompt of a language, so the model reads them once for a whole {term}`batch` and keeps what it computed (the
# key-value cache); each prompt then costs only its own {term}`tokens <token>`. The next token is always the most likely one ({term}`temperature` 0):
# a translation should not be a matter of luck.

# %% [markdown]
# ## How good is it?
#
# The `dev` prompts exist in every language, none of them made by this translator, so a machine translation can be compared with them.
# **chrF** counts how many runs of one to six characters the two texts share, from 0 to 100. It needs no word boundaries, so it works for
# Chinese, and a word with another ending still earns part of its marks, which helps with Turkish. It does not know meaning: a good translation in
# other words scores low. And values of two languages cannot be compared. For a sense of scale we also score the laziest translator: the one that
# returns the English.

# %%
from sacrebleu.metrics import CHRF

chrf = CHRF()
english = prompts.seed_prompts("dev", "en")[: run.profile.budget.eval_prompts]
targets = [lang for lang in run.languages if lang != "en"]


def translated(texts: list[Text], lang: str) -> dict[str, str]:
    return translate.run(run.store, translator, texts, lang, run.profile.budget.block)


dev_rows = []
for lang in targets:
    done = translated([Text(p.id, p.text) for p in english], lang)
    own = {p.id: p.text for p in prompts.seed_prompts("dev", lang)}
    dev_rows += [
        {
            "id": p.id,
            "lang": lang,
            "source": p.text,
            "translation": done[p.id],
            "reference": own[p.id],
        }
        for p in english
    ]
dev = pd.DataFrame(dev_rows)
dev["chrf"] = [
    chrf.sentence_score(t, [r]).score
    for t, r in zip(dev.translation, dev.reference, strict=True)
]
dev["chrf_copy"] = [
    chrf.sentence_score(s, [r]).score
    for s, r in zip(dev.source, dev.reference, strict=True)
]

# %%
for lang, some in dev.groupby("lang", sort=False):
    for name in ("chrf", "chrf_copy"):
        e = stats.clustered_mean(list(some[name]), list(some.id))
        run.estimate(f"{name}[{lang}]", e, unit="chrF")
for name in ("chrf", "chrf_copy"):
    e = stats.clustered_mean(list(dev[name]), list(dev.id))
    run.estimate(name, e, unit="chrF")
dev.groupby("lang", sort=False)[["chrf", "chrf_copy"]].mean().round(1)

# %% [markdown]
# Look at the texts before you believe the number.

# %%
show_texts(
    dev.groupby("lang", sort=False).head(1)[
        ["lang", "source", "translation", "reference"]
    ]
)

# %% [markdown]
# ## Which translations may stay
#
# A prompt in the wrong language teaches the wrong language. Two cheap checks guard against it: the text must be identified as the
# target among the 23 languages ({term}`language identification`), and at least half of its letters must be in the script of the target. Text that
# merely copies its source fails too. What is rejected is counted, never silently dropped. What these checks cannot see is whether a
# translation still says what its source said.

# %%
pool = prompts.pool(run.profile.prompts)[: run.profile.budget.translation_prompts]
pool_rows = [{"id": p.id, "lang": "en", "source": p.text, "text": p.text} for p in pool]
for lang in targets:
    done = translated([Text(p.id, p.text) for p in pool], lang)
    pool_rows += [
        {"id": p.id, "lang": lang, "source": p.text, "text": done[p.id]} for p in pool
    ]
table = pd.DataFrame(pool_rows)
table["kept"] = [
    languages.is_in(row.text, row.lang) and (row.lang == "en" or row.text != row.source)
    for row in table.itertuples()
]
run.table("prompts", table)
kept = table[table.lang != "en"]
e = stats.clustered_share(list(kept.kept), list(kept.id))
run.estimate("kept_share", e)
table.groupby("lang", sort=False)["kept"].agg(["sum", "count"])

# %%
run.table("dev", dev)
_ = run.save()

# %% [markdown]
# ## The result
#
# chrF by target language, each with its {term}`interval` over prompts. The same small model translates into every language.
#
# Recorded over all targets: {num}`23.8 chrF [20.5, 27.0], n = 70 <03_prompts_and_translation-cpu/chrf>`; copying the English gives {num}`7.02 chrF [6.48, 7.64], n = 70 <03_prompts_and_translation-cpu/chrf_copy>`.
# Of the pool's translations a share of {num}`0.93 [0.86, 1.00], n = 42 <03_prompts_and_translation-cpu/kept_share>` passed the checks.
# To be in the right language is not yet to be right.
#
# ```{runfigure} chrf 03_prompts_and_translation-cpu
# ```

# %%
plots.chrf([run.id])

# %% [markdown]
# ## Exercise
#
# **Goal.** Is a longer prompt harder to translate? Compare the chrF of the shorter and the longer half of the `dev` prompts, with
# intervals, and say whether the data at hand can tell.

# %% tags=["solution", "hide-input"]
length = dev.source.str.len()
for name, some in (
    ("shorter half", dev[length <= length.median()]),
    ("longer half", dev[length > length.median()]),
):
    e = stats.clustered_mean(list(some.chrf), list(some.id))
    print(f"{name}: {e.value:.1f} [{e.lo:.1f}, {e.hi:.1f}] over {e.clusters} prompts")

# %% [markdown]
# Two intervals that overlap widely settle nothing. And a longer text gives chrF more to match, so even a clear difference need not mean that one
# half was translated better.
#
# ## Summary
#
# - Prompts belong to a split for good; `pool` is what the machine translates.
# - A pretrained model translates when it is shown translations. The result is much better than copying and far from good.
# - chrF says how alike two texts look. Read samples beside it.
# - Language and script are checked on every row, and what is rejected is counted.
#
# **What's next.** Chapter 04 turns to answers: a strong writer's in each language, and a weak model's in English, which are then
# translated as above. The translated prompts come back in chapter 08.
