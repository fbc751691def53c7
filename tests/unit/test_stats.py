"""Intervals: what they are worth, and what they do at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlpo.evaluate import stats


@pytest.mark.parametrize(("prompts", "languages"), [(10, 8), (40, 1)])
def test_clustered_interval_covers_where_the_naive_one_does_not(prompts, languages):
    rng = np.random.default_rng(7)
    hits = naive_hits = 0
    for _ in range(300):
        values = rng.normal(size=prompts)[:, None] + rng.normal(size=(prompts, languages)) * 0.7
        names = np.repeat([str(i) for i in range(prompts)], languages)
        e = stats.clustered_mean(list(values.ravel()), list(names), resamples=400)
        hits += e.lo <= 0 <= e.hi
        half = 1.96 * values.std(ddof=1) / math.sqrt(values.size)
        naive_hits += abs(values.mean()) <= half
    assert 0.91 <= hits / 300 <= 0.985
    if languages > 1:
        assert naive_hits / 300 < 0.8


def test_swapping_sides_turns_everything_round():
    d = list(np.random.default_rng(0).normal(size=40))
    names = [str(i % 10) for i in range(40)]
    one, other = stats.win_rate(d, names, 0.2), stats.win_rate([-x for x in d], names, 0.2)
    assert one.win.value == other.loss.value
    assert one.tie.value == other.tie.value
    assert one.delta.value == pytest.approx(-other.delta.value)
    assert one.win.value + one.tie.value + one.loss.value == pytest.approx(1)


def test_order_of_rows_does_not_matter():
    d, names = [0.1, 0.4, -0.2, 0.9], ["a", "b", "a", "b"]
    one, other = stats.clustered_mean(d, names), stats.clustered_mean(d[::-1], names[::-1])
    assert (one.value, one.lo, one.hi) == pytest.approx((other.value, other.lo, other.hi))


def test_all_ties():
    w = stats.win_rate([0.0] * 6, list("aabbcc"), margin=0.1)
    assert (w.win.value, w.tie.value, w.delta.value) == (0, 1, 0)
    assert w.delta.lo < -0.3 and w.delta.hi > 0.3  # three prompts say little  # noqa: PT018


def test_full_agreement_is_not_certainty():
    e = stats.clustered_share([True] * 40, [str(i % 10) for i in range(40)])
    assert e.value == e.hi == 1
    assert e.lo == pytest.approx(0.722, abs=0.001)  # Wilson, 10 of 10 prompts


def test_one_prompt_has_no_interval():
    e = stats.clustered_mean([1.0, 2.0], ["a", "a"])
    assert e.value == 1.5
    assert math.isnan(e.lo)
    assert math.isnan(e.hi)
