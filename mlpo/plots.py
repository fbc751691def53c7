"""Every figure of the book: pure functions of run ids. `figure.alt` says in words what the figure shows, values included."""

from __future__ import annotations

import functools
import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from mlpo.errors import MlpoError
from mlpo.languages import LANGUAGES
from mlpo.results import Manifest, Metric, Where, format_metric, load

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Metrics = dict[str, Metric]  # by language, kind of pair, policy, ...: a row of a figure each
# Okabe and Ito's palette: told apart with every common colour vision. In grey print markers, hatches and text tell the same.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#767676"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
LOSS_TO_GAIN = LinearSegmentedColormap.from_list("loss to gain", [ORANGE, "white", BLUE])
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 8, "loc": "outside lower left", "ncols": 4}
# What is recorded as `metric_policy[lang]`: title, axis, the value that means "no difference".
BY_POLICY: dict[str, tuple[str, str, float | None]] = {
    "difference": ("The judge's score against {against}", "difference of scores, log-odds", 0.0),
    "delta": ("Wins minus losses against {against}", "share won minus share lost", 0.0),
    "rouge": ("ROUGE-L against the reference", "ROUGE-L, 0 to 1", None),
}


def label(row: str) -> str:
    """Axis label of a language: code and English name, so that no font of another script is needed. Other rows as they are."""
    return f"{row} {LANGUAGES[row].name}" if row in LANGUAGES else row


def policy(name: str) -> str:
    """Label of a policy or a side: "dpo_ml-23" -> "DPO ML-23", "base_again" -> "base again"."""
    return re.sub(r"\b(dpo|rloo|sft|en|ml)(?=\d|\b)", lambda found: found[0].upper(), name.replace("_", " "))


def _get(run_ids: Sequence[str], where: Where) -> Manifest:
    manifest = load(run_ids[0], where)
    if manifest is None:
        raise MlpoError(f"No run {run_ids[0]!r} to draw: run its chapter first.")
    return manifest


