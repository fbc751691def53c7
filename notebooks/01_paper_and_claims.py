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
# # The paper and its claims
#
# **You will be able to**
#
# - retell what the paper did, from English prompts to a figure averaged over 23 languages;
# - tell what its authors said from what others say about it, and both from guesses;
# - name the ten claims that this book tests and the comparison that tests each;
# - say why a difference of seven points can be noise, and which interval to ask for.
#
# **Before this chapter**
#
# - chapter 00, for how a chapter is run and where recorded results live;
# - PyTorch at the level of "a loss, a backward pass, an optimiser"; no preference training;
# - what a 95 % confidence interval is.
#
# ## Overview
#
# {cite:t}`dang2024rlhf` asked whether the last step of making a chat model, learning from
# preferences, can be done in many languages at once, and whether doing so pays. Its headline figures
# are {term}`win rate`s: the share of prompts for which a {term}`judge` prefers the answer of one model
# to the answer of another.
#
# The paper's preference data, checkpoints and code were not released. Whoever wants to check it has
# to rebuild it, and has to be open about which parts are rebuilt from knowledge and which from
# guesses. This chapter sets out what is known and how well, lists what the book will test, and
# measures how large a difference must be before it means anything. It runs no language model and
# looks the same under every profile.
#
# ## Preference training in one page
#
# A language model gives a probability to every next token. **Supervised fine-tuning** ({term}`SFT`)
# raises the probability of example answers, by cross-entropy, as in any classifier. It never says
# what a *bad* answer looks like. Preference training does. Its datum is a {term}`preference pair`: one
# prompt and two answers, the better one {term}`chosen`, the worse one {term}`rejected`.
#
# The model in training is the {term}`policy`. A frozen copy of where it started, the
# {term}`reference`, stands beside it, and training charges a price for moving away: the
# {term}`KL divergence` between the two, times a factor $\beta$. Two ways to learn are compared in this
# book.
#
# - {term}`DPO` ({cite:t}`rafailov2023dpo`) needs only the pairs. For both answers it takes the
#   log-probability under the policy minus that under the reference, and applies a logistic loss to the
#   difference of the two. It looks like training a binary classifier, and the answers can come from
#   anywhere: usually from other models, which makes it {term}`off-policy`.
# - {term}`RLOO` ({cite:t}`ahmadian2024back,kool2019buy`) needs a {term}`reward model`: a network that
#   reads a prompt and an answer and returns one number, trained beforehand on pairs. The policy writes
#   $k$ answers to a prompt, each gets its reward less the price of moving away, and from each is
#   subtracted the mean of the *other* $k - 1$. Answers above that mean become more probable, answers
#   below it less. The answers are always the policy's own and fresh, which makes it
#   {term}`on-policy`.
#
# In the book the reference is called {term}`base`. Under the small profiles it is a
# {term}`pretrained` Gemma 3 with 270 million parameters to which the book has added SFT. It stands in
# for the model that the paper started from, at about a thirtieth of its size [P]; that alone is reason
# to read the book's figures as evidence about directions and not about sizes.
#
# ## How sure is each statement?
#
# Every statement about the paper, in this chapter and later ones, ends with a label for where it comes
# from. A label covers the sentence, the table row or the line of a diagram that it closes. Title,
# authors, venue and the absence of a release carry none.
#
# | label | meaning | how far to trust it |
# |---|---|---|
# | **[V]** | verified: stands in the paper's abstract or opening | as the paper's word |
# | **[Q]** | a sentence of the paper, quoted by a third party | as the paper's word, without its context |
# | **[A]** | said by the paper's authors in another place | as the authors' word, perhaps about a later state |
# | **[S]** | a third party's summary | the gist, not the detail |
# | **[P]** | proxy: another paper about something close, mostly by the same laboratory in the same year | as a plausible default |
# | **[I]** | inference: drawn by this book from the others, arithmetic included | as far as you follow the argument |
# | **unknown** | no readable source | the book chooses, and says that it chose |
#
# What is labelled *unknown* is never filled in with a figure that is then called the paper's.
#
# ## What the paper did
#
# ```text
# about 50,000 English prompts, from ShareGPT                                  [S]
#           |
#           |  machine translation into 22 further languages                   [S]
#           v
# the same prompts in 23 languages                                             [S]
#      |                                      |
#      |  Command R+ answers in               |  Command answers in English,
#      |  the prompt's language  [A]+[I]      |  the answer is translated    [A]+[I]
#      v                                      v
#   strong, native answer                  weaker, translated answer
#      |                                      |
#      +------------------+-------------------+
#                         |  a reward model ranks the answers                  [S]
#                         v
#      preference pairs, mixed by number of languages and by total size        [S]
#             |                               |
#             |  learn from the pairs         |  write new answers to the prompts,
#             v                               v  score them by a reward model
#       offline: DPO                    online: RLOO                           [Q]
#             |                               |
#             +---------------+---------------+
#                             v
#      a language model judges the answers; win rates averaged over 23 languages  [S]
# ```
#
# Some remarks on the picture.
#
# - **Languages.** The 23 of Aya 23 ({cite:t}`aryabumi2024aya23`): Arabic, Chinese, Czech, Dutch, English,
#   French, German, Greek, Hebrew, Hindi, Indonesian, Italian, Japanese, Korean, Persian, Polish,
#   Portuguese, Romanian, Russian, Spanish, Turkish, Ukrainian and Vietnamese [P]. Six of them (Greek,
#   Hebrew, Indonesian, Korean, Romanian, Ukrainian) count as mid-resource, the others as
#   high-resource [P]. None is a low-resource language, so nothing here speaks about those [I].
# - **Starting model.** Aya 23 8B, which had been through supervised fine-tuning already [P].
# - **Two answers of different kinds.** Machine translation leaves traces, called
#   {term}`translationese`. Setting native answers of a strong model against translated answers of a
#   weaker one was meant to steer the policy away from them [A]. Native text is not always preferred,
#   though: in a sibling paper ({cite:t}`aakanksha2024prism`) GPT-4 preferred native generations to
#   translated ones in 42.8 to 79.8 % of cases, depending on the language [P].
# - **Mixtures.** A {term}`mixture` says how many languages the pairs cover and how many pairs there are.
#   Four names are in circulation: EN-1, ML-5, ML-23 and ML-23-230K, of which only the last is
#   confirmed [S]. If they are balanced, they hold 50,000 pairs in one language, 10,000 in each of five,
#   about 2,170 in each of 23, and 10,000 in each of 23 [I].
# - **Counting.** Wins, losses and ties are counted apart, and the sign of a result is wins minus
#   losses [S]. So a win rate below 50 % need not mean that a model lost more often than it won [I].
#
# ## The claims ledger
#
# The book tests ten claims. The words are the book's; the figures are the paper's where the label
# says so. The last column names the comparison that can support or contradict the claim. This chapter
# gives no verdicts: they come from recorded runs.
#
# | id | claim | the paper's figure | label | comparison that tests it |
# |---|---|---|---|---|
# | C1 | Preference data in many languages beats English-only data, averaged over 23 languages | up to 7.0 points of win rate, 46.4 % to 53.4 % [Q]; method and mixture behind it unknown | [Q] | one method, one number of pairs: EN-1 against ML-23 |
# | C2 | At a fixed total (50,000 pairs) more languages are better | unknown | [S] | EN-1, ML-5, ML-23 at one total |
# | C3 | At fixed languages more data is better | unknown (said without a figure) | [V] | ML-23 at growing totals |
# | C4 | Online RLOO beats offline DPO | by at most 10.6 points, 54.4 % against 43.8 % [Q]; mixture behind it unknown | [Q] | both methods on the same prompts, with on-policy DPO as the control |
# | C5 | RLOO transfers better than DPO to languages that the preference data lacks | unknown | [S] | both methods, scored on languages held out |
# | C6 | Languages absent from the preference data gain too | unknown | [A], [S] | policy against base on languages held out |
# | C7 | The best model wins against Aya 23 8B and, more clearly, against Gemma-1.1-7B-it, Llama-3-8B-Instruct and Mistral-7B-Instruct-v0.3 | 54.4 %; 69.5 % or more [V] | [V] | best policy against base, and both against other models under one judge |
# | C8 | Gains hold for open-ended generation and for summarization | unknown | [S] | the same policies on both tasks |
# | C9 | With the largest data set, performance degrades after half an epoch | unknown | [S] | checkpoints along one long run |
# | C10 | Pairs of strong native against weaker translated answers steer a model away from translationese | unknown | [A] | role pairs against pairs of two native answers |
#
# The quotations behind C1 and C4 do not say whom these rates were won against. As 54.4 % appears in
# both C4 and C7, it was probably Aya 23 8B, the untouched starting model [I].
#
# Three questions the paper leaves open, to be answered by experiment as far as the book's means reach:
#
# - **O1** Where lies the best trade-off between the size of the data set and the number of languages?
# - **O2** How much does the quality of synthetic preference data matter: translation artefacts, and
#   synthetic against human-written text?
# - **O3** What changes on the way to hundreds of languages?
#
# And three checks without which the verdicts would be worth little:
#
# - **K1** Transfer is measured on languages that were held out of training.
# - **K2** The reward model is tested out of distribution and across language pairs, not only where it
#   was trained. On a multilingual benchmark, classifier reward models lose more than 8 points on
#   average outside English ({cite:t}`gureja2024mrewardbench`) [P].
# - **K3** Number of languages and data per language are varied independently. At a fixed total, one more
#   language means fewer pairs for each, and the two effects cannot be told apart [I].
#
# ## What the figures mix together
#
# Four confounds stand between the figures and the claims.
#
# **Method and source of data.** The paper's DPO learns from answers of other models, off-policy; its
# RLOO learns from its own, on-policy [I]. If RLOO comes out ahead (C4), the reason may be the method
# or the freshness of the data. The book adds the control that separates them: DPO on pairs that the
# policy itself sampled and the *same* reward model ranked, at equal compute. Later work does not
# settle the matter. {cite:t}`dang2024ayaexpanse` report that offline followed by online DPO beats
# either alone, and over-optimised rewards after three rounds [P]; another follow-up, CroCo
# (arXiv 2605.26293), found no advantage of online training once the pairs were on-policy [P].
#
# **New preferences and old lessons.** The SFT data of Aya 23 already contained Command R+ answers to
# translated ShareGPT prompts [I]. Preference data made from the same model and the same prompts
# therefore partly repeats what the base had been taught. In the book the answers that serve as
# *strong native* were never seen in SFT.
#
# **More languages and less of each.** This is check K3 above.
#
# **The policy and its base.** A win rate against a third model says little by itself. In an
# independent replication with another judge, Aya 23 8B *without* preference training already won 64.3 %
# against Llama-3, 69.6 % against Gemma-1.1 and 69.1 % against Mistral-v0.3 [P]. Beside these,
# "69.5 % or more" [V] may be much or nothing. So the book measures the untouched base first, under
# the same judge, and shows it as a row of every table.
#
# There is a fifth danger, of another kind. Whoever optimises a learned reward hard enough improves the
# reward and no longer the answers ({cite:t}`gao2022scaling`). The book's judge and reward model are
# therefore different models trained on different data, and both are attacked on purpose.
#
# ## What is unknown, and what the book does instead
#
# | open point | what is known nearby | the book's choice |
# |---|---|---|
# | translator | unknown for this paper; a sibling and a replication used NLLB-200-3.3B ({cite:t}`nllb2022`) [P] | NLLB of the size that the profile can carry; under `smoke` and `cpu` the packaged Gemma, tuned on the parallel split `sft`; quality measured by {term}`chrF` |
# | chosen by role or by reward | unknown | both are made in chapter 06, chapter 07 trains on those by reward; the share of pairs in which the translated answer wins is always reported |
# | prompt filters, sampling settings, which prompts go to which language | unknown | fields of the profile, kept with every run |
# | accuracy of the reward model per language | unknown | measured for each language in chapter 05 |
# | the five languages of ML-5 | unknown | English, Vietnamese, German, Turkish, Portuguese, all in Latin script; besides, as ML-5-scripts, English, Arabic, Chinese, Hindi and Russian |
# | sizes of the mixtures | balanced sizes [I], see above | balanced; the budget is a parameter |
# | learning rate, $\beta$, batch, $k$, steps | unknown; {cite:t}`ahmadian2024back` used $k$ of 2 and 4 and $\beta$ of 0.03 and 0.10, by data set [P] | fields of the profile; not tuned so far, and on the `dev` prompts only when they are |
# | which checkpoint is reported | unknown; best reward on held-out prompts in {cite:t}`ahmadian2024back` [P] | planned: early stopping on `dev`; so far the last one |
# | full or low-rank training | unknown | low-rank adapters; on a GPU over a 4-bit base ({cite:t}`dettmers2023qlora`) |
# | judge, its wording, test prompts | unknown; GPT-4-turbo and 200 Dolly prompts in {cite:t}`aryabumi2024aya23` [P] | planned: exchangeable judges, the book's own wording, a test set written for this book; so far a small embedded judge that is shown with its own validity per language |
# | ties | counted apart [S]; how a tie is called is unknown | a {term}`tie margin` for judges that score one answer at a time, fixed on `dev` |
# | cost on other tasks | unknown | planned: perplexity and translation, measured before and after |
#
# ## How noise limits what can be said
#
# Suppose that a test set has 200 prompts, translated into 23 languages. One language then gives 200
# judgements and an interval of about ±6.9 points around a win rate near 50 % [I]. That is as large as
# the whole effect in C1 (46.4 % to 53.4 % [Q]): one language alone will rarely show it.
#
# Pooling all languages gives 4,600 judgements, and the textbook formula then promises ±1.4 points [I].
# The formula assumes that judgements are independent. They are not: the *same* 200 prompts recur in
# every language. A prompt on which the policy happens to shine in German it will often shine on in
# Dutch. With correlation $\rho$ between two languages' verdicts on one prompt, $n$ prompts in $L$
# languages are worth only
#
# $$ n_{\mathrm{eff}} = \frac{n L}{1 + (L - 1)\,\rho} $$
#
# independent judgements. With $\rho = 1$ that is $n$, and the 23 languages bring nothing. So the true
# half-width lies between ±1.4 and ±6.9 points [I], and where it lies depends on a quantity that the
# paper's readers cannot see (unknown).
#
# The cure is to treat the prompt as the unit: average over languages within a prompt first, then look
# at the spread between prompts. That is a {term}`clustered interval`. Rather than believe it, measure
# it: invent a world in which the true win rate is known, repeat the whole evaluation some hundred times,
# and count how often each interval contains the truth.
#
# ### Parameters

