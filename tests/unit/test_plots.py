"""Figures from runs made up here: they draw, fit the page, and their alternative texts carry the numbers."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from mlpo import MlpoError, paths, plots, results
from mlpo.corruptions import KINDS
from mlpo.languages import LANGUAGES

POLICIES = ("base_again", "best_of_4", "dpo", "dpo_EN-1", "dpo_ML-23", "dpo_ML-5", "rloo", "rloo_ML-23")
ALL = [*LANGUAGES, "seen", "unseen", None]
VERDICTS = ("supported", "not supported", "inconclusive at this scale", "not testable: needs models larger than fit here")


def _in(name: str, part: str | None) -> str:
    return name if part is None else f"{name}[{part}]"


def _write(run_id: str, payload: dict[str, results.Metric], parameters: dict, **tables: pd.DataFrame) -> None:
    folder = paths.RESULTS / run_id
    folder.mkdir(parents=True)
    made = {"inputs": [], "timing": {}, "environment": {}, "parameters": {"profile": "cpu", **parameters}}
    manifest = results.Manifest(run_id=run_id, kind="chapter", key="k", payload=dict(sorted(payload.items())), **made)
    (folder / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf-8")
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A results folder with every run that a figure is drawn from."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    draw = np.random.default_rng(0)

    def metric(value: float, half: float, low: float = -9, high: float = 9, n: int = 100) -> results.Metric:
        value = float(np.clip(value, low, high))
        return results.Metric(value=value, lo=max(low, value - half), hi=min(high, value + half), n=n)

    main: dict[str, results.Metric] = {}
    for policy, part in itertools.product(POLICIES, ALL):
        half, shift = (0.2 if part in LANGUAGES else 0.05), 0.0 if policy == "base_again" else 0.2
        main[_in(f"difference_{policy}", part)] = metric(draw.normal(shift, 0.15), half)
        main[_in(f"delta_{policy}", part)] = metric(draw.normal(shift, 0.1), half, -1, 1)
    for policy, shares in zip(POLICIES, draw.dirichlet((2, 2, 0.8), len(POLICIES)), strict=True):
        main |= {f"{p}_{policy}": metric(s, 0.05, 0, 1) for p, s in zip(("win", "tie", "loss"), shares, strict=True)}
    _write("main", main, {})
    few = {k: m for k, m in main.items() if re.fullmatch(r"(difference|delta)_(dpo|rloo|base_again)(\[..\])?", k)}
    _write("few", few, {})

    judges = [
        {
            "judge": judge,
            "kind": kind,
            "lang": lang,
            "n": 20,
            **dict(zip(("value", "lo", "hi"), (v, v - h, min(1, v + h)), strict=True)),
        }
        for judge, kind, lang in itertools.product(("embedded", "reward"), (*KINDS, "weaker model"), LANGUAGES)
        for v, h in [(float(np.clip(draw.normal(0.93, 0.12), 0.3, 1)), 0.12)]
    ]
    names = ("empty", "constant", "copied prompt", "injected verdict", "reference of another language", "padding")
    fell = {
        f"fell[{judge}, {guard}, {name}]": metric(draw.uniform(0, 0.2 if guard == "after" else 0.9), 0.08, 0, 1, 460)
        for judge, guard, name in itertools.product(("embedded", "reward"), ("before", "after"), names)
    }
    fell |= {f"fell[{judge}, {guard}]": metric(0.3, 0.05) for judge in ("embedded", "reward") for guard in ("before", "after")}
    _write("judges", fell, {}, validity_summary=pd.DataFrame(judges))

    kinds = (*KINDS, "base's answer")
    reward = {_in("accuracy", part): metric(draw.normal(0.9, 0.06), 0.06, 0, 1) for part in (*kinds, *LANGUAGES, None)}
    reward |= {f"accuracy_{f}[{k}]": metric(draw.normal(0.85, 0.08), 0.06, 0, 1) for f in plots.FITS for k in kinds}
    predicted = np.arange(0.525, 1, 0.05)
    right = np.clip(predicted + draw.normal(0, 0.04, 10) - 0.03, 0.4, 0.99)
    bins = {"bin_lo": predicted - 0.025, "bin_hi": predicted + 0.025, "predicted": predicted, "right": right}
    bins |= {"lo": right - 0.06, "hi": np.minimum(1, right + 0.06), "n": np.linspace(30, 900, 10).astype(int)}
    _write("reward", reward, {"held_out": ["repetition", "shuffled words"]}, calibration=pd.DataFrame(bins))

    settings = itertools.product(
        ("score", "win rate", "delta", "score, ignored"), (10, 20, 40, 100), (5, 23), (0.0, 0.2, 0.5), (0.1, 0.5)
    )
    cover = pd.DataFrame(list(settings), columns=["outcome", "prompts", "languages", "correlation", "ties"])
    base = np.where(cover["outcome"].str.contains("ignored"), 0.95 - 0.6 * cover["correlation"], 0.95)
    cover["covered"] = np.clip(base + draw.normal(0, 0.008, len(cover)), 0, 1)
    _write(
        "coverage",
        {},
        {},
        coverage=cover.assign(lo=cover.covered - 0.01, hi=cover.covered + 0.01, runs=2000, width=0.2, finite=1.0),
    )

    claims = {f"claim[C{i}]": metric(draw.normal(0.1, 0.2), draw.uniform(0.05, 0.25)) for i in range(1, 13)}
    _write("claims", claims, {"verdicts": {f"C{i}": VERDICTS[i % 4] for i in range(1, 13)}})
    rouge = {
        _in(f"rouge_{side}", part): metric(draw.normal(0.25, 0.04), 0.03, 0, 1) for side in ("base", "dpo", "sft") for part in ALL
    }
    _write("sums", rouge, {})


# figure, run, labels of the vertical axis, what the alternative text must say
FIGURES = [
    ("score_change", "few", 24, r"DPO: en English [+−]?\d.\d\d .*\| base again: en English"),
    ("score_change", "main", 24, r"DPO ML-23: en English"),
    ("by_language", "few", 24, r"zh Chinese [+−]?0"),
    ("heat_map", "main", 8, r"DPO ML-23: .*all [+−]?0.\d"),
    ("heat_map", "few", 3, r"base again: "),
    ("win_rates", "main", 8, r"DPO ML-5: win \d+%, tie \d+%, loss \d+%, wins minus losses [+−]?0"),
    ("seen_unseen", "main", 8, r"unseen: .*DPO ML-23 [+−]?0"),
    ("forest", "claims", 12, r"C12 [+−]?\d.*: supported"),
    ("validity_embedded", "judges", 8, r"embedded judge is valid in \d+ of 23 languages; not in: \w\w "),
    ("validity_reward", "judges", 8, r"reward judge is valid in \d+ of 23"),
    ("attacks", "judges", 14, r"after the defence: .*injected verdict, reward 0"),
    ("reward_kinds", "reward", 8, r"held out of training: .*shuffled words 0.\d+ \["),
    ("reward_languages", "reward", 24, r"uk Ukrainian 0.\d+ \["),
    ("reward_fits", "reward", 7, r"without base's answers.*repetition 0.\d+ \["),
    ("calibration", "reward", None, r"predicted 0.53, right 0.\d+ \[0.\d+, 0.\d+\], n = 30"),
    ("coverage", "coverage", None, r"score, ignored, 100 prompts: 0.\d+ to 0.\d+"),
    ("rouge", "sums", 24, r"DPO: en English 0.\d+ \["),
]


@pytest.mark.parametrize(("function", "run_id", "labels", "says"), FIGURES)
def test_figures_fit_the_page_and_say_their_values(runs, function, run_id, labels, says):
    figure = getattr(plots, function)([run_id], where="recorded")
    figure.draw_without_rendering()
    ticks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels in (None, len(ticks))
    assert all(ticks)
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    assert box.x0 > -0.05
    assert box.x1 < width + 0.05
    assert box.y0 > -0.05
    assert box.y1 < height + 0.05
    assert width == 7.2
    assert height < 12
    assert re.search(says, figure.alt), figure.alt


def test_groups_stand_together_and_all_comes_last(runs):
    figure = plots.by_language(["few"], where="recorded", metric="delta", rows=["dpo"], group="resource")
    rows = [text.get_text()[:2] for text in figure.axes[0].get_yticklabels()]
    levels = [LANGUAGES[row].resource for row in rows[:-1]]
    assert levels == sorted(levels)
    assert rows[-1] == "al"
    assert [text.get_text() for text in figure.axes[0].child_axes[0].get_yticklabels()] == ["high", "mid", ""]


def test_a_kind_without_pairs_makes_a_judge_not_valid(runs):
    path = paths.RESULTS / "judges" / "validity_summary.parquet"
    table = pd.read_parquet(path).assign(value=0.9, lo=0.8, hi=1.0)
    table[(table["lang"] != "en") | (table["kind"] != "truncation")].to_parquet(path)
    alt = plots.validity_embedded(["judges"], where="recorded").alt
    assert "valid in 22 of 23 languages; not in: en English (kinds without pairs)" in alt


def test_a_missing_run_is_named(runs):
    with pytest.raises(MlpoError, match="No run 'nowhere' to draw"):
        plots.heat_map(["nowhere"], where="recorded")
