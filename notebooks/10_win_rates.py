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
#     recorded: ["judges", "coverage"]
# ---

# %% [markdown]
# # Win rates that can be believed
#
# **You will be able to**
#
# - answer "is 54 % against 50 % anything?" before spending money on it;
# - compare two models with a {term}`judge` and say what that judge can and cannot see, in which language;
# - report win, tie and loss ({term}`Win / Tie / Loss`), and a {term}`paired difference`, with intervals clustered by prompt ({term}`clustered interval`);
# - use a {term}`negative control`: the same model against itself;
# - say "inconclusive at this scale" and mean it.
#
# **Before this chapter**
#
# - for the first part, nothing: it runs no model and stands alone in a workshop;
# - for the rest, chapters 07 and 08: the two {term}`policies <policy>`.
#
# ## Overview
#
# The paper's results are {term}`win rates <win rate>` given by a large language model [S], and they differ by a few points: 54.4 % here, 43.8 % there. The
# first part asks what such numbers are worth whoever gives them. The second part looks at the judge. The book's small profiles have no large model at hand, so
# they use an *embedded judge*: a few measured features of an answer, combined with weights that were fitted on `dev` to pairs of known order. It is a
# {term}`proxy`. The third part compares the two policies with base.
#
# Everything here is measured on `dev`. The split `test` stays closed ({term}`split`).

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; of base's answers, and of the simulations
inputs: str = "recorded"  # recorded | build; where the policies' answers come from

# %%
import numpy as np
import pandas as pd

from mlpo import MlpoError, chapters, plots
from mlpo.evaluate import stats

run = chapters.start("10_win_rates", profile=profile, seed=seed, inputs=inputs)
budget = run.profile.budget

# %% [markdown]
# ## Is 54 % against 50 % anything?
#
# Suppose two models are equally good. A judge compares their answers to 200 prompts, each a coin toss. How far from 50 % does the win rate stray by luck?

# %%
rng = np.random.default_rng(seed)
equal = rng.binomial(200, 0.5, size=100_000) / 200
share = float((abs(equal - 0.5) >= 0.04).mean())
print(f"two equal models are 4 points or more apart in {share:.0%} of evaluations")

# %% [markdown]
# So with 200 prompts in one language, 54 % is what luck alone gives in one evaluation out of four. Now add 22 languages. Are 23 × 200 = 4,600 comparisons twenty-three
# times as good? Only if the same prompt in another language were a new prompt. It is not: what one model knows about tides, it tends to know in all languages.
# Here is a simulated evaluation of equal models in which half of what decides a comparison belongs to the prompt.


# %%
def evaluate(prompts, languages, correlation, lead=0.0, rng=rng):
    """Wins (+1) and losses (-1) by prompt and language, and the prompt of each."""
    shared = rng.normal(size=(prompts, 1)) * np.sqrt(correlation)
    own = rng.normal(size=(prompts, languages)) * np.sqrt(1 - correlation)
    signs = np.sign(shared + own + lead).ravel()
    return signs, np.repeat(np.arange(prompts).astype(str), languages)


signs, ids = evaluate(200, 23, correlation=0.5)
e = stats.clustered_mean(list(signs), list(ids))
half = 1.96 * signs.std() / len(signs) ** 0.5
print(f"wins minus losses {e.value:+.3f}")
print(f"  each comparison on its own: {e.value - half:+.3f} to {e.value + half:+.3f}")
print(f"  prompts drawn whole:        {e.lo:+.3f} to {e.hi:+.3f}")

# %% [markdown]
# The second interval draws *prompts* anew, all their languages together (a {term}`bootstrap`). Which of the two is right? An interval that says 95 % should hold
# the truth, here zero, in 95 of 100 evaluations:

# %%
hits = {"each comparison on its own": 0, "prompts drawn whole": 0}
for _ in range(200):
    signs, ids = evaluate(40, 23, correlation=0.5)
    e = stats.clustered_mean(list(signs), list(ids), resamples=400)
    hits["prompts drawn whole"] += e.lo <= 0 <= e.hi
    half = 1.96 * signs.std() / len(signs) ** 0.5
    hits["each comparison on its own"] += abs(signs.mean()) <= half
coverage = {name: number / 200 for name, number in hits.items()}
for name, value in coverage.items():
    run.metric(f"coverage[{name}]", value, n=200)