def _figure(height: float, panels: int = 1, title: str = "", width: float = 7.2, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, at most four side by side; `height` in inches of one row of them."""
    down = -(-panels // 4)
    across = -(-panels // down)
    size = (width, height * down)
    figure, grid = plt.subplots(down, across, figsize=size, layout="constrained", squeeze=False, **shared)
    plt.close(figure)  # returned, not shown twice
    for index, axis in enumerate(grid.flat):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(length=0, labelbottom=index >= panels - across or not shared.get("sharex"))
        axis.set_visible(index < panels)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure, list(grid.flat[:panels])


def _finish(figure: Figure, alt: str, metrics: Iterable[Metric] = ()) -> Figure:
    """Put the legend below and attach what the book reads from a figure: `alt`, and `n` where all its metrics have the same."""
    if not figure.legends and (named := figure.axes[0].get_legend_handles_labels())[1]:
        figure.legend(*named, **LEGEND)
    figure.alt = alt  # type: ignore[attr-defined]
    if len(sizes := {m.n for m in metrics}) == 1:
        figure.n = sizes.pop()  # type: ignore[attr-defined]
    # JupyterLab and the book read an image's alternative text from the metadata of its output.
    figure._repr_mimebundle_ = lambda include=None, exclude=None: ({}, {"image/png": {"alt": alt}})  # type: ignore[attr-defined]
    return figure


def _say(values: Metrics) -> str:
    return "; ".join(f"{label(row)} {format_metric(m)}" for row, m in values.items())


def _row(row: Mapping[Any, Any], name: str, prefix: str = "", n: str = "n") -> Metric:
    """The metric in a row of a table: value in the column `name`, interval in (`prefix`) lo and hi."""
    return Metric(value=row[name], lo=row[f"{prefix}lo"], hi=row[f"{prefix}hi"], n=row[n])


def _languages(manifest: Manifest, name: str) -> Metrics:
    """Metrics `name[lang]` by language, in the order of LANGUAGES; `name` itself, where recorded, comes last as "all"."""
    found = {lang: manifest.payload[f"{name}[{lang}]"] for lang in LANGUAGES if f"{name}[{lang}]" in manifest.payload}
    return found | ({"all": manifest.payload[name]} if name in manifest.payload else {})


def _kinds(manifest: Manifest, name: str) -> Metrics:
    """Metrics `name[kind]`, greatest first: those whose bracket holds no language."""
    found = {key.removeprefix(f"{name}[")[:-1]: m for key, m in manifest.payload.items() if key.startswith(f"{name}[")}
    return {kind: found[kind] for kind in sorted(found, key=lambda kind: -found[kind].value) if kind not in LANGUAGES}


def _policies(manifest: Manifest, metric: str, bracket: str = "") -> list[str]:
    """What `metric` is recorded for (`delta_dpo` -> "dpo"; `bracket`: what follows, a pattern), base against itself last."""
    found = [re.fullmatch(rf"{metric}_([^\[]+){bracket}", key) for key in manifest.payload]
    return sorted({match[1] for match in found if match}, key=lambda name: (name == "base_again", name))


def _against(manifest: Manifest) -> str:
    return str(manifest.parameters.get("against", "base"))


def _by_policy(run_ids: Sequence[str], where: Where, metric: str) -> tuple[Manifest, str, str, float | None]:
    """A run, and title, axis and "no difference" of a metric of BY_POLICY."""
    manifest, (title, xlabel, line) = _get(run_ids, where), BY_POLICY[metric]
    return manifest, title, xlabel, line


def _grouped(rows: Iterable[str], group: str = "script") -> dict[str, str]:
    """Languages -> script, family or resource level, with those of one together; "all" comes last and has none."""
    of = {row: getattr(LANGUAGES[row], group) if row in LANGUAGES else "" for row in (*LANGUAGES, "all") if row in set(rows)}
    order = [*dict.fromkeys(getattr(language, group) for language in LANGUAGES.values()), ""]
    return dict(sorted(of.items(), key=lambda item: order.index(item[1])))


def _mark_groups(axis: Axes, groups: Mapping[str, str], top: bool = False) -> None:
    """Lines between groups of rows and their names to the right, or of columns and above."""
    at, names = 0, {}
    for name, members in itertools.groupby(groups.values()):
        if at:
            line = axis.axvline if top else axis.axhline
            line(at - 0.5, color="white" if top else GREY, lw=2.0 if top else 0.6)
        size = len(list(members))
        names[at + (size - 1) / 2] = name
        at += size
    beside = axis.secondary_xaxis("top") if top else axis.secondary_yaxis("right")
    beside.spines[:].set_visible(False)
    beside.tick_params(length=0, labelsize=8, labelcolor="#555555", labelrotation=90 if top else 0)
    (beside.set_xticks if top else beside.set_yticks)(list(names), list(names.values()))


def _dot(axis: Axes, m: Metric, at: float, index: int = 0, name: str | None = None, upright: bool = False) -> None:
    """Dot and interval of one metric at row (`upright`: column) `at`; `index` chooses colour and marker."""
    turn = (lambda along, across: (across, along)) if upright else (lambda along, across: (along, across))
    colour = COLOURS[index % 6]
    if m.lo is not None and m.hi is not None:
        axis.plot(*turn([m.lo, m.hi], [at, at]), color=colour, lw=1.4)
    axis.plot(*turn([m.value], [at]), "os^Dv<"[index % 6], color=colour, mfc="white" if index % 2 else colour, ms=5, label=name)


def dots(
    series: dict[str, Metrics], xlabel: str, title: str, line: float | None = None, groups: Mapping[str, str] | None = None
) -> Figure:
    """Dot and interval per row, one colour a series; `line` marks the value that means "no difference".

    `groups`: row -> the group of neighbours that it stands in, named to the right; for languages their script. Where there are
    many rows, more than two series get a panel each.
    """
    there = {row: [name for name in series if row in series[name]] for values in series.values() for row in values}
    rows = list(groups := groups or (_grouped(there) if set(there) & set(LANGUAGES) else dict.fromkeys(there, "")))
    most = max(map(len, there.values()))
    apart = most * len(rows) > 60
    height = 0.9 + len(rows) * (0.2 if apart else 0.12 + 0.08 * most)
    figure, axes = _figure(height, len(series) if apart else 1, title, sharex=True, sharey=True)
    for index, (name, values) in enumerate(series.items()):
        axis = axes[index if apart else 0]
        for row, m in values.items():
            shift = 0.0 if apart else 0.25 * (there[row].index(name) - (len(there[row]) - 1) / 2)
            named = len(series) > 1 and not apart and row == next(iter(values))
            _dot(axis, m, rows.index(row) + shift, index, name if named else None)
        axis.set_title(name if apart else "", loc="left", fontsize=9)
    across = axes[0].get_gridspec().ncols  # type: ignore[union-attr]
    for index, axis in enumerate(axes):
        _mark_groups(axis, groups)
        axis.child_axes[0].set_visible(index % across == across - 1 or axis is axes[-1])  # names at the edge only
        axis.locator_params(axis="x", nbins=4 if apart else 8)
        if line is not None:
            axis.axvline(line, color=GREY, lw=0.8, ls="--")
    axes[0].set_yticks(range(len(rows)), [label(row) for row in rows])
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    (figure.supxlabel if apart else axes[0].set_xlabel)(xlabel, fontsize=9)
    said = " | ".join(f"{name}: {_say(values)}" for name, values in series.items())
    drawn = [m for values in series.values() for row, m in values.items() if row != "all"]
    return _finish(figure, f"{title} ({xlabel}). {said}. Bars are 95 % intervals.", drawn)


def _matrix(
    title: str, rows: dict[str, Metrics], low: float, high: float, show: Any, marked: Callable[[Metric], bool], **mark: Any
) -> tuple[Figure, Axes, list[str]]:
    """Rows by languages (returned in order): values on colours from orange (`low`) over white to blue (`high`); those `marked`
    get a frame in the style `mark`, which its label explains."""
    groups = _grouped({lang for values in rows.values() for lang in values})
    figure, [axis] = _figure(2.3 + 0.32 * len(rows), title=title)
    values = [[row[lang].value if lang in row else float("nan") for lang in groups] for row in rows.values()]
    axis.imshow(values, cmap=LOSS_TO_GAIN, vmin=low, vmax=high, aspect="auto")
    for (y, row), (x, lang) in itertools.product(enumerate(rows.values()), enumerate(groups)):
        if m := row.get(lang):
            ink = "white" if m.value > low + 0.93 * (high - low) else "black"
            axis.text(x, y, show(m), ha="center", va="center", fontsize=7, color=ink)
            if marked(m):
                axis.add_patch(Rectangle((x - 0.46, y - 0.45), 0.92, 0.9, fill=False, zorder=3, **mark))
    axis.spines[:].set_visible(False)
    axis.set_xticks(range(len(groups)), [label(lang) for lang in groups], rotation=90, fontsize=8)
    axis.set_yticks(range(len(rows)), list(rows), fontsize=8)
    _mark_groups(axis, groups, top=True)
    figure.legend(handles=[Rectangle((0, 0), 1, 1, fill=False, **mark)], **LEGEND)
    return figure, axis, list(groups)


def _plain(title: str, xlabel: str, line: Any = None, read: Any = _languages, **names: Any) -> Callable[..., Figure]:
    """A figure of some metrics of one run (name=label) by language, or (`read=_kinds`) by kind of pair."""

    def draw(run_ids: Sequence[str], where: Where = "any") -> Figure:
        manifest = _get(run_ids, where)
        return dots({text: read(manifest, name) for name, text in names.items()}, xlabel, title, line)

    return draw


# Chapter 03: chrF by target language of the translators, and of machine translations against copying the English.
CHRF = ("Translation from English, dev prompts", "chrF, 0 to 100")
BEST_OF_FOUR = {"chrf_tuned": "tuned, best of four"}
translators = _plain(*CHRF, chrf_few_shot="few-shot, greedy", chrf_tuned_greedy="tuned, greedy", **BEST_OF_FOUR)
chrf = _plain(*CHRF, chrf="translation", chrf_copy="copying the English")
# Chapter 04: bits per character of held-out references before and after SFT.
BITS = ("What SFT changed, dev prompts and articles", "bits per character of the reference, given its prompt")
held_out_bits = _plain(*BITS, bits_pretrained="pretrained", bits_base="base")
# Chapter 04: candidates for `base`, paired difference of these bits from the first setting tried.
AGAINST = "bits per character, against rank 16, rate 3e-4"
sft_compare = _plain("Candidates for base, dev", AGAINST, 0.0, _kinds, difference="difference")
# Chapter 06: share of role pairs in which the reward model prefers the translated completion.
TRANSLATED = ("How often the reward model prefers the translated answer to the native one", "share of pairs")
translated_wins = _plain(*TRANSLATED, 0.5, translated_wins="translated wins")
# Chapter 05: accuracy of its own small reward model; of the recorded one; of that fitted to fewer pairs.
RIGHT = "share of pairs ranked right"
FITS = {"half": "with base's answers", "half_without": "without base's answers"}
reward_accuracy = _plain("Reward model: the reference above the corrupted answer, dev", RIGHT, 0.5, _kinds, accuracy="accuracy")
reward_languages = _plain("Reward model: accuracy by language", RIGHT, 0.5, accuracy="accuracy")
reward_fits = _plain("Reward model: what it was fitted to", RIGHT, 0.5, _kinds, **{f"accuracy_{k}": v for k, v in FITS.items()})


def fertility(run_ids: Sequence[str], where: Where = "any") -> Figure:
    """Chapter 02: tokens for the same content relative to English, by language, for both tokenizers."""
    table = _get(run_ids, where).table("fertility")
    series: dict[str, Metrics] = {name: {} for name in table["tokenizer"].unique()}
    for row in table[table["lang"] != "en"].to_dict("records"):
        series[row["tokenizer"]][row["lang"]] = _row(row, "relative", "relative_")
    return dots(series, "tokens, English = 1", "What the same answer costs in tokens", line=1.0)


def mixture_summary(summary: pd.DataFrame) -> Figure:
    """Card of a mixture: pairs by language, and how many of their chosen sides were translated. One row a language, with the
    columns "pairs" and "chosen translated" (a share)."""
    figure, [axes] = _figure(0.9 + 0.24 * len(summary), width=6.0)
    carried = summary["pairs"] * summary["chosen translated"]
    axes.barh(range(len(summary)), summary["pairs"] - carried, color=BLUE, height=0.6, label="chosen: native or policy")
    axes.barh(range(len(summary)), carried, left=summary["pairs"] - carried, color=ORANGE, height=0.6, label="chosen: translated")
    axes.set_yticks(range(len(summary)), [label(lang) for lang in summary.index])
    axes.invert_yaxis()
    axes.set_xlabel("pairs")
    said = "; ".join(f"{label(str(lang))} {int(row['pairs'])} pairs" for lang, row in summary.iterrows())
    return _finish(figure, f"Pairs by language: {said}.")


def reward_kinds(run_ids: Sequence[str], where: Where = "any") -> Figure:
    """Accuracy of the recorded reward model by kind of pair; the kinds it was not trained on have a marker of their own."""
    manifest = _get(run_ids, where)
    series: dict[str, Metrics] = {"trained on": {}, "held out of training": {}, "all kinds": {"all": manifest.payload["accuracy"]}}
    for kind, m in _kinds(manifest, "accuracy").items():
        series["held out of training" if kind in manifest.parameters["held_out"] else "trained on"][kind] = m
    return dots(series, RIGHT, "Reward model: accuracy by kind of pair", line=0.5)


def calibration(run_ids: Sequence[str], where: Where = "any") -> Figure:
    """Probability that the reward model gives the answer it prefers, against how often that is the better; pairs in each bin."""
    rows = _get(run_ids, where).table("calibration").to_dict("records")
    figure, (axes, counts) = _figure(3.3, 2, "Calibration of the reward model")
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--", label="calibrated")
    for row in rows:
        _dot(axes, _row(row, "right"), row["predicted"], upright=True)
        counts.bar(row["bin_lo"], row["n"], row["bin_hi"] - row["bin_lo"], align="edge", color=SKY, edgecolor="white")
    least = min(row["bin_lo"] for row in rows)
    axes.set(ylabel="share ranked right", ylim=(min(least, *(row["lo"] for row in rows)) - 0.01, 1.02))
    counts.set_ylabel("pairs")
    for axis in (axes, counts):
        axis.set_xlim(least - 0.01, 1.02)
        axis.set_xlabel("predicted: sigmoid of the margin's size", fontsize=9)
    said = "; ".join(f"predicted {row['predicted']:.2f}, right {format_metric(_row(row, 'right'))}" for row in rows)
    return _finish(figure, f"Calibration of the reward model, by bin: {said}. Where it is calibrated, both are equal.")


def training(run_ids: Sequence[str], where: Where = "any") -> Figure:
    """Chapters 07 and 08: what was logged at each step, one panel a quantity."""
    log = _get(run_ids, where).table("log")
    names = [name for name in log.columns if name != "step"]
    figure, axes = _figure(2.5, len(names))
    said = []
    for axis, name in zip(axes, names, strict=True):
        some = log[["step", name]].dropna()
        axis.plot(some["step"], some[name], color=BLUE, lw=1.4, marker="o", ms=2.5)
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_xlabel("optimisation step")
        if len(some):
            said.append(f"{name} goes from {some[name].iloc[0]:.3g} to {some[name].iloc[-1]:.3g}")
    return _finish(figure, f"Training of {run_ids[0]} over {len(log)} steps: {'; '.join(said)}.")


def by_language(
    run_ids: Sequence[str], where: Where = "any", metric: str = "difference", rows: Sequence[str] = (), group: str = "script"
) -> Figure:
    """`metric` (of BY_POLICY) of the policies `rows` (none named: all) by language; `group`: "script", "family" or "resource"."""
    manifest, title, xlabel, line = _by_policy(run_ids, where, metric)
    names = rows or _policies(manifest, metric, rf"\[({'|'.join(LANGUAGES)})\]")
    series = {policy(name): _languages(manifest, f"{metric}_{name}") for name in names}
    groups = _grouped({lang for values in series.values() for lang in values}, group)
    return dots(series, xlabel, f"{title}, by language and {group}", line, groups)


score_change = functools.partial(by_language, metric="difference")
rouge = functools.partial(by_language, metric="rouge")


def seen_unseen(run_ids: Sequence[str], where: Where = "any", metric: str = "difference") -> Figure:
    """`metric` of each policy over the languages of its preference training, and over the others."""
    manifest, title, xlabel, line = _by_policy(run_ids, where, metric)
    series: dict[str, Metrics] = {"seen in preference training": {}, "unseen": {}}
    for name in _policies(manifest, metric, r"\[(un)?seen\]"):
        for text, values in series.items():
            values[policy(name)] = manifest.payload[f"{metric}_{name}[{text.split()[0]}]"]
    return dots(series, xlabel, f"{title}, languages seen and unseen", line)


def heat_map(run_ids: Sequence[str], where: Where = "any", metric: str = "delta") -> Figure:
    """`metric` of every policy in every language, in hundredths; cells whose interval leaves out 0 are framed."""
    manifest, title, xlabel, _ = _by_policy(run_ids, where, metric)
    rows = {policy(name): _languages(manifest, f"{metric}_{name}") for name in _policies(manifest, metric, r"\[..\]")}
    clear = lambda m: (m.lo or 0.0) * (m.hi or 0.0) > 0
    show = lambda m: f"{round(100 * m.value):+d}".replace("-", "−").replace("+0", "0")
    mark = {"edgecolor": "black", "linewidth": 1.2, "label": "framed: the 95 % interval does not contain 0"}
    limit = max(abs(m.value) for values in rows.values() for m in values.values())
    figure, _, _ = _matrix(f"{title}: {xlabel}, × 100", rows, -limit, limit, show, clear, **mark)
    sure = {row: {lang: m for lang, m in values.items() if clear(m) or lang == "all"} for row, values in rows.items()}
    said = " | ".join(f"{row}: {_say(values)}" for row, values in sure.items())
    return _finish(figure, f"{title}. {said}. In the languages not named the interval contains 0.")


def forest(run_ids: Sequence[str], where: Where = "any") -> Figure:
    """The claims (`claim[C1]`, ...) with intervals, and beside each its verdict (`parameters["verdicts"]`)."""
    manifest = _get(run_ids, where)
    claims = dict(sorted(_kinds(manifest, "claim").items(), key=lambda item: (len(item[0]), item[0])))
    verdicts = {claim: manifest.parameters["verdicts"][claim] for claim in claims}
    figure = dots({"claims": claims}, "effect, with its 95 % interval", "The claims", line=0.0)
    figure.set_figheight(0.9 + 0.32 * len(claims))  # a verdict may take two lines
    _mark_groups(figure.axes[0], {claim: textwrap.fill(verdict, 36) for claim, verdict in verdicts.items()})
    said = "; ".join(f"{claim} {format_metric(m)}: {verdicts[claim]}" for claim, m in claims.items())
    return _finish(figure, f"The claims with 95 % intervals and verdicts. {said}.")


def win_rates(run_ids: Sequence[str], where: Where = "any") -> Figure:
    """Win / tie / loss against base by policy, and wins minus losses with its interval; base against itself comes last."""
    manifest = _get(run_ids, where)
    payload, against, rows = manifest.payload, _against(manifest), _policies(manifest, "delta")
    figure, (bars, axes) = _figure(1.0 + 0.32 * len(rows), 2, sharey=True)
    said = []
    for y, row in enumerate(rows):
        left, shares = 0.0, {part: payload[f"{part}_{row}"].value for part in ("win", "tie", "loss")}
        for (part, share), colour, hatch in zip(shares.items(), (BLUE, "#DDDDDD", ORANGE), ("", "", "////"), strict=True):
            style: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
            bars.barh(y, share, left=left, height=0.7, label=None if y else part, **style)
            if share >= 0.09:  # a narrower one has no room for its number, which the alternative text has
                ink, box = "white" if part == "win" else "black", {"color": colour, "pad": 0.8}
                bars.text(left + share / 2, y, f"{share:.0%}", ha="center", va="center", fontsize=8, color=ink, bbox=box)
            left += share
        _dot(axes, payload[f"delta_{row}"], y)
        parts = ", ".join(f"{part} {share:.0%}" for part, share in shares.items())
        said.append(f"{policy(row)}: {parts}, wins minus losses {format_metric(payload[f'delta_{row}'])}")
    bars.set_yticks(range(len(rows)), [policy(row) for row in rows])
    bars.invert_yaxis()
    bars.set_xlim(0, 1)
    bars.set_title(f"win, tie, loss against {against}", loc="left", fontsize=9)
    axes.axvline(0, color=GREY, lw=0.8, ls="--")
    axes.set_title("wins minus losses, 95 % interval", loc="left", fontsize=9)
    return _finish(figure, f"Against {against}: {'; '.join(said)}.", [payload[f"delta_{row}"] for row in rows])


def judge_validity(run_ids: Sequence[str], where: Where = "any", judge: str = "embedded") -> Figure:
    """How often a judge puts the better of two answers first, by kind of pair and language. It is valid in a language where the
    lower limit lies above 0.5 for every kind."""
    table = _get(run_ids, where).table("validity_summary")
    rows: dict[str, Metrics] = {}
    for row in table[(table["judge"] == judge) & table["lang"].isin(list(LANGUAGES))].to_dict("records"):
        rows.setdefault(row["kind"], {})[row["lang"]] = _row(row, "value")
    weak = lambda m: not (m.lo or 0.0) > 0.5
    show = lambda m: f"{100 * m.value:.0f}" + ("\n×" if weak(m) else "")
    mark = {"edgecolor": "#AAAAAA", "linewidth": 0, "hatch": "////", "label": "×: the 95 % interval does not lie above 50"}
    title = f"The {judge} judge: how often the better answer comes first, per cent"
    figure, axis, langs = _matrix(title, rows | {"valid": {}}, 0, 1, show, weak, **mark)
    said = []
    for x, lang in enumerate(langs):
        failed = [kind for kind, values in rows.items() if lang not in values or weak(values[lang])]
        axis.text(x, len(rows), "✗" if failed else "✓", ha="center", va="center", fontsize=11)
        known = _say({kind: rows[kind][lang] for kind in failed if lang in rows[kind]})
        said += [f"{label(lang)} ({known or 'kinds without pairs'})"] if failed else []
    axis.axhline(len(rows) - 0.5, color="black", lw=1)
    spread = {kind: [m.value for m in values.values()] for kind, values in rows.items()}
    alt = f"The {judge} judge is valid in {len(langs) - len(said)} of {len(langs)} languages; not in: {', '.join(said) or 'none'}."
    alt += " Share by kind, least to greatest: " + "; ".join(f"{k} {min(v):.2f} to {max(v):.2f}" for k, v in spread.items()) + "."
    return _finish(figure, alt, [m for values in rows.values() for m in values.values()])


validity_embedded = functools.partial(judge_validity, judge="embedded")
validity_reward = functools.partial(judge_validity, judge="reward")


def attacks(run_ids: Sequence[str], where: Where = "any") -> Figure:
    """How often each attack fools each judge (`fell[judge, guard, attack]`), before and after the defence."""
    series: dict[str, Metrics] = {"before the defence": {}, "after the defence": {}}
    found = _kinds(_get(run_ids, where), "fell")
    for key in sorted(found, key=lambda key: (key.split(", ")[0], key.count(", ") < 2)):  # by judge, all attacks last
        judge, guard, attack = (*key.split(", ", 2), "all attacks")[:3]  # `fell[judge, guard]` is over all
        series[f"{guard} the defence"][f"{attack}, {judge}"] = found[key]
    felt = [row for row in series["before the defence"] if any(row in v and v[row].value for v in series.values())]
    silent = len(series["before the defence"]) - len(felt)
    series = {name: {row: values[row] for row in felt if row in values} for name, values in series.items()}
    groups = {row: row.rsplit(", ", 1)[1] + "\njudge" for row in felt}
    title = f"Attacks on the judges (not shown: {silent} that never worked)"
    figure = dots(series, "share of attacks that the judge falls for", title, groups=groups)
    figure.axes[0].set_yticks(range(len(groups)), [row.rsplit(", ", 1)[0] for row in groups])
    return figure


def coverage(run_ids: Sequence[str], where: Where = "any") -> Figure:
    """How often 95 % intervals contain the truth in simulations, by outcome and prompts; those that ignore prompts last."""
    table = _get(run_ids, where).table("coverage").sort_values(["correlation", "languages", "ties"], kind="stable")
    sizes, levels = sorted(table["prompts"].unique()), sorted(table["correlation"].unique())
    outcomes = sorted(table["outcome"].unique(), key=lambda name: ("ignored" in name, name))
    title = "Share of simulated 95 % intervals that contain the truth"
    figure, axes = _figure(3.2, len(outcomes), title, sharex=True)
    said = []
    for index, level in enumerate(levels):  # for the legend alone
        _dot(axes[0], Metric(value=float("nan"), n=0), 0, index, f"correlation {level:g}")
    for axis, outcome in zip(axes, outcomes, strict=True):
        axis.axhspan(0.93, 0.97, color=GREY, alpha=0.2, lw=0)
        axis.axhline(0.95, color=GREY, lw=0.8, ls="--")
        for place, (size, some) in enumerate(table[table["outcome"] == outcome].groupby("prompts")):
            for at, row in enumerate(some.to_dict("records")):
                x = place + 0.8 * ((at + 0.5) / len(some) - 0.5)
                _dot(axis, _row(row, "covered", n="runs"), x, levels.index(row["correlation"]), upright=True)
            said.append(f"{outcome}, {size} prompts: {some['covered'].min():.3f} to {some['covered'].max():.3f}")
        alike = table[table["outcome"].str.contains("ignored") == ("ignored" in outcome)]  # these need a longer axis
        axis.set_ylim(min(0.9, alike["lo"].min() - 0.01), 1)
        axis.set_xticks(range(len(sizes)), sizes)
        axis.set_xlabel("prompts", fontsize=9)
        axis.set_title(outcome, loc="left", fontsize=9)
    return _finish(figure, f"{title}, least to greatest over the settings (grey: 0.93 to 0.97). {'; '.join(said)}.")


def sweep(run_ids: Sequence[str], where: Where = "any", names: Sequence[str] = ()) -> Figure:
    """Metrics of several runs of one chapter side by side (`mlpo run 07 -p beta=0.03,0.1`); at most four panels."""
    manifests = [_get([run_id], where) for run_id in run_ids]
    shared = [n for n in manifests[0].payload if "[" not in n and all(n in m.payload for m in manifests)]
    names = list(names or shared)[:4]
    figure, axes = _figure(0.9 + 0.35 * len(run_ids), len(names), sharey=True)
    said = []
    for axis, name in zip(axes, names, strict=True):
        for y, manifest in enumerate(manifests):
            _dot(axis, manifest.payload[name], y)
            said.append(f"{manifest.run_id} {name} {format_metric(manifest.payload[name])}")
        axis.set_title(name.replace("_", " "), fontsize=9, loc="left")
    axes[0].set_yticks(range(len(run_ids)), [m.run_id for m in manifests], fontsize=7)
    return _finish(figure, "; ".join(said))
