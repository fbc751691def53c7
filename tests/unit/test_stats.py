"""Intervals: what they are worth, and what they do at the edges."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy import stats as distributions

from mlpo import paths, results
from mlpo.errors import MlpoError
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


GOLDEN = [0.1, 0.4, -0.2, 0.9], ["a", "b", "a", "b"]


def test_recorded_results_rest_on_these_numbers():
    e = stats.clustered_mean(*GOLDEN)
    assert (e.value, e.lo, e.hi) == pytest.approx((0.3, -2.9088602250217015, 3.5088602250217016), rel=1e-12)


rows = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([-1.5, -0.3, 0.0, 0.1, 0.7, 2.0])), min_size=1, max_size=30)


@settings(max_examples=25, deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_properties_of_any_rows(given_rows, random):
    names, values = [name for name, _ in given_rows], [value for _, value in given_rows]
    n = len(set(names))
    w, swapped = stats.win_rate(values, names, 0.2), stats.win_rate([-x for x in values], names, 0.2)
    assert (w.win.value, w.tie.value) == (swapped.loss.value, swapped.tie.value)
    assert (w.win.lo, w.win.hi) == pytest.approx((swapped.loss.lo, swapped.loss.hi), nan_ok=True)
    for e in (w.win, w.tie, w.loss):
        assert math.isnan(e.lo) or 0 <= e.lo <= e.value <= e.hi <= 1
    assert stats.p_value(values, names) == pytest.approx(stats.p_value([-x for x in values], names))
    order = random.sample(range(len(names)), len(names))
    shuffled, other_names = [values[i] for i in order], [names[i] for i in order]
    for of in (stats.clustered_mean, lambda v, c: stats.clustered_share([x > 0 for x in v], c)):
        one, other = of(values, names), of(shuffled, other_names)
        assert (one.value, one.lo, one.hi) == pytest.approx((other.value, other.lo, other.hi), nan_ok=True)
    assert stats.p_value(values, names) == pytest.approx(stats.p_value(shuffled, other_names))
    assert math.isnan(stats.clustered_mean(values, names).lo) == (n == 1)
    assert math.isnan(stats.detectable(values, names)) == (n == 1)


def test_one_row_has_a_value_and_no_interval():
    assert stats.kappa(["A"], ["B"], ["p"]).value == 0
    for e in (
        stats.clustered_mean([2.0], ["p"]),
        stats.kappa(["A"], ["B"], ["p"]),
        stats.rank_correlation([1.0], [2.0], ["p"]),
        stats.at_equal_length([1.0], [0.3], ["p"]),
    ):
        assert math.isnan(e.lo)
        assert math.isnan(e.hi)
    assert stats.p_value([2.0], ["p"]) == 1
    assert all(math.isnan(part) for part in stats.parts_of_variance([2.0], ["p"], ["0"]).values())
    with pytest.raises(MlpoError, match="aim lower"):
        stats.prompts_needed([2.0], ["p"], difference=1)


def test_p_value_is_the_t_test_of_prompt_means_and_agrees_with_the_interval():
    rng = np.random.default_rng(1)
    per_prompt = rng.normal(0.4, 1, 30)
    names = [f"p{i}" for i in range(30) for _ in range(4)]
    values = list(np.repeat(per_prompt, 4))
    assert stats.p_value(values, names) == pytest.approx(distributions.ttest_1samp(per_prompt, 0).pvalue)
    e = stats.clustered_mean(values, names)
    at_the_edge = stats.p_value([v - e.lo for v in values], names), stats.p_value([v - e.hi for v in values], names)
    assert at_the_edge == pytest.approx((0.05, 0.05), abs=0.02)
    assert stats.p_value([0.1] * 12, [str(i) for i in range(12)]) == 2.0**-11  # nothing varies: the sign test
    assert stats.p_value([0.0] * 4, list("aabb")) == 1


def test_holm_by_hand():
    # ordered .01 x 4, .02 x 3, .03 x 2 (0.06, kept up by what came before), .5 x 1
    assert stats.holm({"a": 0.03, "b": 0.01, "c": 0.5, "d": 0.02}) == pytest.approx({"a": 0.06, "b": 0.04, "c": 0.5, "d": 0.06})
    assert stats.holm({"a": 0.9, "b": 0.8}) == {"a": 1, "b": 1}
    assert stats.holm({}) == {}


def test_planning_there_and_back():
    rng = np.random.default_rng(2)
    names = [str(i) for i in range(20) for _ in range(5)]
    pilot = list(np.repeat(rng.normal(size=20), 5) + rng.normal(size=100))
    for difference in (0.1, 0.3, 2.0):
        n = stats.prompts_needed(pilot, names, difference=difference)
        assert stats.detectable(pilot, names, n) <= difference < stats.detectable(pilot, names, n - 1)
    assert stats.prompts_needed(pilot, names, difference=stats.detectable(pilot, names) + 1e-9) == 20
    half = np.ptp([stats.clustered_mean(pilot, names).lo, stats.clustered_mean(pilot, names).hi]) / 2
    assert stats.prompts_needed(pilot, names, half_width=half) == pytest.approx(20, abs=2)
    with pytest.raises(MlpoError, match="either"):
        stats.prompts_needed(pilot, names)


def test_the_detectable_difference_is_detected_with_its_power():
    rng = np.random.default_rng(3)
    names = [str(i) for i in range(30)]
    true = stats.detectable(list(distributions.zscore(rng.normal(size=30), ddof=1)), names)
    seen = [stats.p_value(list(rng.normal(true, 1, 30)), names) < 0.05 for _ in range(300)]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.06)


def test_parts_of_variance_are_recovered():
    rng = np.random.default_rng(4)
    parts = []
    for _ in range(100):
        table = rng.normal(0, 1, (12, 1, 1)) + rng.normal(0, 0.5, (1, 5, 1)) + rng.normal(0, 0.7, (12, 5, 3))
        p, s, _lang = np.indices(table.shape).reshape(3, -1)
        parts.append(stats.parts_of_variance(list(table.ravel()), [str(i) for i in p], [str(i) for i in s]))
    mean = {name: np.mean([part[name] for part in parts]) for name in parts[0]}
    assert mean == pytest.approx({"prompts": 1 / 12, "seeds": 0.25 / 5, "rest": 0.49 / 180}, rel=0.2)
    assert min(min(part.values()) for part in parts) >= 0
    with pytest.raises(MlpoError, match="lack a seed"):
        stats.parts_of_variance([1, 2, 3], list("aab"), list("010"))


def test_length_control_recovers_a_known_effect_and_is_silent_where_there_is_none():
    rng = np.random.default_rng(5)
    names = [str(i) for i in range(400) for _ in range(3)]
    x = rng.normal(0.4, 0.5, 1200)
    for level, slope in ((0.0, 1.5), (0.5, 0.0)):
        y = (rng.random(1200) < special.expit(level + slope * x)).astype(float)
        e, raw = stats.at_equal_length(y, x, names), stats.clustered_share(list(y), names)
        assert e.lo < special.expit(level) < e.hi
        assert e.hi - e.lo < 0.12
        assert (abs(e.value - raw.value) > 0.08) == (slope > 0)
        other = stats.at_equal_length(1 - y, -x, names)
        assert (e.value, e.lo, e.hi) == pytest.approx((1 - other.value, 1 - other.hi, 1 - other.lo))


@pytest.mark.parametrize(
    ("outcomes", "ratios"),
    [
        ([1, 1, 1, 1], [1, 2, 3, 4]),
        ([0, 0.5, 1, 1], [-2, -1, 0.5, 2]),
        ([1, 0, 1, 0], [0.5, 0.5, 0.5, 0.5]),
        ([1, 0, 1, 1], [0] * 4),
    ],
)
def test_length_control_without_a_finite_answer_says_nan(outcomes, ratios):
    e = stats.at_equal_length(outcomes, ratios, list("abcd"))
    assert all(math.isnan(x) for x in (e.value, e.lo, e.hi))


def test_length_control_of_ties_alone():
    e = stats.at_equal_length([0.5] * 4, [1, 2, -1, 0], list("abcd"))
    assert e.value == 0.5
    assert math.isnan(e.lo)


def test_kappa_by_hand():
    # 20 A/A, 5 A/B, 10 B/A, 15 B/B: agreement 0.7, by chance 0.5 (the textbook's example)
    a, b = ["A"] * 25 + ["B"] * 25, ["A"] * 20 + ["B"] * 5 + ["A"] * 10 + ["B"] * 15
    names = [str(i % 25) for i in range(50)]
    e = stats.kappa(a, b, names)
    assert e.value == pytest.approx(0.4)
    assert -1 <= e.lo < e.value < e.hi <= 1
    assert stats.kappa(b, a, names).value == pytest.approx(0.4)
    same = stats.kappa(a, a, names)
    assert same.value == 1
    assert math.isnan(same.lo)  # nothing varies
    assert math.isnan(stats.kappa(["tie"] * 4, ["tie"] * 4, list("abcd")).value)


def test_rank_correlation_by_hand():
    x, y = [1, 2, 3, 4, 5], [2, 1, 4, 3, 5]  # 1 - 6 x 4 / (5 x 24)
    e = stats.rank_correlation(x, y, list("abcde"))
    assert e.value == pytest.approx(0.8)
    assert -1 <= e.lo < e.value < e.hi == 1
    tied = stats.rank_correlation([1, 1, 2, 3], [10, 20, 20, 30], list("aabb"))
    assert tied.value == pytest.approx(distributions.spearmanr([1, 1, 2, 3], [10, 20, 20, 30]).statistic)
    assert math.isnan(stats.rank_correlation([1, 2, 3], [3, 2, 1], list("abc")).lo)
    assert math.isnan(stats.rank_correlation([1, 1, 1], [3, 2, 1], list("abc")).value)


@pytest.mark.parametrize(("share", "prompts"), [(0.5, 40), (0.95, 20)])
def test_shares_are_covered_where_a_bootstrap_fails(share, prompts):
    rng = np.random.default_rng(6)
    names = [f"{i:02d}" for i in range(prompts) for _ in range(23)]
    hits = bootstrap_hits = 0
    for _ in range(150):
        chance = rng.beta(share * 0.43, (1 - share) * 0.43, prompts)  # within-prompt correlation 0.7
        flags = (rng.random((prompts, 23)) < chance[:, None]).ravel()
        e, plain = stats.clustered_share(list(flags), names), stats.clustered_mean(list(flags), names, resamples=300)
        hits, bootstrap_hits = hits + (e.lo <= share <= e.hi), bootstrap_hits + (plain.lo <= share <= plain.hi)
    assert hits / 150 >= 0.9  # 0.96 and 0.975 in longer runs
    if share > 0.9:
        assert bootstrap_hits / 150 < 0.85


@pytest.mark.long
def test_recorded_coverage_is_reproduced():
    """The tool gives the recorded figures again. A mean's interval covers 0.93 to 0.97; one setting of 72 lies at 0.928."""
    spec = importlib.util.spec_from_file_location("coverage_tool", paths.ROOT / "tools" / "coverage.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    manifest = results.load("coverage")
    recorded = manifest.table("coverage")
    keys = ["prompts", "languages", "correlation", "ties"]
    for setting in ((10, 1, 0.0, 0.0), (10, 23, 0.0, 0.3), (10, 23, 0.7, 0.3), (40, 5, 0.3, 0.0)):
        again = tool.simulate(tool.SETTINGS.index(setting), manifest.parameters["runs"])
        some = recorded[(recorded[keys] == setting).all(axis=1)].set_index("outcome")
        assert {row["outcome"]: row["covered"] for row in again} == pytest.approx(some["covered"].to_dict(), abs=0.003)
    means = recorded[recorded.outcome == "mean"]
    assert len(means) == len(tool.SETTINGS)
    assert means.covered.between(0.93, 0.97).sum() >= 71
    assert ((means.hi >= 0.93) & (means.lo <= 0.97)).all()
    ignored = recorded[(recorded.outcome == "mean, prompts ignored") & (recorded.languages == 23) & (recorded.correlation > 0)]
    assert ignored.covered.max() < 0.75