# %% tags=["parameters"]
profile: str = "cpu"  # smoke | cpu | laptop | gpu | paper; or a YAML file
seed: int = 0  # 0..1000000; where the random numbers start
prompts: int = 200  # 10..10000; prompts in the simulated test set, each in 23 languages
win_rate: float = 0.534  # 0.01..0.99; true win rate of the simulated policy

# %%
from mlpo import chapters

run = chapters.start(
    "01_paper_and_claims",
    profile=profile,
    seed=seed,
    prompts=prompts,
    win_rate=win_rate,
)

# %% [markdown]
# ### A world in which the truth is known
#
# In the simulation each prompt has one *shared* verdict. In every language the verdict either follows
# the shared one, with probability $\sqrt{\rho}$, or is drawn afresh. Each verdict is a win with the
# probability that you set, and any two languages correlate by $\rho$. Ties are left out: they would
# change the level and not the lesson. The two intervals differ only in what they count as one
# observation, a judgement or a prompt.

# %%
import numpy as np
import pandas as pd
from scipy import stats

LANGUAGES = 23
REPETITIONS = 400
CORRELATION = 0.2  # the value whose coverage is recorded: an example, not a measurement


def evaluate_once(rng: np.random.Generator, correlation: float) -> np.ndarray:
    """Wins of one simulated evaluation, booleans of shape (prompts, languages)."""
    shared = rng.random((prompts, 1)) < win_rate
    own = rng.random((prompts, LANGUAGES)) < win_rate
    follows = rng.random((prompts, LANGUAGES)) < np.sqrt(correlation)
    return np.where(follows, shared, own)


