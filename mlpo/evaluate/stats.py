"""Intervals that hold when the same prompts recur in every language: everything is clustered by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """`n` counts single comparisons, `clusters` the prompts they came from. `lo`, `hi`: interval at `level`."""

    value: float
    lo: float
    hi: float
    n: int
    clusters: int
    level: float = 0.95


def clustered_mean(
    values: Sequence[float], clusters: Sequence[str], level: float = 0.95, resamples: int = 4000, seed: int = 0
) -> Estimate:
    """Mean of `values` with a bootstrap interval over `clusters` (prompts), which are drawn whole.

    With few clusters a plain percentile interval is too narrow: its distance from the mean is widened by
    t / z x sqrt(n / (n - 1)) for n clusters. With one cluster the interval is unknown (nan).
    """
    array = np.asarray(values, float)
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(index, array), np.bincount(index)
    mean, n = float(array.mean()), len(names)
    if n < 2:
        return Estimate(mean, float("nan"), float("nan"), len(array), n, level)
    draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    tail = (1 - level) / 2
    widen = stats.t.ppf(1 - tail, n - 1) / stats.norm.ppf(1 - tail) * np.sqrt(n / (n - 1))
    lo, hi = mean + (np.quantile(means, [tail, 1 - tail]) - mean) * widen
    return Estimate(mean, float(lo), float(hi), len(array), n, level)


def clustered_share(flags: Sequence[bool | float], clusters: Sequence[str]) -> Estimate:
    """Share of true flags, its interval kept inside 0 and 1.

    Where all flags agree a bootstrap has nothing to vary and would claim certainty; then Wilson's interval for as many
    independent trials as there are clusters is given.
    """
    e = clustered_mean([float(flag) for flag in flags], clusters)
    if e.value in (0, 1):
        ci = stats.binomtest(int(e.value) * e.clusters, e.clusters).proportion_ci(e.level, method="wilson")
        return replace(e, lo=float(ci.low), hi=float(ci.high))
    return _within(e, 0, 1)


def _within(e: Estimate, low: float, high: float) -> Estimate:
    return replace(e, lo=max(low, e.lo), hi=min(high, e.hi))


@dataclass(frozen=True)
class WinRate:
    """Shares of comparisons won, tied and lost; ties are counted apart, as in the paper. `delta` = wins - losses."""

    win: Estimate
    tie: Estimate
    loss: Estimate
    delta: Estimate


def win_rate(differences: Sequence[float], clusters: Sequence[str], margin: float) -> WinRate:
    """Win / tie / loss of the first side from score differences; |difference| < margin is a tie."""
    array = np.asarray(differences, float)
    sign = np.where(np.abs(array) < margin, 0, np.sign(array))

    win, tie, loss = (clustered_share(list(sign == which), clusters) for which in (1, 0, -1))
    delta = _within(clustered_mean(list(sign), clusters), -1, 1)
    if delta.lo == delta.hi:  # nothing varied: what the shares leave open, wins minus losses leave open too
        delta = replace(delta, lo=win.lo - loss.hi, hi=win.hi - loss.lo)
    return WinRate(win, tie, loss, delta)
