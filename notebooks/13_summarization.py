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
# # Summaries: the same question on another task
#
# **You will be able to**
#
# - compare models on summaries with a {term}`judge` and with ROUGE-L, and say what each is blind to;
# - count overlap fairly in languages that put no spaces between words, and in one that does but glues endings on;
# - put a baseline that reads nothing but the first sentence beside every model;
# - see from the answers themselves, without any judge, what a model does in which language.
#
# **Before this chapter**
#
# - chapter 10: paired differences, clustered intervals, the embedded judge.
#
# ## Overview
#
# The paper evaluates open-ended answers and summaries [S]. The `dev` split of the {term}`seed set` has ten short articles, parallel in all 23 languages, each with a summary of one
# sentence. Here {term}`base` and the {term}`pretrained` model summarize some of them, and so does a rule that copies the article's first sentence. The rule is the baseline to
# beat: articles tend to begin with what they are about.
#
# Policies trained on open-ended pairs join these rows in a later chapter, where the claim that gains hold for both tasks (C8) is tested. This one builds the
# instrument and sees what it shows before any preference training.

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; of the models' answers
articles: int = 2  # 1..10; of `dev`, in each language

# %%
import re

import pandas as pd
from rapidfuzz.distance import LCSseq

from mlpo import chapters, plots
from mlpo.data import prompts
from mlpo.display import show_texts
from mlpo.evaluate import match
from mlpo.records import Prompt

run = chapters.start("13_summarization", profile=profile, seed=seed, articles=articles)
asked = [
    p
    for lang in run.languages
    for p in prompts.seed_prompts("dev", lang, "summarize")[:articles]
]
shown = [p for p in asked if p.id == asked[0].id][:3]
show_texts(pd.DataFrame(shown)[["lang", "text", "reference"]])

# %% [markdown]
# The request stands in front of the article, in its language. The model sees both, as it would see any prompt.
#
# ## ROUGE-L by hand
#
# ROUGE-L asks how much of the two texts is the same, in the same order, with anything in between: the *longest common subsequence* of their words. Its length over that
# of the answer is a precision, over that of the reference a recall, and F1 is their harmonic mean.

# %%
reference = "the tide follows the moon"
answer = "the moon moves the tide"


def rouge_by_hand(answer, reference):
    """F1 of the longest common subsequence of words."""
    a, b = answer.split(), reference.split()
    length = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            same = length[i][j] + 1
            other = max(length[i][j + 1], length[i + 1][j])
            length[i + 1][j + 1] = same if x == y else other
    return 2 * length[-1][-1] / (len(a) + len(b))


by_hand = rouge_by_hand(answer, reference)
by_library = 2 * LCSseq.similarity(answer.split(), reference.split()) / 10
example = Prompt("x", "en", "dev", "summarize", "", "", reference)
assert by_hand == by_library == match.rouge_l(example, answer)
by_hand

# %% [markdown]
# It is blind to meaning: "the moon moves the tide" shares two words in order with its reference and says something else; a fair paraphrase may share none.
#
# ## What is a word?
#
# Chinese and Japanese write no spaces, so a sentence would be one word, and any two of them would share nothing. There the parts are characters. Korean does write
# spaces, but glues particles onto nouns, so the same noun in another role is another word. There the parts are syllables, which are Korean's characters. Below, a reference
# against itself with its first quarter gone:

