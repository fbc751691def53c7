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
# - clean a list of prompts of your own and say what was left out;
# - make a small language model translate: by example, by training, and by choosing among its own attempts;
# - say how good a translation is with {term}`chrF`, and where that number misleads;
# - reject a translation that cannot be used, with the reason, and try again.
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
# made from the small model that its policies descend from: the {term}`pretrained` Gemma 3 270M. Its translations are poor.
# That is not only a weakness: what translated text does to preference data is one of the questions of this book (O2 in chapter 01), and here you
# can see such text.

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; where random numbers start

# %%
import pandas as pd

from mlpo import chapters, models, plots
from mlpo.data import prompts, sources, translate
from mlpo.display import show_texts
from mlpo.evaluate import stats
from mlpo.records import Prompt, Text

run = chapters.start("03_prompts_and_translation", profile=profile, seed=seed)
budget = run.profile.budget
targets = [lang for lang in run.languages if lang != "en"]

# %% [markdown]
# ## The seed set
#
# The seed set holds prompts and a short answer to each, its {term}`reference`, and short articles with a summary, in parallel: the same request under the
# same id in all 23 languages. A large language model wrote it for this project: English first, then each language from the English as a writer
# would, not sentence by sentence. A second one read every row again. Traces of English remain (the set's card counts them), and no native speaker has checked it yet.
#
# Each id belongs to one split for good. `sft` teaches {term}`base` (and the translator of this chapter), `rm` the {term}`reward model`, `pref` makes
# {term}`preference pairs <preference pair>`, `dev` is what every choice in this book may look at, and `test` stays unread until a plan says what
# will be done with it. A sixth split, `pool`, exists in English alone: those are the prompts that the machine translates.

# %%
counts = pd.DataFrame(
    [
        {
            "split": split,
            "prompts": len(prompts.seed_prompts(split, "en")),
            "articles": len(prompts.seed_prompts(split, "en", "summarize")),
        }
        for split in ("sft", "rm", "pref", "dev", "pool")
    ]
).set_index("split")
counts

# %%
one = prompts.seed_prompts("dev", "en")[0].id
shown = ("en", "tr", "el", "he", "hi", "ja", "ko", "zh")
rows = [
    p
    for lang in run.languages
    if lang in shown
    for p in prompts.seed_prompts("dev", lang)
    if p.id == one
]
show_texts(
    pd.DataFrame(
        [{"lang": p.lang, "text": p.text, "reference": p.reference} for p in rows]
    )
)

# %% [markdown]
# ## Your own prompts
#
# Prompts of your own come as JSONL, CSV or Parquet; two columns, `id` and `text`, are enough: `mlpo data translate --prompts mine.csv`. The well-known
# sets of the model hub have names (`aya`, `wildchat` and others). Prompts from the wild need cleaning first. The filter below is a crude one: it drops
# what is too short or too long, what is not English, and what says the same as an earlier prompt. It counts what it drops.

# %%
wild = [
    "Why do cats purr?",
    "why do cats purr??",
    "ok",
    "Warum schnurren Katzen eigentlich, wenn man sie streichelt?",
    "Write a story. " * 100,
]
kept, left_out = prompts.clean(
    [Prompt(str(i), "en", "pool", "open", "", text) for i, text in enumerate(wild)]
)
print([p.text for p in kept], left_out)

# %% [markdown]
# ## Translation by example
#
# A pretrained language model was never told to translate. But a text in which English lines alternate with Turkish lines is
# most plausibly continued with a Turkish line that means the same. So we write the beginning of such a text with pairs of the
# `sft` split, the *shots* ({term}`few-shot`), put the prompt at its end and let the model continue until the line is over.

# %%
other = "tr" if "tr" in targets else targets[0]
print(translate.shots("en", other, prompts=4, references=2)[-420:])

# %%
few_shot = translate.FewShotTranslator(models.load("pretrained"))
sentence = prompts.seed_prompts("dev", "en")[0]
by_example = few_shot.translate([Text(sentence.id, sentence.text)], "en", other)[0]
show_texts(
    pd.DataFrame(
        [{"lang": other, "source": sentence.text, "by example": by_example.text}]
    )
)
del few_shot

# %% [markdown]
# The shots are the same for every prompt of a language, so the model reads them once for a whole {term}`batch` and keeps what it computed (the
# key-value cache). Still it carries several hundred {term}`tokens <token>` of examples through every step, and at each it takes the likeliest next token
# ({term}`temperature` 0). In languages that it knows badly it falls into loops.
#
# ## Translation by training, and the noisy channel
#
# The `sft` split is parallel text. The book's own translator is the same model with a small {term}`adapter` trained on it, prompts both ways, answers
# out of English only: 4,400 requests, of which it saw somewhat more than half, of the form "Translate into Turkish: ...". No examples are carried along any more.
#
# One more old idea helps, the {term}`noisy channel`. A good translation is one from which the source can be recovered. So we let the model write several candidates, drop those with a visible
# flaw, translate each *back* in its head, and keep the one that makes the English source most likely:
#
# $$\hat y = \arg\max_{y \in \text{candidates}} \log p(x \mid y)$$
#
# Loops, omissions and inventions make the source unlikely. Here are the candidates for one sentence, with that score.

