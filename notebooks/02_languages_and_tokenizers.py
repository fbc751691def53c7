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
# # Languages and tokenizers
#
# **You will be able to**
#
# - name the 23 languages of the study, their scripts, and how they are grouped;
# - measure how many tokens a tokenizer needs for the same content in different languages, with an interval;
# - say what a limit in tokens does to each language, and why that matters for preference training;
# - use language identification and know what it cannot say.
#
# **Before this chapter**
#
# - chapter 00, for how a chapter is run;
# - chapter 01, for why intervals are clustered by prompt.
#
# ## Overview
#
# A language model does not read letters. A {term}`tokenizer` cuts text into {term}`tokens <token>` first: words, parts of words, or single bytes. Time,
# memory, money and every length limit are counted in tokens. How the cuts fall was decided once, from the text that the tokenizer was built on, and
# languages of which that text held little are cut into small pieces. How many tokens a language needs is called its {term}`fertility`.
#
# This chapter measures fertility on parallel text, the same answers in every language. It compares two tokenizers: that of Gemma 3, made for many
# languages, which the book's {term}`base` uses, and that of SmolLM2, made for English, the book's {term}`weak generator`. These two are the same under
# every profile; only the languages change. No model is run.

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; of the resampling behind the intervals
max_tokens: int = 96  # 8..512; limit in tokens, end of turn included

# %%
import pandas as pd
from scipy.stats import binomtest
from tokenizers import Tokenizer

from mlpo import chapters, languages, models, plots
from mlpo.data import prompts
from mlpo.display import show_texts
from mlpo.evaluate import stats

run = chapters.start(
    "02_languages_and_tokenizers", profile=profile, seed=seed, max_tokens=max_tokens
)

# %% [markdown]
# ## The 23 languages
#
# The languages are those of Aya 23 ({cite:t}`aryabumi2024aya23`) [P]. The grouping that the paper itself used is not known to the book. {term}`Resource level`,
# and a class from 0 (hardly any data) to 5 (the most) that is often quoted beside it, are taken from a sibling paper of the same laboratory
# ({cite:t}`gureja2024mrewardbench`) [P], so treat both as a proxy.

# %%
table = pd.DataFrame([vars(language) for language in languages.LANGUAGES.values()])
table["direction"] = table["rtl"].map({True: "right to left", False: "left to right"})
run.table(
    "languages",
    table[["code", "name", "script", "family", "resource", "joshi", "direction"]],
)
table[["code", "name", "script", "family", "resource", "joshi", "direction"]].set_index(
    "code"
)

# %% [markdown]
# ```{runtable} 02_languages_and_tokenizers-cpu languages
# ```
#
# More than half of them share one script. That matters when you choose languages for a {term}`mixture`: five languages in Latin script are less diverse
# than they look.

# %%
table.groupby("script")["code"].agg(languages="count", codes=" ".join).sort_values(
    "languages", ascending=False
)

# %% [markdown]
# Chinese counts once although it is written in two ways. The book's data are in simplified characters; traditional ones are not a 24th language, but a
# tokenizer may treat them less well, as we shall see.
#
# ## The same words in pieces
#
# Both tokenizers are read from files; the models they belong to stay on disk. Here is the shortest prompt of the seed set, as each of the two sees it. A
# bar marks a cut. The sign � is a piece of a character: where a tokenizer has no token for a letter, it falls back on the two to four bytes that the
# letter is stored in.

# %%
tokenizers = {
    label: Tokenizer.from_file(str(models.local_folder(name) / "tokenizer.json"))
    for label, name in (("Gemma 3", "pretrained"), ("SmolLM2", "smollm2"))
}


def encode(label: str, text: str) -> list[int]:
    """Token numbers of `text`, without marks of beginning or end."""
    return tokenizers[label].encode(text, add_special_tokens=False).ids


def pieces(label: str, text: str) -> str:
    return "|".join(tokenizers[label].decode([token]) for token in encode(label, text))


print(
    {
        label: f"{tokenizer.get_vocab_size():,} tokens"
        for label, tokenizer in tokenizers.items()
    }
)

