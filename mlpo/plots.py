"""Every figure of the book: pure functions of run ids. `figure.alt` says in words what the figure shows, values included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from mlpo import results
from mlpo.errors import MlpoError
from mlpo.languages import LANGUAGES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with every common colour vision.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#767676"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)


def label(lang: str) -> str:
    """Axis label of a language: code and English name, so that no font of another script is needed."""
    return f"{lang} {LANGUAGES[lang].name}" if lang in LANGUAGES else lang


def policy(name: str) -> str:
    """Label of a policy: "dpo" -> "DPO", "base_again" -> "base again"."""
    return name.upper() if name in ("dpo", "rloo") else name.replace("_", " ")


def _get(run_id: str, where: results.Where) -> results.Manifest:
    manifest = results.load(run_id, where)
    if manifest is None:
        raise MlpoError(f"No run {run_id!r} to draw: run its chapter first.")
    return manifest


def _figure(height: float, width: float = 7.2) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)
    plt.close(figure)  # returned, not shown twice
    return figure, axes


def _finish(figure: Figure, alt: str, metrics: Iterable[results.Metric] = ()) -> Figure:
    """Attach what the book reads from a figure: `alt`, and `n` where all its metrics have the same."""
    figure.alt = alt  # type: ignore[attr-defined]
    if len(sizes := {m.n for m in metrics}) == 1:
        figure.n = sizes.pop()  # type: ignore[attr-defined]
    # JupyterLab and the book read an image's alternative text from the metadata of its output.
    figure._repr_mimebundle_ = lambda include=None, exclude=None: ({}, {"image/png": {"alt": alt}})  # type: ignore[attr-defined]
    return figure


def _by_language(manifest: results.Manifest, name: str) -> dict[str, results.Metric]:
    """Metrics `name[lang]` by language, in the order of LANGUAGES; `name` itself, where recorded, comes last as "all"."""
    found = {lang: manifest.payload[f"{name}[{lang}]"] for lang in LANGUAGES if f"{name}[{lang}]" in manifest.payload}
    if name in manifest.payload:
        found["all"] = manifest.payload[name]
    return found


def dots(
    series: dict[str, dict[str, results.Metric]], xlabel: str, title: str, line: float | None = None, what: str = ""
) -> Figure:
    """Dot and interval per row, one colour a series; `line` marks the value that means "no difference"."""
    rows = list(dict.fromkeys(row for values in series.values() for row in values))
    figure, axes = _figure(0.9 + 0.26 * len(rows) * max(1.0, 0.62 * len(series)))
    said = []
    for index, (name, values) in enumerate(series.items()):
        shift = (index - (len(series) - 1) / 2) * 0.22
        y = [rows.index(row) + shift for row in values]
        x = [m.value for m in values.values()]
        low = [m.value - (m.lo if m.lo is not None else m.value) for m in values.values()]
        high = [(m.hi if m.hi is not None else m.value) - m.value for m in values.values()]
        marker = "osD^v<"[index % 6]
        axes.errorbar(x, y, xerr=[low, high], fmt=marker, color=COLOURS[index % 6], ms=5, lw=1.4, label=name)
        said.append(f"{name}: " + "; ".join(f"{label(r)} {results.format_metric(m)}" for r, m in values.items()))
    axes.set_yticks(range(len(rows)), [label(row) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    if "all" in rows:
        axes.axhline(rows.index("all") - 0.5, color=GREY, lw=0.6)
    if line is not None:
        axes.axvline(line, color=GREY, lw=0.8, ls="--")
    axes.set_xlabel(xlabel)
    axes.set_title(title, loc="left", fontsize=10)
    if len(series) > 1:
        figure.legend(frameon=False, fontsize=8, loc="outside lower left", ncols=4)
    drawn = [m for values in series.values() for row, m in values.items() if row != "all"]
    return _finish(figure, f"{what or title}. {' | '.join(said)}. Bars are 95 % intervals.", drawn)


def fertility(run_ids: Sequence[str], where: results.Where = "any") -> Figure:
    """Chapter 02: tokens for the same content relative to English, by language, for both tokenizers."""
    table = _get(run_ids[0], where).table("fertility")
    rows = table[table["lang"] != "en"].to_dict("records")
    series: dict[str, dict[str, results.Metric]] = {name: {} for name in table["tokenizer"].unique()}
    for row in rows:
        lo, hi = row["relative_lo"], row["relative_hi"]
        series[row["tokenizer"]][row["lang"]] = results.Metric(value=row["relative"], lo=lo, hi=hi, n=int(row["n"]))
    title = "What the same answer costs in tokens"
    what = "Tokens for the same content relative to English, by language and tokenizer"
    return dots(series, "tokens, English = 1", title, line=1.0, what=what)


def sft_compare(run_ids: Sequence[str], where: results.Where = "any") -> Figure:
    """Chapter 04: candidates for `base`, paired difference in bits per character of references from the first setting tried."""
    manifest = _get(run_ids[0], where)
    rows = {key[11:-1]: m for key, m in manifest.payload.items() if key.startswith("difference[")}
    rows = dict(sorted(rows.items(), key=lambda item: -item[1].value))
    return dots({"difference": rows}, "bits per character, against rank 16, rate 3e-4", "Candidates for base, dev", line=0.0)


def held_out_bits(run_ids: Sequence[str], where: results.Where = "any") -> Figure:
    """Chapter 04: bits per character of held-out references before and after SFT, by language."""
    manifest = _get(run_ids[0], where)
    series = {name: _by_language(manifest, f"bits_{name}") for name in ("pretrained", "base")}
    return dots(series, "bits per character of the reference, given its prompt", "What SFT changed, dev prompts and articles")


def translators(run_ids: Sequence[str], where: results.Where = "any") -> Figure:
    """Chapter 03: chrF of the few-shot and of the tuned translator, by target language."""
    manifest = _get(run_ids[0], where)
    names = {"few_shot": "few-shot, greedy", "tuned_greedy": "tuned, greedy", "tuned": "tuned, best of four"}
    series = {label: _by_language(manifest, f"chrf_{name}") for name, label in names.items()}
    return dots(series, "chrF (0 to 100)", "Translation from English, dev prompts", what="chrF by translator and language")


def chrf(run_ids: Sequence[str], where: results.Where = "any") -> Figure:
    """Chapter 03: chrF of machine translations against the seed set's own text, by target language, and of copying."""
    manifest = _get(run_ids[0], where)
    series = {"translation": _by_language(manifest, "chrf"), "copying the English": _by_language(manifest, "chrf_copy")}
    return dots(series, "chrF (0 to 100)", "Translation from English, dev prompts", what="chrF by target language")


