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
# # Start here
#
# **You will be able to**
#
# - say what this book does, and which chapter does which part of it;
# - tell a recorded result from one of your own, and find the run behind any number;
# - run a chapter with other parameters, on another scale, or on a graphics card;
# - read one prompt and its answer in every language of your profile.
#
# **Before this chapter**
#
# - Python, and an idea of what a language model and a token are;
# - the book set up by `make book` or `make setup`. To read along, nothing at all.
#
# ## Overview
#
# In 2024 a paper called *RLHF Can Speak Many Languages* ({cite:t}`dang2024rlhf`) asked whether chat models can learn from preferences in many languages
# at once. Its data, its code and its trained models were not released. This book rebuilds the study from an empty folder, in notebooks that you can run.
# It makes its own preference data, trains a small model on them in two ways, and measures how often the trained model beats the one it started from, for
# each language and with an interval. Then it says, claim by claim, what held, what did not, and what could not be settled with the means at hand.
#
# ## The line
#
# Every chapter takes what an earlier one made and hands on something new.
#
# ```text
#   prompts, in English                                            chapter 03
#       |
#       |   translation
#       v
#   the same prompts in every language                             chapter 03
#       |
#       |   two writers: a strong native one, a weak translated one
#       v
#   completions                                                    chapter 04
#       |
#       |   a reward model gives each answer a number              chapter 05
#       v
#   preference pairs, in mixtures of languages                     chapter 06
#       |                                |
#       |  learn from the pairs          |  write, get a reward, learn
#       v                                v
#     DPO   chapter 07                 RLOO   chapter 08
#       |                                |
#       +---------------+----------------+
#                       |   a judge compares with the untouched model
#                       v
#   win rates                                                      chapter 10
# ```
#
# Chapter 01 says what the paper claims and how well each statement about it is known. Chapter 02 looks at the languages, and at how unequally a tokenizer
# treats them. The word at the end of the line, {term}`win rate`, and others such as {term}`reward model`, {term}`mixture` or {term}`judge`, are in the
# glossary. On the pages of the book a click on such a word leads there.
#
# ## How to read a page
#
# | you see | it means |
# |---|---|
# | **recorded** | the result comes from a run that was kept with the book, in the folder `results/`; it is the same for every reader |
# | **this build** | the result was computed on the machine that built these pages: yours, if you built them |
# | a shaded number such as "0.54 [0.48, 0.60], n = 230" (an invented example) | a value, its 95 % {term}`interval`, and how many cases it was counted over; hover over it to see its {term}`run` |
# | a dashed box, *Not run yet* | no recorded run exists; the box names the command that makes one |
# | the box at the top | time and memory, as measured, and the chapter's parameters |
# | the box at the foot | {term}`provenance`: run, date, inputs, seed, versions |
# | *Show solution* | the answer to an exercise; it ran with the chapter, so it works |
#
# Recorded figures do not change when you run a chapter. Yours appear beside them. Under the same profile the two should agree as far as their intervals
# allow; if they do not, the page helps to find out why: the {term}`manifest` of a run holds its parameters, inputs and versions.
#
# One habit of the book may be new to you. No result in its text was typed in by hand: a program looks each one up in a run, and the book is not built
# when the two differ.
#
# ## How to run a chapter
#
# A chapter is a notebook with parameters. From a terminal, in the folder of the book:
#
# ```console
# $ source .venv/bin/activate
# $ mlpo run 07 --profile smoke                  # three languages, a few prompts: does it run at all?
# $ mlpo run 07                                  # the profile `cpu`, on recorded inputs
# $ mlpo run 07 --profile smoke -p beta=0.3      # with another value of a parameter
# $ mlpo run 07 -p beta=0.03,0.1,0.3             # with several: gives a table and a figure
# $ mlpo run 07 --upstream                       # first make its inputs anew, chapter by chapter
# ```
#
# A parameter that a chapter does not have, or a value that makes no sense, is refused with a list of what is valid. A second call with nothing changed
# runs nothing. You can also open a chapter in JupyterLab (`make lab`), change the cell of parameters and run the cells one by one. That cell looks like
# this:

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; picks the prompt that is shown

# %% [markdown]
# After it each chapter announces itself. `run` knows the chosen profile and its languages, and collects what the chapter measures.

# %%
import random

import pandas as pd

from mlpo import chapters, languages, profiles
from mlpo.data import prompts
from mlpo.display import show_texts
from mlpo.evaluate import stats

run = chapters.start("00_start_here", profile=profile, seed=seed)

# %% [markdown]
# ## Profiles
#
# A {term}`profile` decides how large a run is and which models it uses. The code is the same under each. The table is made from the profile files, so it
# says what really happens. *Languages with prompts* counts those for which the book's own set of prompts has been written so far.


# %%
def summary(name: str) -> dict[str, object]:
    """What a newcomer wants to know of a profile."""
    chosen = profiles.load(name)
    return {
        "profile": name,
        "languages": len(chosen.languages),
        "languages with prompts": sum(
            (prompts.SEED / f"{lang}.jsonl").exists() for lang in chosen.languages
        ),
        "model in training": chosen.models.base,
        "weak writer": chosen.models.weak,
        "translator": chosen.models.translator,
        "tokens per answer": chosen.sampling.max_new_tokens,
        "prompts judged per language": chosen.budget.eval_prompts,
        "pairs to train on": chosen.budget.train_pairs,
    }