def naive_half_width(wins: np.ndarray) -> float:
    """Half of the 95 % interval when every judgement counts as independent."""
    rate = wins.mean()
    return 1.96 * np.sqrt(rate * (1 - rate) / wins.size)


def clustered_half_width(wins: np.ndarray) -> float:
    """Half of the 95 % interval when the prompt is the unit."""
    per_prompt = wins.mean(axis=1)  # (prompts,)
    return stats.t.ppf(0.975, prompts - 1) * per_prompt.std(ddof=1) / np.sqrt(prompts)


# %% [markdown]
# ### Four hundred evaluations of the same policy
#
# `true` below is what an interval ought to say: 1.96 standard deviations of the pooled win rate over the
# repetitions. `naive` and `clustered` are the half-widths that the formulas report on average, all in
# points. The last two columns are the shares of repetitions whose interval contained the true win rate;
# for an honest 95 % interval that share is near 0.95.


# %%
def repeat(correlation: float, stream: int) -> pd.DataFrame:
    """One row a repetition: pooled rate, rate of one language, both half-widths."""
    rng = np.random.default_rng([seed, stream])
    rows = []
    for _ in range(REPETITIONS):
        wins = evaluate_once(rng, correlation)
        halves = naive_half_width(wins), clustered_half_width(wins)
        rows.append((wins.mean(), wins[:, 0].mean(), *halves))
    frame = pd.DataFrame(rows, columns=["pooled", "one_language", "naive", "clustered"])
    error = (frame.pooled - win_rate).abs()
    return frame.assign(
        naive_covers=error <= frame.naive, clustered_covers=error <= frame.clustered
    )


