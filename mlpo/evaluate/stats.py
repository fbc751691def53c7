"""Intervals that hold when the same prompts recur in every language: everything is clustered by prompt."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from mlpo.errors import MlpoError

Values = Sequence[float]
Clusters = Sequence[str]  # the prompt of each value


@dataclass(frozen=True)
class Estimate:
    """`n` counts single comparisons, `clusters` the prompts they came from. `lo`, `hi`: interval at `level`."""

    value: float
    lo: float
    hi: float
    n: int
    clusters: int
    level: float = 0.95


def _index(clusters: Clusters) -> tuple[NDArray[np.intp], int]:
    """The number of each row's cluster, and how many clusters there are."""
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    return index, len(names)


def _bootstrap(
    statistic: Callable, value: float, rows: int, n: int, level: float = 0.95, resamples: int = 4000, seed: int = 0
) -> Estimate:
    """`value` with an interval from `statistic`, which turns drawn clusters (resamples, n) into one number a resample.

    With few clusters a plain percentile interval is too narrow: its distance from the value is widened by
    t / z x sqrt(n / (n - 1)) for n clusters. With one cluster, or no value, the interval is unknown (nan).
    """
    if n < 2 or math.isnan(value):
        return Estimate(value, math.nan, math.nan, rows, n, level)
    draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
    tail = (1 - level) / 2
    widen = stats.t.ppf(1 - tail, n - 1) / stats.norm.ppf(1 - tail) * np.sqrt(n / (n - 1))
    lo, hi = value + (np.nanquantile(statistic(draws), [tail, 1 - tail]) - value) * widen
    return Estimate(value, float(lo), float(hi), rows, n, level)


def clustered_mean(values: Values, clusters: Clusters, level: float = 0.95, resamples: int = 4000, seed: int = 0) -> Estimate:
    """Mean of `values` with a bootstrap interval over `clusters` (prompts), which are drawn whole (see `_bootstrap`).

    All rows of a prompt belong to one cluster, whatever their language or training seed. The interval then speaks of other
    prompts under the same seeds; what other seeds would add is in `parts_of_variance`.
    """
    array = np.asarray(values, float)
    index, n = _index(clusters)
    sums, counts = np.bincount(index, array), np.bincount(index)
    means = lambda draws: sums[draws].sum(1) / counts[draws].sum(1)
    return _bootstrap(means, float(array.mean()), len(array), n, level, resamples, seed)


def _variance(values: Values, clusters: Clusters) -> tuple[float, float, int]:
    """Mean, its cluster-robust variance with the small-sample factor n / (n - 1) (nan for one cluster), and n clusters."""
    array = np.asarray(values, float)
    index, n = _index(clusters)
    mean = float(array.mean())
    squares = float((np.bincount(index, array - mean) ** 2).sum())
    return mean, squares / len(array) ** 2 * n / (n - 1) if n > 1 else math.nan, n


def clustered_share(flags: Sequence[bool | float], clusters: Clusters) -> Estimate:
    """Share of true flags with Wilson's interval for the effective number of independent flags (coverage: results/coverage).

    That number is share x (1 - share) / cluster-robust variance, between the number of clusters and that of flags. It is
    known the less, the fewer clusters hold the rarer flag; so it is averaged (harmonically, weighted by that count) with
    the number of clusters (weight 1), which alone is left where all flags agree. nan for one prompt with both flags.
    """
    from statsmodels.stats.proportion import proportion_confint

    array = np.asarray(flags, float)
    index, n = _index(clusters)
    value, variance, _ = _variance(flags, clusters)
    spread = value * (1 - value)
    rarer = len(np.unique(index[array == (value < 0.5)]))
    inverse = float(np.clip(variance / spread, 1 / len(array), 1 / n)) if spread else 1 / n
    effective = (rarer + 1) / (rarer * inverse + 1 / n)
    lo, hi = proportion_confint(value * effective, effective, method="wilson")
    return _within(Estimate(value, float(lo), float(hi), len(array), n), 0, 1)


def _within(e: Estimate, low: float, high: float) -> Estimate:
    return replace(e, lo=float(np.clip(e.lo, low, high)), hi=float(np.clip(e.hi, low, high)))