# %%
from mlpo.profiles import Sampling
from mlpo.sample import chat, log_likelihood, sample

translator = translate.make(run.profile.models.translator, run.profile.server)
loaded = getattr(translator, "loaded", None) or models.load("pretrained")
asked = chat(loaded.tokenizer, translate.request(sentence.text, other))
candidates = sample(loaded, [asked], Sampling(temperature=0, max_new_tokens=64), [0])
candidates += sample(
    loaded,
    [asked] * 3,
    Sampling(temperature=0.5, top_p=0.9, max_new_tokens=64),
    [1, 2, 3],
)
back = [chat(loaded.tokenizer, translate.request(row.text, "en")) for row in candidates]
score = log_likelihood(loaded, [sentence.text] * len(candidates), back)
show_texts(
    pd.DataFrame(
        {
            "lang": other,
            "candidate": [row.text for row in candidates],
            "log p(source | candidate)": [f"{value:.1f}" for value in score],
        }
    )
)

# %% [markdown]
# Was it worth it? All three ways translated ten `dev` prompts into all languages, once, in a recorded run on one thread. **chrF** counts how many runs of
# one to six characters a translation shares with the language's own text, from 0 to 100. It needs no word boundaries, so it works for
# Chinese, and a word with another ending still earns part of its marks, which helps with Turkish. It does not know meaning: a good translation in
# other words scores low. And values of two languages cannot be compared.
#
# - By example: {num}`26.1 chrF [23.1, 28.9], n = 220 <translator/chrf_few_shot>`, a share of {num}`0.032 [0.000, 0.082], n = 220 <translator/rejected_few_shot>` rejected in three tries, in {num}`657 s, n = 220 <translator/seconds_few_shot>`.
# - Trained, greedy (the likeliest token each time): {num}`29.8 chrF [25.5, 34.5], n = 220 <translator/chrf_tuned_greedy>`, {num}`0.00 [0.00, 0.28], n = 220 <translator/rejected_tuned_greedy>` rejected, in {num}`370 s, n = 220 <translator/seconds_tuned_greedy>`.
# - Trained, best of four: {num}`31.2 chrF [26.1, 37.0], n = 220 <translator/chrf_tuned>`, {num}`0.00 [0.00, 0.28], n = 220 <translator/rejected_tuned>` rejected, in {num}`887 s, n = 220 <translator/seconds_tuned>`.
#
# Text by text, training gains {num}`3.8 chrF [1.4, 6.2], n = 220 <translator/gain_tuned_greedy_over_few_shot>` over the examples, and choosing among four another
# {num}`1.4 chrF [0.3, 2.8], n = 220 <translator/gain_tuned_over_tuned_greedy>`, at more than twice the time.
#
# ```{runfigure} translators translator
# ```

# %%
plots.translators(["translator"], "recorded")

# %% [markdown]
# ## How good is it?
#
# Now this build's own translations. The `dev` prompts exist in every language, none of them made by this translator. For a sense of scale we also score the
# laziest translator, the one that returns the English. A second measure needs no text in the language at all: translate the translation back and
# compare with the English: {term}`round-trip chrF`. It flatters a translator that errs the same way in both directions, and blames the translation for
# faults of the way back.

# %%
english = prompts.seed_prompts("dev", "en")[: budget.translation_prompts]
own = [p for lang in targets for p in prompts.seed_prompts("dev", lang)[: len(english)]]
dev = translate.measure(
    run.store, translator, english, own, budget.block, round_trip=True
)
run.table("dev", dev)
for lang, some in [*dev.groupby("lang", sort=False), (None, dev)]:
    label = f"[{lang}]" if lang else ""
    for name in ("chrf", "chrf_copy", "round_trip"):
        e = stats.clustered_mean(
            list(some[name].dropna()), list(some.dropna(subset=name).id)
        )
        run.estimate(f"{name}{label}", e, unit="chrF")

# %% [markdown]
# **{term}`BLEU`**, the older measure, counts runs of words of a whole set of texts, so a single prompt has no score of its own. Languages that do not separate
# words are cut into characters first.

# %%
from sacrebleu.metrics import BLEU

rows = []
for lang, some in dev.groupby("lang", sort=False):
    cut = {"zh": "zh", "ja": "char", "ko": "char"}.get(lang, "13a")
    bleu = BLEU(tokenize=cut, effective_order=True)
    score = bleu.corpus_score(list(some.translation), [list(some.reference)]).score
    rows.append(
        {
            "lang": lang,
            "chrF": some.chrf.mean(),
            "chrF of copying": some.chrf_copy.mean(),
            "BLEU": score,
            "round trip": some.round_trip.mean(),
            "in the language": some.in_language.mean(),
            "length": some.length_ratio.mean(),
            "copied": some.copied.mean(),
            "repetition": some.repetition.mean(),
            "rejected": (some.rejected != "").mean(),
            "tries": some.tries.mean(),
        }
    )