# %%
rows = []
for p in (
    shown if len(run.languages) < 23 else [p for p in asked if p.id == asked[0].id]
):
    text = p.reference[len(p.reference) // 4 :]
    rows.append(
        {
            "lang": p.lang,
            "by spaces": rouge_by_hand(text, p.reference),
            "as the book counts": match.rouge_l(p, text),
        }
    )
pd.DataFrame(rows).set_index("lang").round(2).T

# %% [markdown]
# A score by characters is higher than one by words for the same loss, because characters recur. So values of different languages are not comparable, and the
# book never ranks languages by them. It compares models within a language.
#
# ## The rule that reads one sentence


# %%
def first_sentence(p):
    """The first sentence of an article, without the request in front of it."""
    article = p.text.split("\n\n", 1)[1]
    return re.split(r"(?<=[.!?।؟])\s|(?<=[。！？])", article)[0]


lead = pd.DataFrame(
    {
        "prompt_id": [p.id for p in asked],
        "lang": [p.lang for p in asked],
        "text": [first_sentence(p) for p in asked],
    }
)
lead.head(2)

# %% [markdown]
# ## The match
#
# One call draws the answers (stored, so that a rerun draws nothing), judges each against base's answer to the same article, and gives every number with its
# interval clustered by article. `base again` is base with other random numbers, the {term}`negative control`. From the command line the same is `mlpo evaluate --task summarize`.

# %%
judge = match.make_judge("embedded", run.store, run.profile)
result = match.run(
    [match.from_table("first sentence", lead, asked)],
    "base",
    asked,
    judge,
    run.store,
    run.profile,
    seed + 1,  # the answers that the tie margin was measured on
)
run.table("judgements", result.judgements)
for name, m in result.manifest.payload.items():
    run.metric(name, m.value, m.lo, m.hi, n=m.n)
_ = run.save()
pooled = result.summary[result.summary.lang == ""]
shown = ["win", "tie", "loss", "delta", "difference", "rouge"]
pooled.pivot(index="row", columns="metric", values="value")[shown].round(2)

# %% [markdown]
# Recorded, ROUGE-L against the reference: base {num}`0.15 [0.00, 0.37], n = 46 <13_summarization-cpu/rouge_base>`, pretrained
# {num}`0.09 [0.00, 0.19], n = 46 <13_summarization-cpu/rouge_pretrained>`, the first sentence {num}`0.18 [0.00, 0.54], n = 46 <13_summarization-cpu/rouge_first_sentence>`.
#
# The judge's score against base: pretrained {num}`−3.8 [−9.2, +1.6], n = 46 <13_summarization-cpu/difference_pretrained>`, the first sentence
# {num}`−0.2 [−4.8, +4.3], n = 46 <13_summarization-cpu/difference_first_sentence>`, base again {num}`−0.03 [−0.58, +0.53], n = 46 <13_summarization-cpu/difference_base_again>`.
#
# ```{runfigure} rouge 13_summarization-cpu
# ```

# %%
plots.rouge([run.id])

# %% [markdown]
# With so few articles an interval of one language says next to nothing, and the pooled one rests on as many draws as there are articles, not articles times languages.
#
# ```{runfigure} win_rates 13_summarization-cpu
# ```

# %%
plots.win_rates([run.id])

# %% [markdown]
# The judge measures nearness to the same references by meaning instead of by words, and fluency besides; its weights were fitted to open-ended answers. Whether it and
# ROUGE-L agree is the exercise. Neither checks facts: a summary that turns the article's claim round can stand high in both.
#
# ## What needs no judge
#
# Some faults can be counted: answers in another language, answers that the limit cut, loops. A model with a better score and more answers in the wrong language
# deserves suspicion before praise.

# %%
checked = result.summary[
    result.summary.metric.isin(["right_language", "cut", "repetition_loop"])
]
pooled = checked[checked.lang == ""]
print("\n".join(result.warnings) or "no language looks suspicious")
pooled.pivot(index="row", columns="metric", values="value").round(2)

# %% [markdown]
# ## Read some
#
# One article, base and the first sentence beside the reference:

# %%
some = result.judgements[result.judgements.prompt_id == asked[0].id]
some = some[some.row.isin(["base", "first sentence"])]
references = {(p.id, p.lang): p.reference for p in asked}
table = pd.DataFrame(
    {
        "lang": some.lang,
        "by": some.row,
        "text": some.text,
        "reference": [references[asked[0].id, lang] for lang in some.lang],
    }
)
show_texts(table.sort_values("lang", kind="stable").head(8))

# %% [markdown]
# ## Exercise
#
# **Goal.** Do the judge and ROUGE-L agree on which of two summaries of an article is better? For each row of the match but base's own, take the judge's difference and the
# difference of ROUGE-L against base, and their rank correlation.

# %% tags=["solution", "hide-input"]
from mlpo.evaluate import stats

by_key = {(p.id, p.lang): p for p in asked}
own = result.judgements[result.judgements.row != "base"]
gain = [
    match.rouge_l(by_key[r.prompt_id, r.lang], r.text)
    - match.rouge_l(by_key[r.prompt_id, r.lang], r.base_text)
    for r in own.itertuples()
]
stats.rank_correlation(list(own.difference), gain, list(own.prompt_id))

# %% [markdown]
# ## Summary
#
# - ROUGE-L counts words in common, the embedded judge measures nearness and form; both need a reference, neither checks facts.
# - What a word is depends on the language; scores are compared within a language.
# - The first sentence is the baseline.
# - Ten articles, or two, are ten or two draws, in however many languages.
#
# **What's next.** The chapters that are planned after this one vary how many languages and how much data a policy sees, and read both tasks.
