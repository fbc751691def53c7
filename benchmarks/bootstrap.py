"""The interval of 23 languages x 100 prompts with 10,000 resamples: `clustered_mean` against a plain loop over the resamples.

The loop gathers the rows of each resample and averages them, as one would write it first. Both draw the same prompts, and the
intervals are asserted equal. `python benchmarks/bootstrap.py [RESAMPLES [PROMPTS]]`, smaller numbers to see that it runs.
"""

import resource
import sys
import time

import numpy as np
from scipy import stats as distributions

from mlpo.evaluate import stats

RESAMPLES, PROMPTS = [*map(int, sys.argv[1:3]), *(10_000, 100)[len(sys.argv[1:3]) :]]
LANGUAGES, REPEATS = 23, 5
rng = np.random.default_rng(0)
VALUES = list((rng.normal(size=PROMPTS)[:, None] + rng.normal(size=(PROMPTS, LANGUAGES))).ravel())
NAMES = [f"{i:03d}" for i in range(PROMPTS) for _ in range(LANGUAGES)]


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seconds(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def vectorised() -> tuple[float, float]:
    e = stats.clustered_mean(VALUES, NAMES, resamples=RESAMPLES)
    return e.lo, e.hi


def plain() -> tuple[float, float]:
    rows: dict[str, list[float]] = {}
    for name, value in zip(NAMES, VALUES, strict=True):
        rows.setdefault(name, []).append(value)
    names = sorted(rows)
    means = []
    for draw in np.random.default_rng(0).integers(0, len(names), (RESAMPLES, len(names))):
        drawn = [value for i in draw for value in rows[names[i]]]
        means.append(sum(drawn) / len(drawn))
    n, mean = len(names), sum(VALUES) / len(VALUES)
    widen = distributions.t.ppf(0.975, n - 1) / distributions.norm.ppf(0.975) * np.sqrt(n / (n - 1))
    lo, hi = mean + (np.quantile(means, [0.025, 0.975]) - mean) * widen
    return float(lo), float(hi)


before, ours, theirs = memory_mb(), [], []
for _ in range(REPEATS):
    mine, took = seconds(vectorised)
    ours.append(took)
    if len(ours) == 1:
        print(f"{RESAMPLES:,} resamples: memory grew by {memory_mb() - before:.0f} MB", flush=True)
    same, took = seconds(plain)
    theirs.append(took)
    np.testing.assert_allclose(mine, same, rtol=1e-9)
ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
middle = REPEATS // 2
print(
    f"{sorted(ours)[middle]:.3f} s ({min(ours):.3f} to {max(ours):.3f}), plain loop {sorted(theirs)[middle]:.2f} s "
    f"({min(theirs):.2f} to {max(theirs):.2f}); the loop takes {ratios[middle]:.0f} times as long "
    f"({ratios[0]:.0f} to {ratios[-1]:.0f})"
)