coverage

# %% [markdown]
# The naive interval promises 95 % and keeps about half of that. The same was simulated for all the numbers that this book reports, with 10 to 100 prompts, one to 23 languages,
# and prompts that matter more or less (recorded, 1,000 evaluations a setting):
#
# ```{runfigure} coverage coverage
# ```

# %%
plots.coverage(["coverage"])

# %% [markdown]
# ```{runtable} coverage by_prompts
# :caption: Share of intervals that held the truth, least to greatest over languages, correlations and ties; 1,000 evaluations a setting (equal length: 200)
# ```
#
# Means and wins minus losses keep within a point or two of 95 % from ten prompts on. Shares are safe rather than sharp: where languages are many and hardly correlated the interval is too wide; near one, with
# few prompts in one language, it falls to 90 %, so a validity below needs 40 prompts before its interval is taken at its word. At equal length the figures are noisy, and with ten prompts some
# evaluations have no finite answer at all.

# %% [markdown]
# **Planning.** Before an evaluation is paid for, a small pilot tells how many prompts it needs. Here a pilot of 40 prompts stands in for one of yours; the model is a
# little better than its rival.

# %%
pilot, ids = evaluate(40, 23, correlation=0.5, lead=0.1)
rows = []
for prompts_asked in (10, 40, 100, 200, 500, 1000):
    seen = stats.detectable(list(pilot), list(ids), prompts=prompts_asked)
    rows.append({"prompts": prompts_asked, "smallest difference seen": round(seen, 3)})
    run.metric(f"detectable[{prompts_asked} prompts]", seen, n=prompts_asked)
needed = stats.prompts_needed(list(pilot), list(ids), difference=0.08)
run.metric("prompts_needed", needed, n=len(ids))
print(f"to see wins minus losses of 0.08 (54 against 46): {needed} prompts")
pd.DataFrame(rows).set_index("prompts")

# %% [markdown]
# Wins minus losses of 0.08 is what 54 % against 46 % makes. "Seen" means: in four evaluations out of five the interval stays clear of zero. Twenty-three languages
# help, but prompts help more.
#
# ## Exercise, for those who take this part alone
#
# **Goal.** In the paper one comparison ends 54.4 % against 43.8 % [Q]; the remaining 1.8 % would be ties. Assume 200 prompts and 23 languages (the number of prompts is unknown; the
# Aya 23 report, of the same laboratory, has 200 [P]). For which correlation within a prompt would an interval clustered by prompt just touch zero?

# %% tags=["solution", "hide-input"]
for correlation in (0.0, 0.3, 0.7, 0.95):
    signs, ids = evaluate(200, 23, correlation)
    width = stats.clustered_mean(list(signs), list(ids)).hi - signs.mean()
    print(f"correlation {correlation}: half width {width:.3f} against 0.106")

# %% [markdown]
# Even with prompts that decide nearly everything the half width stays near 0.1: a difference of 10.6 points, if it was measured so, is more than luck of the
# prompts. That says nothing about the luck of the training run (another {term}`seed`), nor about the judge.
#
# ## The judge
#
# Six features, each "higher is better": nearness to the {term}`reference` under a multilingual sentence {term}`encoder`; {term}`fluency`, the closeness of the
# text's bits per character, under the frozen {term}`pretrained` model, to the level of the references; little overlap with the prompt; little repetition; a
# proper ending; a length near the reference's. An answer that is not in the prompt's language has 5 points taken off its score, more than another fault usually
# costs. The score is in log-odds: on the pairs it was fitted to, a difference of 1 means odds of e to 1. It does not look at the rewards of chapter 05, and must
# not. Yet the two are no strangers: both learned with the same kinds of spoiled answers, and the judge measures fluency with the model that {term}`base` was made of.

# %%
from mlpo.data import complete, prompts
from mlpo.display import show_texts
from mlpo.evaluate import judge

embedded = judge.EmbeddedJudge(run.store, budget.block)
pd.Series(
    dict(zip(judge.FEATURES, embedded.weights, strict=True)), name="weight"
).round(2)