correlations = [0.0, 0.05, CORRELATION, 0.5, 1.0]
worlds = {rho: repeat(rho, stream) for stream, rho in enumerate(correlations)}
coverage = pd.DataFrame(
    {
        "correlation": rho,
        "true": 196 * world.pooled.std(ddof=1),
        "naive": 100 * world.naive.mean(),
        "clustered": 100 * world.clustered.mean(),
        "naive_covers": world.naive_covers.mean(),
        "clustered_covers": world.clustered_covers.mean(),
    }
    for rho, world in worlds.items()
)
run.table("coverage", coverage)
coverage.round(3)

# %% [markdown]
# Read the table from the top. Without correlation the two intervals agree. As the correlation grows, the
# naive half-width stays where it was while the true one widens, and the naive interval contains the truth
# ever less often; the clustered one follows. Nothing in a naive interval warns you: it looks the same in
# all rows.
#
# Recorded at correlation 0.2: the naive interval covers the truth in {num}`0.610 [0.561, 0.657], n = 400 <01_paper_and_claims-cpu/coverage_naive>` of the repetitions, the
# clustered one in {num}`0.945 [0.918, 0.963], n = 400 <01_paper_and_claims-cpu/coverage_clustered>`.
#
# The next cell records what the book quotes, for a correlation of 0.2 (the book's choice, for
# illustration). A coverage is itself a measured share, so it comes with a Wilson interval; the half-width
# in one language comes with the interval that the chi-squared distribution gives for a standard deviation.