table = pd.DataFrame([summary(name) for name in profiles.NAMES])
run.table("profiles", table)
table.set_index("profile").T

# %% [markdown]
# ```{runtable} 00_start_here-cpu profiles
# ```
#
# - `smoke` proves that everything runs. Its numbers mean nothing.
# - `cpu` needs no graphics card and nothing from the network but Python packages: the models travel in packages. It is meant for a first run and for
#   teaching.
# - `laptop`, `gpu` and `paper` name models on a hub. They describe where the line is going. The project's own tests cannot reach a hub and do not run
#   them, and parts of them are still missing, among them NLLB, the translator of the paper's sibling: today they translate few-shot like
#   the small ones. Where a file or a prompt is missing, the error says which.
#
# A profile of your own is a file of a few lines. What it does not say comes from the profile that it extends:
#
# ```yaml
# # mine.yaml
# extends: cpu
# languages: [en, de, hi]
# budget: {eval_prompts: 12}
# ```
#
# ```console
# $ mlpo run 07 --profile mine.yaml
# ```
#
# ## On a graphics card
#
# Where PyTorch finds an NVIDIA card, the language models are put on it, in 16 bits instead of 32, whatever the profile. `mlpo doctor` says what your
# machine computes on. The project's tests run without a card. With one you can afford more:
#
# ```console
# $ mlpo doctor
# $ mlpo run 07 -p four_bit=true                 # QLoRA: an adapter on top of 4-bit weights
# $ mlpo run 07 --profile mine.yaml --upstream   # after setting models.base in mine.yaml
# ```
#
# `models.base` may be a folder that holds a model, or the name of one on the hub; larger models want a larger `sampling.max_new_tokens` and larger numbers
# under `budget` as well. `--upstream` is needed then, because the recorded inputs were made for the book's own small model. Some models ask you to accept
# their terms on the hub first and to set `HF_TOKEN`.
#
# ## A first look at the data
#
# Enough said. Here are the languages of your profile, and all prompts that the book has for training and for choosing, each with an answer that was
# written along with it, the {term}`reference`. They come from the {term}`seed set`. One {term}`split`, `test`, stays closed: nobody looks at it, and no
# program reads it, until a plan says what it will be used for.

# %%
OPEN = ("sft", "rm", "pref", "dev")
shelf = {
    lang: {p.id: p for split in OPEN for p in prompts.seed_prompts(split, lang)}
    for lang in run.languages
}
ids = sorted(shelf["en"])
run.metric("languages", len(run.languages), n=len(run.languages))
run.metric("prompts", len(ids), n=sum(map(len, shelf.values())))
print(f"{len(ids)} prompts in {len(run.languages)} languages: ", end="")
print(", ".join(f"{lang} {languages.get(lang).name}" for lang in run.languages))

# %% [markdown]
# One of them in every language. The request is the same each time; nobody translated it word by word. Change `seed` to see another.

# %%
one = random.Random(seed).choice(ids)
example = pd.DataFrame(
    [
        {"lang": lang, "text": p[one].text, "reference": p[one].reference}
        for lang, p in shelf.items()
    ]
)
run.table("example", example)
show_texts(example)

# %% [markdown]
# ```{runtable} 00_start_here-cpu example
# ```
#
# Look at two things. Some languages run from right to left; the table has to be told so for each cell, or the full stop ends up on the wrong side. And the
# same content takes a very different number of characters. Whether it also takes a different number of {term}`tokens <token>`, which is what time, memory
# and money are counted in, is the subject of chapter 02.
#
# ## Exercise
#
# **Goal.** Which language of your profile says the same with the fewest characters? Compare the length of each reference with the length of the English
# reference to the same prompt, and give the mean ratio by language with an interval over prompts. (`stats.clustered_mean(values, prompt_ids)` gives one.)

# %% tags=["solution", "hide-input"]
rows = []
for lang, texts in shelf.items():
    ratios = [len(texts[i].reference) / len(shelf["en"][i].reference) for i in ids]
    e = stats.clustered_mean(ratios, ids, seed=seed)
    rows.append(
        {
            "lang": lang,
            "characters, English = 1": e.value,
            "lo": e.lo,
            "hi": e.hi,
            "prompts": e.clusters,
        }
    )
pd.DataFrame(rows).sort_values("characters, English = 1").set_index("lang").round(2)

# %% [markdown]
# If Chinese is among your languages, it wins by far: one of its characters stands for a syllable with a meaning, not for a sound. So "characters" are no
# common currency between scripts, and words are none either, as Chinese is written without spaces.
#
# ## Summary
#
# - The line runs from prompts to win rates, one chapter a step.
# - *Recorded* is the book's run, *this build* is yours; each number carries its interval, its n and its run.
# - `mlpo run CHAPTER --profile NAME -p name=value` runs any chapter with other settings.
# - A chapter ends by saving its manifest, as the cell below does.
#
# **What's next.** Chapter 01: what the paper claims, how we know, and how much noise to expect.

# %%
_ = run.save()