# %%
OPEN = ("sft", "rm", "pref", "dev")  # never test
seed_set = [
    p
    for lang in run.languages
    for split in OPEN
    for p in prompts.seed_prompts(split, lang)
]
shortest = min((p for p in seed_set if p.lang == "en"), key=lambda p: len(p.text)).id
show_texts(
    pd.DataFrame(
        [
            {"lang": p.lang, **{label: pieces(label, p.text) for label in tokenizers}}
            for p in seed_set
            if p.id == shortest
        ]
    )
)

# %% [markdown]
# And a sentence in both ways of writing Chinese, with its number of tokens:

# %%
chinese = {"simplified": "图书馆周末几点开门？", "traditional": "圖書館週末幾點開門？"}
pd.DataFrame(
    {
        kind: {label: len(encode(label, text)) for label in tokenizers}
        for kind, text in chinese.items()
    }
)

# %% [markdown]
# ## Measuring fertility
#
# Fertility can be counted per word, but Chinese and Japanese put no spaces between words; or per character, but a Chinese character says more than a Latin
# letter. With parallel text there is a fairer way: divide the tokens of a reference by the tokens of the *English* reference to the same prompt. A ratio
# of 2 means that saying the same costs twice as much.
#
# Each {term}`reference` answer gives one ratio. A language's value is the mean over prompts. The row `all` pools every language but English; there the
# same prompts recur, so whole prompts are drawn for its interval ({term}`clustered interval`).

# %%
counts = pd.DataFrame(
    [
        {
            "tokenizer": label,
            "lang": p.lang,
            "id": p.id,
            "tokens": len(encode(label, p.reference)),
            "characters": len(p.reference),
        }
        for label in tokenizers
        for p in seed_set
    ]
)
english = counts[counts.lang == "en"].set_index(["tokenizer", "id"])["tokens"]
counts["relative"] = (
    counts.tokens
    / english.loc[list(zip(counts.tokenizer, counts.id, strict=True))].to_numpy()
)
counts["per_character"] = counts.tokens / counts.characters
counts.groupby(["lang", "tokenizer"])["tokens"].mean().unstack().loc[
    run.languages
].round(0)

# %%
rows = []
others = counts[counts.lang != "en"].assign(lang="all")
for (label, lang), some in pd.concat([counts, others]).groupby(
    ["tokenizer", "lang"], sort=False
):
    row = {"tokenizer": label, "lang": lang}
    for column in ("relative", "per_character"):
        e = stats.clustered_mean(list(some[column]), list(some.id), seed=seed)
        row |= {column: e.value, f"{column}_lo": e.lo, f"{column}_hi": e.hi}
    rows.append(row | {"n": len(some)})
fertility = run.table("fertility", pd.DataFrame(rows))
for row in fertility[fertility.lang != "en"].to_dict("records"):
    name = "fertility" if row["tokenizer"] == "Gemma 3" else "fertility_smollm2"
    name += "" if row["lang"] == "all" else f"[{row['lang']}]"
    run.metric(
        name, row["relative"], row["relative_lo"], row["relative_hi"], n=row["n"]
    )
fertility.round(2)

# %% [markdown]
# ```{runtable} 02_languages_and_tokenizers-cpu fertility
# ```
#
# Compare the two ways of counting. With Gemma's tokenizer, Chinese looks like the most expensive language of all per character; relative to English it is the cheapest,
# because a Chinese text has so few characters. The figure at the end of the chapter shows the tokens relative to English.
#
# Three things follow for preference training.
#
# - **Cost.** A language with twice the tokens takes twice as long to sample and to train on. A budget in tokens buys less of it.
# - **Sums over tokens.** {term}`DPO` and {term}`RLOO` add up log-probabilities over the tokens of an answer, and {term}`KL divergence` is such a sum too.
#   The same {term}`beta` need not hold the same answer equally tight in two languages. Likewise {term}`perplexity`, which is *per token*, says nothing
#   across languages or tokenizers; later chapters count bits per character, and compare them within a language only.
# - **Limits.** This is the worst one, because it is silent.
#
# ## What a limit cuts
#
# Samplers and trainers have a limit in tokens. An answer that needs more is cut: {term}`truncation`. The limit is the same for all languages, what fits
# into it is not. If answers in Hindi are cut and answers in English are not, the reward model learns that Hindi answers end in the middle, training
# rewards brevity in Hindi alone, and the judge sees a bad ending. On a page of win rates this looks just like "the method works less well in Hindi".
#
# An answer needs one token more than its text has, the end of turn. The share of references that `max_tokens` would cut is a proportion and may be zero,
# where resampling would give an interval of no width; so it gets Wilson's interval, with each prompt of a language as one draw. For all languages together
# the question is how many *prompts* lose an answer somewhere: on such a prompt the languages no longer compete on equal terms.