quality = run.table("quality", pd.DataFrame(rows))
quality.set_index("lang").round(2)

# %% [markdown]
# ```{runtable} 03_prompts_and_translation-cpu quality
# :caption: Translation quality by language on dev prompts. Length is relative to the language's own text; copied is the share of words of four letters or more taken over from the English (of no use where words are not separated); repetition the share of word triples that came before
# ```
#
# Look at the texts before you believe the numbers. Beside each stands what the same translator makes of it on the way back. Beware: that way is the
# weaker half. It falls back on prompts that it has learned by heart (rice whose grains stay separate), so what is missing may have been lost on either way.

# %%
some = dev[dev.lang.isin(shown)].groupby("lang", sort=False).head(1)
show_texts(some[["lang", "source", "translation", "back-translation", "reference"]])

# %% [markdown]
# ## Which translations may stay
#
# A prompt in the wrong language teaches the wrong language. Every translation is checked: it must not be empty or cut by the limit, not be copied from the
# English, be in the target's script and identified as the target ({term}`language identification`), not repeat itself, and be neither far shorter nor far
# longer than usual in that language. One that fails is tried again with other random numbers, up to three times; what still fails is kept with its
# reason and not used. What these checks cannot see is whether a translation still says what its source said.

# %%
for text in ("", "Why do cats purr?", "Warum schnurren " + "die Katzen und " * 9):
    print(repr(text[:40]), "->", translate.flaw("Why do cats purr?", text, "de"))

# %%
pool, left_out = sources.english(run.profile.prompts, budget.translation_prompts)
pool_rows = [
    {"id": p.id, "lang": "en", "source": p.text, "text": p.text, "rejected": ""}
    for p in pool
]
wanted = [(p, lang) for lang in targets for p in pool]
done = translate.run(
    run.store, translator, [(p.text, "en", lang) for p, lang in wanted], budget.block
)
pool_rows += [
    {
        "id": p.id,
        "lang": lang,
        "source": p.text,
        "text": made.text,
        "rejected": made.rejected,
    }
    for (p, lang), made in zip(wanted, done, strict=True)
]
table = pd.DataFrame(pool_rows)
table["kept"] = table.rejected == ""
run.table("prompts", table)
carried = table[table.lang != "en"]
run.estimate("kept_share", stats.clustered_share(list(carried.kept), list(carried.id)))
carried.rejected.replace("", "kept").value_counts()

# %%
_ = run.save()

# %% [markdown]
# ## The result
#
# chrF by target language, each with its {term}`interval` over prompts. The same small model translates into every language.
#
# Recorded on three prompts in 22 languages, which is few, so that bounds may even leave the scale (the figure above, with ten prompts, is the better one): {num}`29 chrF [17, 44], n = 66 <03_prompts_and_translation-cpu/chrf>`; copying the English, which scores well in
# Latin script and nothing elsewhere, gives {num}`7.2 chrF [6.0, 8.3], n = 66 <03_prompts_and_translation-cpu/chrf_copy>`;
# the round trip {num}`27 chrF [1, 51], n = 66 <03_prompts_and_translation-cpu/round_trip>`.
# Of the pool's translations a share of {num}`0.985 [0.903, 1.000], n = 66 <03_prompts_and_translation-cpu/kept_share>` passed the checks.
# To be in the right language is not yet to be right.
#
# ```{runfigure} chrf 03_prompts_and_translation-cpu
# ```

# %%
plots.chrf([run.id])

# %% [markdown]
# ## Exercise
#
# **Goal.** Does the round trip tell what chrF tells? Compute the rank correlation between the two over all `dev` translations, then within each language,
# and say which of the two numbers you would trust where you have no text in the language.

# %% tags=["solution", "hide-input"]
both = dev.dropna(subset="round_trip")
overall = both.chrf.corr(both.round_trip, method="spearman")
within = (
    both.groupby("lang", sort=False)[["chrf", "round_trip"]]
    .apply(lambda g: g.chrf.corr(g.round_trip, method="spearman"))
    .dropna()
)
print(f"over all: {overall:.2f}; within a language, median: {within.median():.2f}")

# %% [markdown]
# A correlation over all languages mixes two things: languages that the model knows well do better in both measures. Within a language only the sentences
# differ, and with a handful of prompts a correlation there is mostly noise. The round trip is a hint where nothing better exists.
#
# ## Summary
#
# - Prompts belong to a split for good; `pool` is what the machine translates.
# - A pretrained model translates when it is shown translations, better when it is trained on some, and better still when it chooses among its own attempts by
#   what they say when translated back.
# - chrF says how alike two texts look. Read samples beside it.
# - Every row is checked, tried again, and kept with its reason when it fails.
#
# **What's next.** Chapter 04 turns to answers: a strong writer's in each language, and a weak model's in English, which are then
# translated as above. The translated prompts come back in chapter 08.
