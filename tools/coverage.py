"""How often the intervals of `mlpo.evaluate.stats` hold the truth, on simulated matches whose truth is known.

    python tools/coverage.py [--runs 1000] [--jobs 1]

72 settings: prompts x languages x within-prompt correlation x tie rate. A run draws one score difference for each prompt and
language: normal, standard deviation 1, correlated within a prompt. Writes results/coverage; the same seed, the same numbers.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
import typer
from scipy import optimize, special
from scipy import stats as distributions

from mlpo import paths, results
from mlpo.evaluate import stats
from mlpo.models import digest

SHIFT, SLOPE, LENGTH = 0.3, 0.8, (0.2, 0.4)  # mean difference; effect of the log length ratio, its mean and deviation
SETTINGS = list(itertools.product((10, 20, 40, 100), (1, 5, 23), (0.0, 0.3, 0.7), (0.0, 0.3)))
RESAMPLES, LENGTH_RUNS, SEED = 400, 200, 0  # the book draws 4,000 resamples; the regression is slow and has fewer runs


def margin(ties: float, below: Callable[[float], float]) -> float:
    """The margin within which a share `ties` of differences lies, `below` being their distribution function."""
    return optimize.brentq(lambda m: below(m) - below(-m) - ties, 0, 9) if ties else 0.0


def length_controlled_truth(ties: float) -> tuple[float, float]:
    """Margin, and the win rate at equal length to which the regression tends as matches grow without end.

    With ties as halves the curve is not exactly logistic; then it is the regression on the exact expected outcomes.
    """
    if not ties:
        return 0.0, float(special.expit(SHIFT))
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights, x = weights / weights.sum(), LENGTH[0] + LENGTH[1] * nodes
    better = SHIFT + SLOPE * x
    m = margin(ties, lambda cut: float(weights @ special.expit(cut - better)))
    expected = (special.expit(better - m) + special.expit(better + m)) / 2
    fit = sm.GLM(expected, sm.add_constant(x), family=sm.families.Binomial(), var_weights=weights).fit()
    return m, float(special.expit(fit.params[0]))


def naive(values: np.ndarray) -> stats.Estimate:
    """The interval that takes all rows for independent."""
    mean, half = values.mean(), distributions.norm.ppf(0.975) * values.std(ddof=1) / math.sqrt(len(values))
    return stats.Estimate(mean, mean - half, mean + half, len(values), len(values))


def wins_minus_losses(sign: np.ndarray, names: np.ndarray) -> stats.Estimate:
    """As `win_rate` has it, with fewer resamples."""
    e = stats.clustered_mean(sign, names, resamples=RESAMPLES)
    return stats._within(e, -1, 1) if e.lo < e.hi else stats.win_rate(sign, names, 0.5).delta


def simulate(index: int, runs: int) -> list[dict[str, Any]]:
    """Coverage of each outcome in one setting; intervals that are not finite are counted in `finite` and left out."""
    prompts, languages, correlation, ties = SETTINGS[index]
    rng = np.random.default_rng([SEED, index])
    names = np.repeat([f"{i:03d}" for i in range(prompts)], languages)
    m = margin(ties, lambda cut: float(special.ndtr(cut - SHIFT)))
    m_length, at_equal_length = length_controlled_truth(ties)
    won, lost = float(special.ndtr(SHIFT - m)), float(special.ndtr(-m - SHIFT))
    truths = {"mean": SHIFT, "mean, prompts ignored": SHIFT, "wins minus losses": won - lost, "share": won}
    truths |= {"share near 1": 0.95, "equal length": at_equal_length}
    intervals: dict[str, list[tuple[float, float]]] = {outcome: [] for outcome in truths}

    def noise() -> np.ndarray:
        shared, own = rng.normal(size=prompts), rng.normal(size=prompts * languages)
        return math.sqrt(correlation) * np.repeat(shared, languages) + math.sqrt(1 - correlation) * own

    def keep(outcome: str, e: stats.Estimate) -> None:
        intervals[outcome].append((e.lo, e.hi))

    for run in range(runs):
        z, x = noise(), LENGTH[0] + LENGTH[1] * noise()
        score = SHIFT + z
        sign = np.where(np.abs(score) < m, 0, np.sign(score))
        keep("mean", stats.clustered_mean(score, names, resamples=RESAMPLES))
        keep("mean, prompts ignored", naive(score))
        keep("wins minus losses", wins_minus_losses(sign, names))
        keep("share", stats.clustered_share(sign == 1, names))
        keep("share near 1", stats.clustered_share(z > special.ndtri(0.05), names))
        if run < LENGTH_RUNS:
            score = SHIFT + SLOPE * x + special.logit(special.ndtr(z))
            outcomes = np.where(np.abs(score) < m_length, 0.5, score > 0)
            keep("equal length", stats.at_equal_length(outcomes, x, names))
    rows = []
    for outcome, truth in truths.items():
        lo, hi = np.array(intervals[outcome]).T
        finite = np.isfinite(lo)
        hits, n = int(((lo <= truth) & (truth <= hi)).sum()), int(finite.sum())
        ci = distributions.binomtest(hits, n).proportion_ci(method="wilson")
        setting = {"prompts": prompts, "languages": languages, "correlation": correlation, "ties": ties}
        measured = {"covered": hits / n, "lo": float(ci.low), "hi": float(ci.high), "runs": n}
        rows.append({"outcome": outcome, **setting, **measured, "width": float((hi - lo)[finite].mean()), "finite": n / len(lo)})
    return rows


def record(table: pd.DataFrame, runs: int, started: float) -> Path:
    """Write table and manifest: the worst and the best coverage of each outcome, over all settings and by prompts."""
    paths.write_parquet(paths.RESULTS / "coverage" / "coverage.parquet", table)
    spans = table.groupby(["outcome", "prompts"])["covered"].agg(lambda some: f"{some.min():.3f} to {some.max():.3f}").unstack()
    wide = spans.rename(columns=lambda prompts: f"{prompts} prompts").reset_index()
    paths.write_parquet(paths.RESULTS / "coverage" / "by_prompts.parquet", wide)
    from recorded import _record

    payload = {}
    groups = [(str(name), some) for name, some in table.groupby("outcome")]
    groups += [(f"{name}, {prompts} prompts", some) for (name, prompts), some in table.groupby(["outcome", "prompts"])]
    for label, some in groups:
        for end, place in (("min", some["covered"].idxmin()), ("max", some["covered"].idxmax())):
            row = some.loc[place]
            metric = results.Metric(value=row["covered"], lo=row["lo"], hi=row["hi"], n=int(row["runs"]))
            payload[f"coverage_{end}[{label}]"] = metric
    parameters = {"runs": runs, "resamples": RESAMPLES, "length_runs": min(runs, LENGTH_RUNS), "seed": SEED}
    parameters |= {"settings": len(SETTINGS), "shift": SHIFT, "slope": SLOPE, "log_length_ratio": list(LENGTH)}
    return _record("coverage", "simulation", digest(parameters), [], parameters, payload, started)


def main(runs: int = 1000, jobs: int = 1) -> None:
    """Simulate all settings and record them in results/coverage."""
    started = time.monotonic()
    task, table = partial(simulate, runs=runs), []
    with ProcessPoolExecutor(jobs) as pool:
        for rows in pool.map(task, range(len(SETTINGS))):
            table += rows
            print(f"{len(table) // len(rows)} of {len(SETTINGS)} settings, {time.monotonic() - started:.0f} s", flush=True)
    print(record(pd.DataFrame(table), runs, started))


if __name__ == "__main__":
    typer.run(main)