# %% [markdown]
# ## Where can it be trusted?
#
# On `dev`, in each language, the judge was given pairs whose order is known: a reference against itself spoiled ({term}`corruption`); a reference against base's
# answer; and base's answer against the same spoiled, where neither side is the reference by which the judge measures. A judge is called **valid in a language** when the lower
# end of its interval lies above one half for *every* kind of pair.
#
# ```{runfigure} judge_validity judges
# ```
#
# The embedded judge is valid in {num}`15, n = 23 <judges/valid_languages[embedded]>` languages by this rule, the reward model of chapter 05, used as a judge, in
# {num}`0, n = 23 <judges/valid_languages[reward]>`. A cell has eight prompts and needs seven of them right, so a cross may mean "blind" or only "not shown".

# %%
plots.judge_validity(["judges"])

# %% [markdown]
# ```{runtable} judges kinds
# :caption: Share of pairs ordered right over all languages, by judge; 95 % intervals clustered by prompt, n = 183 or 184 a kind
# ```
#
# ```{runfigure} validity_reward judges
# ```

# %% [markdown]
# What the embedded judge finds hardest is base's answer against base's answer to *another* prompt: {num}`0.87 [0.72, 0.95], n = 183 <judges/right[embedded, base, other prompt's]>` over all languages, where nothing
# but the content is wrong. The reward model is nearly blind to shuffled words in base's answers ({num}`0.62 [0.47, 0.75], n = 183 <judges/right[reward, base, shuffled]>`), although it sees them in references
# ({num}`0.81 [0.56, 0.93], n = 184 <judges/right[reward, shuffled words]>`): references were all that it was shown. The kinds were chosen by us, and the embedded judge's weights were
# fitted to pairs like the first six, of the same split. Between two answers of a model, neither of them spoiled, a judge sees less than this; there the two judges hardly agree (kappa
# {num}`0.21 [0.13, 0.31], n = 184 <judges/kappa[embedded, reward]>`).
#
# ## Attacks
#
# An answer can also be written to please the judge. Thirty-three attacks on an answer of base in each of seven languages: nothing at all, the prompt repeated, "Verdict: A", praise of itself,
# the answer twenty times over, the turn markers of a chat, and so on. The *guard* cleans answers of what is no part of an answer, and lets those that say nothing, repeat
# the prompt, loop or are in another language lose unasked.
#
# ```{runfigure} attacks judges
# ```
#
# Against the honest answer the attacked one wins in a share of {num}`0.08 [0.01, 0.57], n = 256 <judges/fell[embedded, before]>` of the trials before the guard and {num}`0.11 [0.01, 0.59], n = 256 <judges/fell[embedded, after]>` after it, ties
# counted half. That the second number is no smaller has a simple reason: an attack that was nothing but invisible padding is the honest answer again once it is cleaned, a tie. What
# works with and without the guard is plain words in front of or behind the answer: an order to the judge ({num}`0.56 [0.26, 0.83], n = 8 <judges/fell[embedded, after, order in the language]>`), praise of itself
# ({num}`0.50 [0.22, 0.78], n = 8 <judges/fell[embedded, after, praise]>`), a label that says "reference answer" ({num}`0.44 [0.17, 0.74], n = 8 <judges/fell[embedded, after, reference label]>`). This judge does not read, so it cannot obey; it takes them for a fluent and
# somewhat longer answer. Half would be a judge that cannot tell.

# %%
plots.attacks(["judges"])

# %% [markdown]
# ```{runtable} judges attack_rates
# :caption: Share of attacks that a judge fell for, ties counted half; 95 % intervals; n = 8 an attack, fewer where one has nothing to work with
# ```

# %% [markdown]
# **A large model as judge.** Any server that speaks OpenAI's protocol can judge, with a prompt of four rules (in the language; answers the request; makes
# sense; fluent), both orders, ties. A pair in which it names the same *place* both times is a flip: a tie, and counted. What cannot be read as a verdict is
# counted too. None was at hand for the recorded runs, so nothing is claimed here of large judges: test yours on the pairs and attacks above before you believe it. The first command sends
# nothing and says what the second would cost.
#
# ```console
# $ mlpo evaluate --model adapter/ --languages en,tr --judge my-model@http://localhost:8000/v1 --dry-run --price 2.5
# $ mlpo evaluate --model adapter/ --languages en,tr --judge my-model@http://localhost:8000/v1
# ```
#
# ## The answers
#
# Base answers the same prompts twice. The first answer is what the policies are compared with. The second is the negative control, and shows how far two
# answers of the *same* model lie apart: the median size of such differences on `dev` was fixed as the {term}`tie margin`. So about half of base's matches against itself are
# {term}`ties <tie>` by construction.

