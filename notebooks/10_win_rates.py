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
#     inputs: ["07/answers", "08/answers"]
# ---

# %% [markdown]
# # Win rates that can be believed
#
# **You will be able to**
#
# - compare two models with a {term}`judge` and say what that judge can and cannot see;
# - report win, tie and loss ({term}`Win / Tie / Loss`), and a {term}`paired difference`, with intervals clustered by prompt ({term}`clustered interval`);
# - use a {term}`negative control`: the same model against itself;
# - say "inconclusive at this scale" and mean it.
#
# **Before this chapter**
#
# - chapter 01: why 200 prompts in 23 languages are not 4,600 independent judgements;
# - chapters 07 and 08: the two {term}`policies <policy>`.
#
# ## Overview
#
# The paper's results are {term}`win rates <win rate>` given by a large language model [S]. This book's small profiles have none at hand, so they use an
# *embedded judge*: a few measured features of an answer, combined with weights that were fitted on `dev` to pairs of known order. It is a {term}`proxy`. It
# does not look at the rewards of chapter 05, and must not, for a policy was trained against them. Yet the two are no strangers: both learned with the same
# kinds of spoiled answers, and the judge measures fluency with the model that {term}`base` was made of. So it is tested before its verdicts are shown.
#
# Everything here is measured on `dev`. The split `test` stays closed ({term}`split`).

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; of base's answers
inputs: str = "recorded"  # recorded | build; where the policies' answers come from

# %%
import numpy as np
import pandas as pd

from mlpo import MlpoError, chapters, models, plots
from mlpo.corruptions import KINDS, corrupt
from mlpo.data import complete, prompts
from mlpo.display import show_texts
from mlpo.evaluate import judge, stats

run = chapters.start("10_win_rates", profile=profile, seed=seed, inputs=inputs)
budget = run.profile.budget
dev = [
    p
    for lang in run.languages
    for p in prompts.seed_prompts("dev", lang)[: budget.eval_prompts]
]
by_key = {(p.id, p.lang): p for p in dev}
ids = [p.id for p in dev]

# %% [markdown]
# ## The judge
#
# Six features, each "higher is better": nearness to the {term}`reference` under a multilingual sentence {term}`encoder`; {term}`fluency`, the closeness of the
# text's bits per character, under the frozen {term}`pretrained` model, to the level of the references; little overlap with the prompt; little repetition; a
# proper ending; a length near the reference's. An answer that is not in the prompt's language has 5 points taken off its score, more than another fault usually
# costs. The score is in log-odds: on the pairs it was fitted to, a difference of 1 means odds of e to 1.

# %%
embedded = judge.EmbeddedJudge(
    run.store, models.load("pretrained"), dev, block=budget.block
)
pd.Series(
    dict(zip(judge.FEATURES, embedded.weights, strict=True)), name="weight"
).round(2)

# %% [markdown]
# ## Can it see what is worse?
#
# For a few `dev` prompts in each language the reference is set against itself spoiled ({term}`corruption`), as in chapter 05. A judge that cannot order these pairs cannot be
# trusted with finer differences. A judge that can has passed an easy test, and for two reasons: its weights were fitted to such pairs of the same split, and the
# better side *is* the reference by which it measures nearness and length. Between two answers of a model, neither of them the reference, it sees less.

# %%
checked = [p for p in dev if p.id in sorted(set(ids))[: budget.reward_prompts]]
reference_scores = dict(
    zip(
        [(p.id, p.lang) for p in checked],
        embedded.score(checked, [p.reference for p in checked]),
        strict=True,
    )
)
valid = []
for kind in KINDS:
    worse = embedded.score(checked, [corrupt(p, kind, by_key) for p in checked])
    valid += [
        {
            "kind": kind,
            "lang": p.lang,
            "prompt_id": p.id,
            "right": float(reference_scores[p.id, p.lang] > score),
        }
        for p, score in zip(checked, worse, strict=True)
    ]
validity = pd.DataFrame(valid)
run.table("validity", validity)
for by in ("kind", "lang"):
    for name, some in validity.groupby(by, sort=False):
        e = stats.clustered_share(list(some.right), list(some.prompt_id))
        run.estimate(f"validity[{name}]", e)
validity.pivot_table(index="kind", columns="lang", values="right", sort=False)[
    run.languages
].round(2)

# %% [markdown]
# ```{runfigure} judge_validity 10_win_rates-cpu
# ```
#
# ## The answers
#
# Base answers the same prompts twice. The first answer is what the policies are compared with. The second is the negative control, and shows how far two
# answers of the *same* model lie apart: the median size of these differences is the {term}`tie margin`. So about half of base's matches against itself are
# {term}`ties <tie>` by construction.

# %%
base = models.load(run.profile.models.base)
twice = complete.run(
    run.store,
    complete.LocalGenerator(base),
    dev,
    run.profile.sampling,
    role="policy",
    seed=seed + 1,
    samples=2,
    block=budget.block,
)
del base
answers = {
    "base": [c.text for c in twice[0::2]],
    "base again": [c.text for c in twice[1::2]],
}
for policy, source in (("dpo", "07/answers"), ("rloo", "08/answers")):
    given = run.input(source).set_index(["prompt_id", "lang"])["text"]
    if missing := [p.id for p in dev if (p.id, p.lang) not in given.index]:
        raise MlpoError(
            f"{source} has no answer to {missing[0]}: rebuild it (--upstream)."
        )
    answers[policy] = [given[p.id, p.lang] for p in dev]
