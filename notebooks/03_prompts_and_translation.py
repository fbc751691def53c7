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
# - read the seed set: its splits, its tasks, and why a prompt never changes its split;
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
# The paper takes about fifty thousand English prompts and has a machine translate them into 22 languages. Which translator it
# used is not known; its sibling paper used NLLB-200-3.3B, a model of several gigabytes. This book must run on a laptop without
# a download, so its default translator is the same small model that it later trains: the {term}`pretrained` Gemma 3 270M,
# shown a few translated examples. Its translations are poor. That is not only a weakness: much of what the paper is about is
# what poor, translated text does to preference data, and here the reader can see it happen.

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
# The prompts were written for this project, with short reference answers, in parallel: the same request under the same id in
# every language. Each id belongs to one {term}`split` for good. `sft` teaches the base model, `rm` the reward model, `pref` makes
# preference pairs, `dev` is what every choice in this book may look at, and `test` stays unread until a plan says what will be
# done with it. A sixth split, `pool`, exists in English alone: those are the prompts that the machine translates.

# %%
counts = {
    split: len(prompts.seed_prompts(split, "en"))
    for split in ("sft", "rm", "pref", "dev", "pool")
}
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
# most plausibly continued with a Turkish line that means the same. So we write the beginning of such a text, the *shots*, from
# the `sft` split, put the prompt at its end and let the model continue until the line is over.

# %%
loaded = models.load(run.profile.models.translator_model)
translator = translate.FewShotTranslator(loaded)
other = next(lang for lang in run.languages if lang != "en")
print(translator.shots("en", other)[-420:])

# %% [markdown]
# The shots are the same for every prompt of a language, so the model reads them once and keeps what it computed (the key-value
# cache); each prompt then costs only its own tokens. The next token is always the most likely one (temperature 0): a
# translation should not be a matter of luck.

# %% [markdown]
# ## How good is it?
#
# The `dev` prompts exist in every language, written by hand as it were, so a machine translation can be compared with them.
# **chrF** counts how many runs of one to six characters the two texts share, from 0 to 100. It needs no word boundaries, which
# makes it fair to Chinese, and it forgives inflection, which makes it fair to Turkish. It does not know meaning. For a sense of
# scale we also score the laziest translator: the one that returns the English.

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
# A prompt in the wrong language teaches the wrong language. Two cheap checks catch most of it: the text must be identified as the
# target among the 23 languages, and at least half of its letters must be in the script of the target. Text that merely copies
# its source fails too. What is rejected is counted, never silently dropped.

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
# chrF by target language, with intervals over prompts: English is translated into every language by the same small model.
#
# Recorded over all targets: {num}`23.8 chrF [20.5, 27.0], n = 70 <03_prompts_and_translation-cpu/chrf>`; copying the English gives {num}`7.02 chrF [6.48, 7.64], n = 70 <03_prompts_and_translation-cpu/chrf_copy>`.
# Of the pool's translations a share of {num}`0.93 [0.86, 1.00], n = 42 <03_prompts_and_translation-cpu/kept_share>` passed the checks.
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
# ## Summary
#
# - Prompts belong to a split for good; `pool` is what the machine translates.
# - A pretrained model translates when it is shown translations. The result is much better than copying and far from good.
# - chrF says how alike two texts look. Read samples beside it.
# - Language and script are checked on every row, and what is rejected is counted.
#
# **What's next.** Chapter 04 answers the prompts: natively by a strong writer, and in English by a weak model whose words are then
# translated as above.