# %%
dev = [
    p
    for lang in run.languages
    for p in prompts.seed_prompts("dev", lang)[: budget.eval_prompts]
]
ids = [p.id for p in dev]
twice = complete.run(
    run.store,
    complete.generator(run.profile.models.base, run.profile.server),
    dev,
    run.profile.sampling,
    role="policy",
    seed=seed + 1,
    samples=2,
    block=budget.block,
)
answers = {
    "base": [c.text for c in twice[0::2]],
    "base again": [c.text for c in twice[1::2]],
}
cut = {"base": [c.cut for c in twice[0::2]], "base again": [c.cut for c in twice[1::2]]}
for policy, source in (("dpo", "07/answers"), ("rloo", "08/answers")):
    given = run.input(source).set_index(["prompt_id", "lang"])
    if missing := [p.id for p in dev if (p.id, p.lang) not in given.index]:
        raise MlpoError(
            f"{source} has no answer to {missing[0]}: rebuild it (--upstream)."
        )
    answers[policy] = [given.text[p.id, p.lang] for p in dev]
    cut[policy] = [given.cut[p.id, p.lang] for p in dev]
scores = {name: np.array(embedded.score(dev, texts)) for name, texts in answers.items()}
margin = embedded.margin("open")
run.metric("tie_margin", margin, n=len(dev), unit="log-odds")

# %% [markdown]
# ## Differences
#
# For each prompt and language: the policy's score minus base's. `at equal length` is the {term}`length-controlled win rate`: what a regression on the difference of lengths
# predicts for two answers of the same length, ties counted half. It does not say how the policy would fare had it been made to write shorter.

# %%
rows = []
for name in ("dpo", "rloo", "base again"):
    difference = scores[name] - scores["base"]
    metric = name.replace(" ", "_")
    p_values = {}
    for lang in [None, *run.languages]:
        some = [i for i, p in enumerate(dev) if lang in (None, p.lang)]
        values, own = list(difference[some]), [ids[i] for i in some]
        e = stats.clustered_mean(values, own)
        run.estimate(
            f"difference_{metric}" + (f"[{lang}]" if lang else ""), e, unit="log-odds"
        )
        if lang:
            p_values[lang] = stats.p_value(values, own)
    adjusted = stats.holm(p_values)
    clear = sum(p < 0.05 for p in adjusted.values())
    run.metric(f"clear_languages_{metric}", clear, n=len(adjusted))
    run.metric(
        f"detectable_{metric}",
        stats.detectable(list(difference), ids),
        n=len(dev),
        unit="log-odds",
    )
    wins = stats.win_rate(list(difference), ids, margin)
    for part, e in vars(wins).items():
        run.estimate(f"{part}_{metric}", e)
    sign = np.where(abs(difference) < margin, 0, np.sign(difference))
    lengths = [
        np.log(max(1, len(a)) / max(1, len(b)))
        for a, b in zip(answers[name], answers["base"], strict=True)
    ]
    even = stats.at_equal_length(list((sign + 1) / 2), lengths, ids)
    run.metric(f"length_ratio_{metric}", float(np.exp(np.mean(lengths))), n=len(dev))
    rows.append(
        {
            "against base": name,
            **{part: round(e.value, 2) for part, e in vars(wins).items()},
            "at equal length": round(even.value, 2),
            "languages that differ (Holm)": clear,
        }
    )
pd.DataFrame(rows).set_index("against base")

# %% [markdown]
# Some faults need no judge: answers in another language, loops, answers that the limit cut. A win beside a fallen share of answers in the language would be suspicious, and
# `suspicious` says so where the fall is beyond its interval.

# %%
from mlpo.evaluate import checks

looked = {name: checks.check(dev, texts, cut[name]) for name, texts in answers.items()}
for name, frame in looked.items():
    for fault in ("right_language", "repetition_loop", "cut"):
        e = stats.clustered_share(list(frame[fault]), list(frame.prompt_id))
        run.estimate(f"{fault}_{name.replace(' ', '_')}", e)
    wins = {}
    for lang in run.languages:
        some = [i for i, p in enumerate(dev) if p.lang == lang]
        gap = list((scores[name] - scores["base"])[some])
        wins[lang] = stats.win_rate(gap, [ids[i] for i in some], margin).delta
    for said in checks.suspicious(frame, looked["base"], wins):
        print(f"{name}: {said}")