# %%
example = worlds[CORRELATION]
for name in ("naive", "clustered"):
    hits = int(example[f"{name}_covers"].sum())
    low, high = stats.binomtest(hits, REPETITIONS).proportion_ci(method="wilson")
    run.metric(f"coverage_{name}", hits / REPETITIONS, low, high, n=REPETITIONS)
    print(
        f"{name:>9} interval covers the truth in {hits / REPETITIONS:.3f} [{low:.3f}, {high:.3f}]"
    )

half_width = 196 * example.one_language.std(ddof=1)  # points
degrees = REPETITIONS - 1
low, high = half_width * np.sqrt(degrees / stats.chi2.ppf([0.975, 0.025], degrees))
run.metric(
    "half_width_one_language", half_width, low, high, n=REPETITIONS, unit="points"
)
print(
    f"one language, {prompts} prompts: ±{half_width:.1f} [{low:.1f}, {high:.1f}] points"
)

# %% [markdown]
# ## What this means for the rest of the book
#
# - Intervals are clustered by prompt. Where the quantity is more than a mean, the same idea is carried
#   out by a {term}`bootstrap` that draws whole prompts (chapter 10).
# - The primary outcome is the paired difference of the judge's score between a policy's answer and the
#   base's answer to the *same* prompt. A score keeps by how much an answer was better, which a win rate
#   throws away, so it usually gets by with fewer prompts.
# - A table should say beside its figures which difference it could have detected. "No difference found" from
#   a handful of prompts is no evidence of equality.
# - A claim about one language needs many more prompts than a claim about the average, and with 23
#   languages looked at, some will stand out by luck; a verdict must correct for that.
#
# The paper's own intervals are unknown. A pooled win rate such as those in C1 and C4 may be
# solid or shaky; without the judgements nobody outside can tell [I].
#
# ## Exercise
#
# Find how many prompts one language needs before a policy at 53.4 % and another at 46.4 %, each judged on
# that many prompts, are told apart in four experiments out of five. Start with 100 prompts and a few
# hundred repetitions, then widen the search, and say how sure you are of your answer.
#
# (The two rates are the figures of C1 [Q], which are averages over languages; here they are borrowed for
# one. Count the two sets of judgements as independent, and call the policies told apart when the
# difference of their rates is larger than 1.96 standard errors.)