# %%
def share(hits: pd.Series) -> dict[str, float]:
    """A share with its Wilson interval."""
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return {
        "share": hits.mean(),
        "lo": interval.low,
        "hi": interval.high,
        "n": len(hits),
    }


counts["cut"] = counts.tokens + 1 > max_tokens
rows = []
for (label, lang), some in counts.groupby(["tokenizer", "lang"], sort=False):
    rows.append({"tokenizer": label, "lang": lang, **share(some.cut)})
rows += [
    {"tokenizer": label, "lang": "any", **share(some.groupby("id").cut.any())}
    for label, some in counts.groupby("tokenizer")
]
cut = run.table("cut", pd.DataFrame(rows))
for row in cut[cut.tokenizer == "Gemma 3"].itertuples():
    name = "cut_anywhere" if row.lang == "any" else f"cut_share[{row.lang}]"
    run.metric(name, row.share, row.lo, row.hi, n=row.n)
cut.set_index(["lang", "tokenizer"]).unstack().loc[[*run.languages, "any"]].round(3)

# %% [markdown]
# ```{runtable} 02_languages_and_tokenizers-cpu cut
# ```
#
# ## By script
#
# Is it the language or its way of writing? Grouped by script, with intervals over prompts:

# %%
by_script = counts[counts.lang != "en"].assign(
    script=lambda t: t.lang.map(
        {c: one.script for c, one in languages.LANGUAGES.items()}
    )
)
rows = []
for (label, script), some in by_script.groupby(["tokenizer", "script"], sort=False):
    tokens = stats.clustered_mean(list(some.relative), list(some.id), seed=seed)
    lost = stats.clustered_share(list(some.cut.astype(float)), list(some.id))
    rows.append(
        {
            "tokenizer": label,
            "script": script,
            "languages": some.lang.nunique(),
            "relative": tokens.value,
            "relative_lo": tokens.lo,
            "relative_hi": tokens.hi,
            "cut": lost.value,
            "cut_lo": lost.lo,
            "cut_hi": lost.hi,
        }
    )
scripts = run.table("scripts", pd.DataFrame(rows))
scripts.set_index(["script", "tokenizer"]).round(2)

# %% [markdown]
# ```{runtable} 02_languages_and_tokenizers-cpu scripts
# :caption: Tokens relative to English and share of references cut by the limit, by script; 95 % intervals over prompts
# ```
#
# With Gemma's tokenizer scripts differ more among themselves than the languages of Latin script do, but script does not decide alone: Chinese and Japanese are cheaper
# than most of the Latin ones. With SmolLM2's, script matters most, though not alone: Vietnamese, in Latin letters full of accents, costs as much as Russian. What is not
# Latin falls into single letters, or pieces of them.
#
# These references are short on purpose, one or two sentences, so that with Gemma's tokenizer the default limit is about enough. Whoever lowers it, or lets
# a model write longer, meets the bias at once: try `mlpo run 02 -p max_tokens=24,48,72`. Answers that models write are marked when they are cut, from
# chapter 04 on.
#
# ## Which language is this?
#
# Prompts are translated by a machine and answers written by one, and both may come out in the wrong language. {term}`Language identification` looks at
# which short byte sequences a text contains. The book's identifier, `py3langid`, is restricted to the 23 languages. How often does it name the right one on
# the references, whole and cut to their first 20 characters? Two warnings beforehand. Rows enter the seed set only if this very identifier agrees with
# their label, so the result for whole texts flatters it; the short cuts are the fairer test. And Wilson's interval counts each text as a draw of its own,
# so it errs on the narrow side.