@dataclass(frozen=True)
class WinRate:
    """Shares of comparisons won, tied and lost; ties are counted apart, as in the paper. `delta` = wins - losses."""

    win: Estimate
    tie: Estimate
    loss: Estimate
    delta: Estimate


def win_rate(differences: Values, clusters: Clusters, margin: float) -> WinRate:
    """Win / tie / loss of the first side from score differences; |difference| < margin is a tie."""
    array = np.asarray(differences, float)
    sign = np.where(np.abs(array) < margin, 0, np.sign(array))
    win, tie, loss = (clustered_share(list(sign == which), clusters) for which in (1, 0, -1))
    delta = _within(clustered_mean(list(sign), clusters), -1, 1)
    if delta.lo == delta.hi:  # nothing varied: what the shares leave open, wins minus losses leave open too
        delta = replace(delta, lo=win.lo - loss.hi, hi=win.hi - loss.lo)
    return WinRate(win, tie, loss, delta)


def p_value(values: Values, clusters: Clusters) -> float:
    """Two-sided p-value of a mean of 0: t test with cluster-robust variance, n - 1 degrees for n clusters. Where all values
    are the same it is not 0 but that of the sign test over prompts, 2^(1 - n); for a single prompt 1."""
    mean, variance, n = _variance(values, clusters)
    if n < 2 or variance <= (1e-12 * mean) ** 2:
        return 1.0 if mean == 0 else 2.0 ** (1 - n)
    return float(2 * stats.t.sf(abs(mean) / math.sqrt(variance), n - 1))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p-values adjusted by Holm for being looked at together (family-wise error), under the same names."""
    from statsmodels.stats.multitest import multipletests

    return dict(zip(p, multipletests(list(p.values()), method="holm")[1].tolist(), strict=True))


def at_equal_length(outcomes: Values, log_length_ratios: Values, clusters: Clusters) -> Estimate:
    """Win rate (ties count half) predicted for two answers of equal length; wins minus losses are 2 x win rate - 1.

    `outcomes`: 1 win, 0.5 tie, 0 loss; `log_length_ratios`: log(own length / other's length). A logistic regression on the
    log ratio is read off at 0, its interval cluster-robust (t with n - 1 degrees). This is the idea of length-controlled
    AlpacaEval (arXiv 2404.04475) with length alone: the difficulties of instructions that it adds exist for its own prompts
    only. It is not causal: it does not say how an answer would fare had it been made shorter. nan where there is no finite
    answer (one prompt; a ratio that splits wins from losses; lengths that do not vary); among ties alone no interval.
    """
    import statsmodels.api as sm

    y, x = np.asarray(outcomes, float), np.asarray(log_length_ratios, float)
    index, n = _index(clusters)
    won, lost, tied = x[y > 0], x[y < 1], bool((y == 0.5).all())  # a tie is half won and half lost
    if n < 2 or tied or not (len(won) and len(lost) and won.max() > lost.min() and lost.max() > won.min()):
        return Estimate(0.5 if tied else math.nan, math.nan, math.nan, len(y), n)
    fit = sm.GLM(y, sm.add_constant(x), family=sm.families.Binomial()).fit(cov_type="cluster", cov_kwds={"groups": index})
    half = stats.t.ppf(0.975, n - 1) * fit.bse[0]
    value, lo, hi = (float(special.expit(fit.params[0] + step)) for step in (0, -half, half))
    return Estimate(value, lo, hi, len(y), n)


def detectable(values: Values, clusters: Clusters, prompts: int | None = None, power: float = 0.8, level: float = 0.95) -> float:
    """Smallest true mean that a t test at `level` sees with this power on `prompts` prompts (default: as many as here), from
    pilot data with the same languages and seeds for each prompt as planned. nan for a single prompt."""
    from statsmodels.stats.power import TTestPower

    _, variance, n = _variance(values, clusters)
    effect = TTestPower().solve_power(nobs=prompts or n, power=power, alpha=1 - level) if min(n, prompts or n) > 1 else math.nan
    return float(effect) * math.sqrt(variance * n)


def prompts_needed(
    values: Values, clusters: Clusters, half_width: float | None = None, difference: float | None = None, power: float = 0.8
) -> int:
    """Prompts for a 95 % interval of +- `half_width`, or to see a true mean of `difference`, from pilot data as in `detectable`.
    MlpoError unless one of the two is given and less than a million prompts are enough."""
    if (half_width is None) == (difference is None):
        raise MlpoError("The number of prompts depends on the aim: give either `half_width` or `difference`.")
    _, variance, n = _variance(values, clusters)
    spread, aim, limit = math.sqrt(variance * n), abs(half_width or difference or 0), 1_000_000
    width = lambda k: stats.t.ppf(0.975, k - 1) * spread / k**0.5 if half_width else detectable(values, clusters, k, power)
    needed = 2 + bisect.bisect_left(range(2, limit), True, key=lambda k: bool(width(k) <= aim))
    if needed == limit:
        raise MlpoError(f"From {n} pilot prompts no number below a million is enough: aim lower, or take more pilot prompts.")
    return needed


def parts_of_variance(values: Values, prompts: Clusters, seeds: Sequence[str]) -> dict[str, float]:
    """What the choice of "prompts", of "seeds", and the "rest" (prompt by seed) each add to the variance of the mean: two-way
    random effects by the method of moments, never negative; a prompt's rows under a seed (languages) are averaged first.
    nan with one prompt or one seed, which tell nothing apart. MlpoError where a prompt lacks a seed."""
    import pandas as pd

    rows = pd.DataFrame({"value": np.asarray(values, float), "prompt": list(prompts), "seed": list(seeds)})
    table = rows.pivot_table(index="prompt", columns="seed", values="value").to_numpy()
    if np.isnan(table).any():
        raise MlpoError("The variance cannot be split: some prompts lack a seed; leave them out, or run the missing seeds.")
    n, s = table.shape
    if min(n, s) < 2:
        return dict.fromkeys(("prompts", "seeds", "rest"), math.nan)
    by_prompt, by_seed = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    rest = float(((table - by_prompt - by_seed + table.mean()) ** 2).sum() / ((n - 1) * (s - 1))) / (n * s)
    over = lambda means: max(0.0, float(means.var(ddof=1)) / means.size - rest)
    return {"prompts": over(by_prompt), "seeds": over(by_seed), "rest": rest}


def _over_rows(statistic: Callable[[NDArray], float], clusters: Clusters) -> Estimate:
    """A measure of agreement, computed anew on the rows of each of 1,000 resamples; no interval where nothing varies."""
    index, n = _index(clusters)
    members = [np.flatnonzero(index == i) for i in range(n)]
    resampled = lambda draws: np.array([statistic(np.concatenate([members[i] for i in draw])) for draw in draws])
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 where a side is constant
        e = _bootstrap(resampled, float(statistic(np.arange(len(index)))), len(index), n, resamples=1000)
    return _within(e, -1, 1) if e.hi - e.lo > 1e-9 else replace(e, lo=math.nan, hi=math.nan)


def kappa(a: Sequence[str], b: Sequence[str], clusters: Clusters) -> Estimate:
    """Cohen's kappa of two judges' outcomes on the same matches: 1 is full agreement (no interval), 0 what chance would give;
    nan where both always gave one and the same outcome."""
    labels, codes = np.unique([*a, *b], return_inverse=True)
    one, other = np.split(codes, 2)

    def of(rows: NDArray) -> float:
        counts = [np.bincount(side[rows], minlength=len(labels)) for side in (one, other)]
        chance = np.float64(counts[0] @ counts[1]) / len(rows) ** 2
        return (np.mean(one[rows] == other[rows]) - chance) / (1 - chance)

    return _over_rows(of, clusters)


def rank_correlation(x: Values, y: Values, clusters: Clusters) -> Estimate:
    """Spearman's rank correlation; perfect agreement has no interval; nan where a side is constant."""
    sides = np.asarray(x, float), np.asarray(y, float)
    return _over_rows(lambda rows: np.corrcoef(*(stats.rankdata(side[rows]) for side in sides))[0, 1], clusters)