# %% tags=["solution", "hide-input"]
EXPERIMENTS = 2000
rng = np.random.default_rng([seed, 100])
rows = []
for count in range(50, 1601, 50):
    first, second = rng.binomial(count, [[0.534], [0.464]], (2, EXPERIMENTS)) / count
    variance = (first * (1 - first) + second * (1 - second)) / count
    apart = int((np.abs(first - second) > 1.96 * np.sqrt(variance)).sum())
    interval = stats.binomtest(apart, EXPERIMENTS).proportion_ci(method="wilson")
    rows.append((count, apart / EXPERIMENTS, interval.low, interval.high))
power = pd.DataFrame(rows, columns=["prompts", "told_apart", "lo", "hi"])
run.table("power", power)

# The answer, and the counts that the noise of this search cannot exclude.
needed, at_least, at_most = (
    int(power.prompts[power[column] >= 0.8].min())
    for column in ("told_apart", "hi", "lo")
)
run.metric("prompts_needed", needed, at_least, at_most, n=EXPERIMENTS, unit="prompts")
_, share, low, high = power[power.prompts == 200].iloc[0].tolist()
run.metric("told_apart_200_prompts", share, low, high, n=EXPERIMENTS)
print(f"{needed} prompts [{at_least}, {at_most}]")
power[power.prompts.isin([100, 200, 400, 800, 1600])].round(3)

# %% [markdown]
# Two things make life easier than this. When both policies answer the same prompts, the difference can be
# taken prompt by prompt, which removes what the two have in common. And when a claim is about the average
# over languages, every prompt is judged 23 times, which helps by as much as the correlation leaves. To go
# on, set the parameter `prompts` to 1,000 and run the chapter again: does the naive interval get better?
# (It gets narrower, and so does the truth; the ratio of the two stays.)
#
# ## Summary
#
# - The paper trained one 8-billion-parameter model [P] on synthetic preference data in up to 23 languages [S],
#   offline with DPO and online with RLOO [Q], and reported win rates under a language-model judge [S].
# - The figures that carry its own word are 54.4 % and 69.5 % or more [V], and the contrasts 46.4 % to 53.4 %
#   and 43.8 % against 54.4 % [Q]. Most settings are unknown; the book makes them parameters.
# - C1 to C10 are the claims under test, O1 to O3 the open questions, K1 to K3 the checks.
# - Method and source of data, new preferences and old lessons, number of languages and data per language,
#   policy and base are mixed together in the figures; each gets a control.
# - Judgements of one prompt in many languages are not independent. Intervals that forget it are too
#   narrow, and nothing in them shows it.
#
# ## What's next
#
# Chapter 02 looks at the 23 languages themselves: their scripts, how many tokens each of them costs, and why
# that decides who gets cut off at a length limit.

# %%
_ = run.save()