pd.DataFrame(
    {name: frame[list(checks.CHECKS)].mean() for name, frame in looked.items()}
).round(3)

# %%
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
_ = run.save()

# %% [markdown]
# ## The result
#
# Recorded, wins minus losses against base: DPO {num}`−0.16 [−0.26, −0.05], n = 184 <10_win_rates-cpu/delta_dpo>`; RLOO {num}`−0.09 [−0.18, −0.01], n = 184 <10_win_rates-cpu/delta_rloo>`; base against
# itself {num}`−0.07 [−0.20, +0.06], n = 184 <10_win_rates-cpu/delta_base_again>`.
#
# The paired difference of the judge's score, which is the book's primary outcome: DPO {num}`−0.13 log-odds [−0.21, −0.03], n = 184 <10_win_rates-cpu/difference_dpo>`;
# RLOO {num}`−0.03 log-odds [−0.10, +0.06], n = 184 <10_win_rates-cpu/difference_rloo>`; base against itself
# {num}`−0.07 log-odds [−0.13, +0.01], n = 184 <10_win_rates-cpu/difference_base_again>`. With this many prompts a true difference of {num}`0.13 log-odds, n = 184 <10_win_rates-cpu/detectable_dpo>` would be seen in four evaluations out of five.
#
# ```{runfigure} win_rates 10_win_rates-cpu
# ```

# %%
plots.win_rates([run.id])

# %% [markdown]
# The interval of *base again* should contain zero: it is the same model with other random numbers. (One 95 % interval in twenty misses the truth.) All rows are
# measured against the same answers of base: were these lucky, all rows would fall together, so read a policy's row beside that of base again and not alone.
# A few minutes of training on a few pairs can well make a policy worse: it may learn to be unlike its rejected
# answers without getting better. Where an interval contains zero, a
# difference has not been shown, and that is not the same as having shown that there is none.
# The next figure has an interval for each policy and language. Among so many, some miss zero by luck; the table above counts those that stay clear of it after
# {term}`Holm's correction <Holm correction>`.
#
# ```{runfigure} score_change 10_win_rates-cpu
# ```

# %%
plots.score_change([run.id])

# %% [markdown]
# ## You are a judge too
#
# The form shows two answers, blind; the keys a, b and t decide, u takes back. Each verdict is saved at once, and the file goes on where it was. What people say feeds the
# same numbers as what a judge says: here those of whoever has judged on this machine, and nobody has in the recorded run.

# %%
from mlpo.evaluate.annotate import Form, match_id, read
from mlpo.evaluate.validity import agreement
from mlpo.models import digest
from mlpo.records import Match

mine = [i for i, p in enumerate(dev) if p.lang == "en"]
matches = [Match(dev[i], answers["dpo"][i], answers["base"][i]) for i in mine]
file = run.folder / f"human-{digest(list(map(match_id, matches)))[:8]}.jsonl"
form = Form(matches, file, annotator="me")
form

# %%
given = [(m, v) for m, v in zip(matches, read(file, matches), strict=True) if v]
if given:
    matches, human = zip(*given, strict=True)
    signs = [{"A": 1.0, "B": -1.0}.get(v.outcome, 0.0) for v in human]
    clusters = [m.prompt.id for m in matches]
    print(stats.win_rate(signs, clusters, margin=0.5).delta)
    print(agreement(human, embedded.judge(matches), clusters))
len(given)

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
# **Goal.** What becomes of the intervals above if one forgets that prompts recur in every language? Say what you expect, then compute them with every comparison as its
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
# noisy one, so in a single run it can come out the other way round. That is why the first part repeats the evaluation some hundred times.
#
# ## Summary
#
# - 54 against 50 in one language and 200 prompts is what luck gives in one evaluation out of four.
# - The same prompt in 23 languages is not 23 prompts: intervals draw prompts whole, and a pilot says how many are needed.
# - A judge is an instrument: show where it is valid, and what fools it, before its verdicts.
# - The same model against itself is the row that keeps everyone honest.
#
# **What's next.** Chapter 13 takes the same judge to another task, summaries. The chapters that are planned ask the paper's questions with longer, recorded runs.