# %%
rows = []
for name, length in (("identified", None), ("identified_20", 20)):
    found = languages.identify([p.reference[:length] for p in seed_set])
    right = pd.Series(
        [guess == p.lang for guess, p in zip(found, seed_set, strict=True)]
    )
    row = share(right)
    run.metric(name, row["share"], row["lo"], row["hi"], n=row["n"])
    rows.append(
        {"text": "whole" if length is None else f"first {length} characters", **row}
    )
pd.DataFrame(rows).set_index("text").round(3)

# %% [markdown]
# That is not the whole truth, for every text *was* in one of the 23. The identifier works on a closed set: it must name one of them, whatever it is given.
# So the book also asks for the script: at least half of the letters must belong to the script of the language named. Below are texts in Swahili and
# Georgian, which are not in the set, one in no language at all, and a line of code.

# %%
strangers = {
    "Swahili": "Kesho asubuhi watoto watacheza mpira karibu na mto.",
    "Georgian": "დილით ბავშვები მდინარესთან თამაშობენ.",
    "invented": "Blorp zug nimfa tork, ganu pell.",
    "code": "for i in range(10): print(i)",
}
rows = []
for kind, text in strangers.items():
    guess = languages.identify([text])[0]
    in_script = languages.script_share(text, guess)
    rows.append(
        {
            "it is": kind,
            "named": guess,
            "letters in its script": in_script,
            "passes": languages.is_in(text, guess),
        }
    )
pd.DataFrame(rows).set_index("it is")

# %% [markdown]
# The script check turns Georgian away. It can do nothing about Swahili, which is written in Latin letters like the language it is taken for, nor about
# invented words or code. "Identified as Indonesian" therefore means "more like Indonesian than like the 22 others". For a model that answers in one of the 23
# languages or falls back on English, which is what goes wrong in practice, that is enough; for anything else look at the texts.
#
# ## Exercise
#
# **Goal.** Someone who works in English sets a limit at which no more than one English reference in twenty is cut. What does that limit do to the other
# languages, under each of the two tokenizers? Give shares with intervals.

# %% tags=["solution", "hide-input"]
rows = []
for label, some in counts.groupby("tokenizer", sort=False):
    needed = some[some.lang == "en"].tokens + 1
    limit = int(needed.quantile(0.95, interpolation="higher"))
    for lang, texts in some.groupby("lang", sort=False):
        rows.append(
            {
                "tokenizer": label,
                "limit": limit,
                "lang": lang,
                **share(texts.tokens + 1 > limit),
            }
        )
run.table("english_limit", pd.DataFrame(rows))
pd.DataFrame(rows).set_index(["tokenizer", "limit", "lang"]).round(2)

# %% [markdown]
# A limit that looks generous in English cuts many answers elsewhere even with the tokenizer that was made for many languages, though on average these need
# only a third more tokens: answers to such prompts are of similar length, so a small shift pushes most of them over the edge. With the English-made tokenizer
# nearly nothing survives. So a limit has to be looked at in every language. And SmolLM2 only ever writes English in this book; its answers are translated
# afterwards.
#
# ## The result

# %%
_ = run.save()
# %% [markdown]
# Tokens for the same content, relative to English under the same tokenizer, with 95 % intervals over prompts. The dashed line is English.
#
# Recorded, over the 22 languages beside English: {num}`1.402 [1.382, 1.420], n = 3960 <02_languages_and_tokenizers-cpu/fertility>` times as many tokens with Gemma's tokenizer,
# {num}`3.076 [3.031, 3.119], n = 3960 <02_languages_and_tokenizers-cpu/fertility_smollm2>` times with SmolLM2's.
#
# ```{runfigure} fertility 02_languages_and_tokenizers-cpu
# ```

# %%
plots.fertility([run.id])

# %% [markdown]
# ## Summary
#
# - Fertility is a property of tokenizer *and* language. With a tokenizer made for many languages the differences are moderate; with one made for English
#   they are large, most of all where letters or accents are not those of English.
# - Compare languages on parallel text. Characters and words are no common currency.
# - One limit in tokens is many limits in content, and a moderate difference is enough to make it cut. Count what it cuts, by language.
# - Identification on a closed set cannot say "none of these"; a check of the script catches part of what it misses.
#
# **What's next.** Chapter 03 takes English prompts and translates them into the other languages.