scores = {name: np.array(embedded.score(dev, texts)) for name, texts in answers.items()}
margin = float(np.median(np.abs(scores["base again"] - scores["base"])))
run.metric("tie_margin", margin, n=len(dev), unit="log-odds")

# %% [markdown]
# ## Differences
#
# For each prompt and language: the policy's score minus base's. The same prompt recurs in every language and its answers share their luck, so the interval
# draws *prompts* anew, all their languages together (a {term}`bootstrap`).

# %%
rows = []
for name in ("dpo", "rloo", "base again"):
    difference = scores[name] - scores["base"]
    metric = name.replace(" ", "_")
    for lang in [None, *run.languages]:
        some = [i for i, p in enumerate(dev) if lang in (None, p.lang)]
        e = stats.clustered_mean(list(difference[some]), [ids[i] for i in some])
        run.estimate(
            f"difference_{metric}" + (f"[{lang}]" if lang else ""), e, unit="log-odds"
        )
    wins = stats.win_rate(list(difference), ids, margin)
    for part, e in vars(wins).items():
        run.estimate(f"{part}_{metric}", e)
    rows.append(
        {
            "against base": name,
            **{part: round(e.value, 2) for part, e in vars(wins).items()},
        }
    )
run.table(
    "judgements",
    pd.DataFrame(
        [
            {
                "policy": name,
                "prompt_id": p.id,
                "lang": p.lang,
                "text": text,
                "score": score,
            }
            for name, texts in answers.items()
            for p, text, score in zip(dev, texts, scores[name], strict=True)
        ]
    ),
)
pd.DataFrame(rows).set_index("against base")

# %%
_ = run.save()

# %% [markdown]
# ## The result
#
# Recorded, wins minus losses against base: DPO {num}`−0.15 [−0.24, −0.05], n = 184 <10_win_rates-cpu/delta_dpo>`; RLOO {num}`−0.10 [−0.17, −0.02], n = 184 <10_win_rates-cpu/delta_rloo>`; base against
# itself {num}`−0.07 [−0.17, +0.04], n = 184 <10_win_rates-cpu/delta_base_again>`.
#
# The paired difference of the judge's score, which is the book's primary outcome: DPO {num}`−0.13 log-odds [−0.21, −0.03], n = 184 <10_win_rates-cpu/difference_dpo>`;
# RLOO {num}`−0.02 log-odds [−0.09, +0.06], n = 184 <10_win_rates-cpu/difference_rloo>`; base against itself
# {num}`−0.06 log-odds [−0.13, +0.00], n = 184 <10_win_rates-cpu/difference_base_again>`.
#
# ```{runfigure} win_rates 10_win_rates-cpu
# ```

# %%
plots.win_rates([run.id])

# %% [markdown]
# The interval of *base again* should contain zero: it is the same model with other random numbers. (One 95 % interval in twenty misses the truth.) All rows are
# measured against the same answers of base: were these lucky, all rows would fall together, so read a policy's row beside that of base again and not alone. In the
# recorded run both policies lie a little below base, which a few minutes of training on a few pairs can well do: a policy may learn to be unlike its rejected
# answers without getting better. Where an interval contains zero, a
# difference has not been shown, and that is not the same as having shown that there is none.
# The next figure has an interval for each policy and language. Among so many, some miss zero by luck, and the figure does not correct for that.
#
# ```{runfigure} score_change 10_win_rates-cpu
# ```

# %%
plots.score_change([run.id])

# %% [markdown]
# ## Read some
#
# The prompts on which the judge saw the largest gain and the largest loss of the DPO policy. Would you agree?

# %%
gain = scores["dpo"] - scores["base"]
picked = [int(gain.argmax()), int(gain.argmin())]
show_texts(
    pd.DataFrame(
        [
            {
                "lang": dev[i].lang,
                "prompt": dev[i].text,
                "base": answers["base"][i],
                "dpo": answers["dpo"][i],
            }
            for i in picked
        ]
    )
)

# %% [markdown]
# ## Exercise
#
# **Goal.** What becomes of the interval if one forgets that prompts recur in every language? Say what you expect, then compute it with every comparison as its
# own cluster.

# %% tags=["solution", "hide-input"]
for name in ("dpo", "rloo"):
    difference = list(scores[name] - scores["base"])
    for how, clusters in (
        ("by prompt", ids),
        ("each alone", list(map(str, range(len(ids))))),
    ):
        e = stats.clustered_mean(difference, clusters)
        print(f"{name}, clustered {how}: {e.value:+.2f} [{e.lo:+.2f}, {e.hi:+.2f}]")

# %% [markdown]
# The expectation is a narrower interval: what recurs is counted as new. But the width of an interval is an estimate too, and with this few prompts it is a
# noisy one, so in a single run it can come out the other way round. That is why chapter 01 repeats the evaluation some hundred times.
#
# ## Summary
#
# - A judge is an instrument: show its validity before its verdicts.
# - Paired differences, clustered by prompt; ties by a margin fixed from base against itself.
# - The same model against itself is the row that keeps everyone honest.
#
# **What's next.** The chapters that are planned after this one ask the paper's questions with longer, recorded runs.