def translated_wins(run_ids: Sequence[str], where: results.Where = "any") -> Figure:
    """Chapter 06: share of role pairs in which the reward model prefers the translated completion."""
    manifest = _get(run_ids[0], where)
    values = _by_language(manifest, "translated_wins")
    title = "How often the reward model prefers the translated answer to the native one"
    return dots({"translated wins": values}, "share of pairs", title, line=0.5)


def mixture_summary(summary: pd.DataFrame) -> Figure:
    """Card of a mixture: pairs by language, and how many of their chosen sides were translated. One row a language, with the
    columns "pairs" and "chosen translated" (a share)."""
    figure, axes = _figure(0.9 + 0.24 * len(summary), width=6.0)
    carried = summary["pairs"] * summary["chosen translated"]
    axes.barh(range(len(summary)), summary["pairs"] - carried, color=BLUE, height=0.6, label="chosen: native or policy")
    axes.barh(range(len(summary)), carried, left=summary["pairs"] - carried, color=ORANGE, height=0.6, label="chosen: translated")
    axes.set_yticks(range(len(summary)), [label(lang) for lang in summary.index])
    axes.invert_yaxis()
    axes.set_xlabel("pairs")
    figure.legend(frameon=False, fontsize=8, loc="outside lower left", ncols=2)
    said = "; ".join(f"{label(str(lang))} {int(row['pairs'])} pairs" for lang, row in summary.iterrows())
    return _finish(figure, f"Pairs by language: {said}.")


def reward_accuracy(run_ids: Sequence[str], where: results.Where = "any") -> Figure:
    """Chapter 05: accuracy of the reward model on dev, by kind of corruption."""
    manifest = _get(run_ids[0], where)
    kinds = {k[9:-1]: m for k, m in manifest.payload.items() if k.startswith("accuracy[") and k[9:-1] not in LANGUAGES}
    title = "Reward model: the reference scores above the corrupted answer"
    return dots({"accuracy": kinds}, "share of dev pairs ranked right", title, line=0.5)


def training(run_ids: Sequence[str], where: results.Where = "any") -> Figure:
    """Chapters 07 and 08: what was logged at each step, one panel a quantity."""
    manifest = _get(run_ids[0], where)
    log = manifest.table("log")
    names = [name for name in log.columns if name != "step"]
    figure, axes = plt.subplots(1, len(names), figsize=(7.2, 2.5), layout="constrained")
    plt.close(figure)
    said = []
    for axis, name in zip(np.atleast_1d(axes), names, strict=True):
        some = log[["step", name]].dropna()
        axis.plot(some["step"], some[name], color=BLUE, lw=1.4, marker="o", ms=2.5)
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_xlabel("optimisation step")
        axis.spines[["top", "right"]].set_visible(False)
        if len(some):
            said.append(f"{name} goes from {some[name].iloc[0]:.3g} to {some[name].iloc[-1]:.3g}")
    return _finish(figure, f"Training of {manifest.run_id} over {len(log)} steps: {'; '.join(said)}.")


def score_change(run_ids: Sequence[str], where: results.Where = "any") -> Figure:
    """Chapter 10: paired difference of the judge's score against base, by language, one colour a policy."""
    manifest = _get(run_ids[0], where)
    policies = sorted({k.split("_", 1)[1].split("[")[0] for k in manifest.payload if k.startswith("difference_")})
    series = {policy(name): _by_language(manifest, f"difference_{name}") for name in policies}
    return dots(series, "judge's score, policy minus base (log-odds)", "Change against base on dev prompts", line=0.0)


def win_rates(run_ids: Sequence[str], where: results.Where = "any") -> Figure:
    """Chapter 10: win / tie / loss against base by policy, and wins minus losses with its interval."""
    manifest = _get(run_ids[0], where)
    rows = [k.removeprefix("delta_") for k in manifest.payload if k.startswith("delta_") and "[" not in k]
    rows.sort(key=lambda row: (row == "base_again", row))  # the control comes last
    figure, (bars, axes) = plt.subplots(1, 2, figsize=(7.2, 1.3 + 0.4 * len(rows)), layout="constrained", sharey=True)
    plt.close(figure)
    said = []
    for y, row in enumerate(rows):
        left = 0.0
        for part, colour in (("win", BLUE), ("tie", "#CCCCCC"), ("loss", ORANGE)):
            share = manifest.payload[f"{part}_{row}"].value
            bars.barh(y, share, left=left, color=colour, height=0.6, label=part if y == 0 else None)
            if share >= 0.06:
                ink = "white" if part == "win" else "black"
                bars.text(left + share / 2, y, f"{share:.0%}", ha="center", va="center", fontsize=8, color=ink)
            left += share
        m = manifest.payload[f"delta_{row}"]
        low, high = (m.value - m.lo, m.hi - m.value) if m.lo is not None and m.hi is not None else (0, 0)
        axes.errorbar([m.value], [y], xerr=[[low], [high]], fmt="o", color=BLUE, ms=5, lw=1.4)
        said.append(f"{policy(row)}: wins minus losses {results.format_metric(m)}")
    bars.set_yticks(range(len(rows)), [policy(row) for row in rows])
    bars.invert_yaxis()
    bars.set_xlim(0, 1)
    bars.set_title("win, tie, loss against base", loc="left", fontsize=9)
    bars.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    axes.axvline(0, color=GREY, lw=0.8, ls="--")
    axes.set_title("wins minus losses, 95 % interval", loc="left", fontsize=9)
    for axis in (bars, axes):
        axis.spines[["top", "right"]].set_visible(False)
    return _finish(figure, f"Against base: {'; '.join(said)}.", [manifest.payload[f"delta_{row}"] for row in rows])


def judge_validity(run_ids: Sequence[str], where: results.Where = "any") -> Figure:
    """Chapter 10: how often the judge puts the reference above a worse answer, by kind."""
    manifest = _get(run_ids[0], where)
    kinds = {k[9:-1]: m for k, m in manifest.payload.items() if k.startswith("validity[") and k[9:-1] not in LANGUAGES}
    return dots({"validity": kinds}, "share of dev pairs ordered right", "Does the judge see what is worse?", line=0.5)


def sweep(run_ids: Sequence[str], where: results.Where = "any", names: Sequence[str] = ()) -> Figure:
    """Metrics of several runs of one chapter side by side (`mlpo run 07 -p beta=0.03,0.1`); at most four panels."""
    manifests = [_get(run_id, where) for run_id in run_ids]
    shared = [n for n in manifests[0].payload if "[" not in n and all(n in m.payload for m in manifests)]
    names = list(names or shared)[:4]
    figure, axes = plt.subplots(1, len(names), figsize=(7.2, 0.9 + 0.35 * len(run_ids)), layout="constrained", sharey=True)
    plt.close(figure)
    said = []
    for axis, name in zip(np.atleast_1d(axes), names, strict=True):
        for y, manifest in enumerate(manifests):
            m = manifest.payload[name]
            bars = [[m.value - m.lo], [m.hi - m.value]] if m.lo is not None and m.hi is not None else None
            axis.errorbar([m.value], [y], xerr=bars, fmt="o", color=BLUE, ms=4)
            said.append(f"{manifest.run_id} {name} {results.format_metric(m)}")
        axis.set_title(name.replace("_", " "), fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(axes)[0].set_yticks(range(len(run_ids)), [m.run_id for m in manifests], fontsize=7)
    return _finish(figure, "; ".join(said))
