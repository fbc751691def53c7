"""Matches: the answers of each side against those of one comparison, judged, with intervals clustered by prompt.

A side is `base`, `pretrained`, any name of a model (packaged, folder, hub, MODEL@URL), the folder of an adapter on the profile's
base, or a file of answers. The untouched models are always rows, and so is `base again`: base with other random numbers against
base, whatever the comparison is. Nothing is better there; a row that moves no more than it does shows nothing.
"""

from __future__ import annotations

import math
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from rapidfuzz.distance import LCSseq

from mlpo import languages, paths, results
from mlpo.corruptions import words
from mlpo.data import complete
from mlpo.data.prompts import SUFFIXES, read_file, seed_prompts
from mlpo.display import print_texts
from mlpo.errors import MlpoError
from mlpo.evaluate import checks, stats
from mlpo.evaluate.judge import EmbeddedJudge, RewardJudge
from mlpo.evaluate.llm_judge import LLMJudge
from mlpo.models import digest, ready
from mlpo.profiles import Profile
from mlpo.records import Generator, Judge, Match, Prompt, Verdict
from mlpo.server import Server
from mlpo.store import Store

BASE, PRETRAINED, AGAIN = "base", "pretrained", "base again"
OUTCOME = {"A": "win", "tie": "tie", "B": "loss", "unparsable": "unparsable"}
SIGN = {"win": 1.0, "tie": 0.0, "loss": -1.0}
JUDGED = ["row", "prompt_id", "lang", "task", "text", "base_text", "outcome", "difference", "flipped"]
SUMMARY = ["row", "lang", "metric", "value", "lo", "hi", "n"]
SHOWN = ["difference", "detectable", "p_holm", "win", "tie", "loss", "delta", "win_equal_length", "log_length_ratio", "rouge"]


@dataclass(frozen=True)
class Side:
    """Answers in the order of the prompts. `fingerprint`: of the model or the texts. `cut`: stopped by the token limit."""

    name: str
    fingerprint: str
    texts: Sequence[str]
    cut: Sequence[bool]


@dataclass(frozen=True)
class MatchResult:
    """`judgements` has a comparison a row; `summary` a metric a row, pooled (lang "") and by language. Its `detectable`, `p` and
    `p_holm` have no interval and belong to the primary metric: `difference`, or `delta` where the judge gives no scores."""

    manifest: results.Manifest
    judgements: pd.DataFrame
    summary: pd.DataFrame
    warnings: list[str]


def prompts(codes: Sequence[str], task: str, split: str, file: Path | None, limit: int | None) -> list[Prompt]:
    """At most `limit` prompts a language, of a split of the seed set or of a user's file; MlpoError names a language without."""
    own, asked = read_file(file) if file else None, []
    for code in dict.fromkeys(codes):
        name = languages.get(code).name
        found = [p for p in own or seed_prompts(split, code, task) if (p.lang, p.task) == (code, task)]
        if not found:
            raise MlpoError(f"{file or split} has no prompts of task {task!r} in {name} ({code}): add some, or leave {code} out.")
        asked += found[:limit]
    return asked


def make_judge(name: str, store: Store, profile: Profile) -> Judge:
    """`embedded`, `reward`, or MODEL@URL: a served model that sees both answers."""
    if name in ("embedded", "reward"):
        return (EmbeddedJudge if name == "embedded" else RewardJudge)(store, profile.budget.block)
    if "@" not in name:
        raise MlpoError(f"Unknown judge {name!r}: choose embedded, reward or MODEL@URL.")
    return LLMJudge(store, Server(name, profile.server))


def from_table(name: str, frame: pd.DataFrame, prompts: Sequence[Prompt]) -> Side:
    """A side whose answers are given: columns prompt_id, lang, text and perhaps cut; languages not asked for are left out.

    MlpoError where the rest is not one answer to each prompt, or most of a language's answers are in another language.
    """
    if missing := [column for column in ("prompt_id", "lang", "text") if column not in frame]:
        raise MlpoError(f"{name} has no column {missing[0]!r}: answers need prompt_id, lang and text.")
    if unknown := [code for code in frame["lang"] if code not in languages.LANGUAGES]:
        raise MlpoError(f"{name} has the unknown language {unknown[0]!r}: the book knows {', '.join(languages.LANGUAGES)}.")
    frame = frame[frame["lang"].isin({p.lang for p in prompts})].astype({"prompt_id": str})
    keys, asked = list(zip(frame["prompt_id"], frame["lang"], strict=True)), [(p.id, p.lang) for p in prompts]
    texts = dict(zip(keys, frame["text"], strict=True))
    cut = dict(zip(keys, frame["cut"].astype(str).str.lower() == "true", strict=True)) if "cut" in frame else {}
    for bad, fault in (
        ([key for key, number in Counter(keys).items() if number > 1], "given more than once: leave one"),
        ([key for key in asked if key not in texts], "missing: add them"),
        (sorted(texts.keys() - set(asked)), "to prompts not asked: remove them, or change --prompts, --split or --limit"),
        ([key for key in asked if not isinstance(texts.get(key), str)], 'no texts: write "" for an empty answer'),
    ):
        if bad:
            raise MlpoError(f"{name}: {len(bad)} answers (the first: {bad[0][0]!r} in {bad[0][1]}) are {fault}.")
    for lang in dict.fromkeys(p.lang for p in prompts):
        right = [languages.is_in(text, lang) for (_, code), text in texts.items() if code == lang]
        if sum(right) < len(right) / 2:
            raise MlpoError(
                f"{name}: most answers that say {lang} are not {languages.get(lang).name}: correct `lang` or the texts."
            )
    given = [(texts[key], bool(cut.get(key, False))) for key in asked]
    return Side(name, digest([asked, given]), [text for text, _ in given], [stopped for _, stopped in given])


def _given(side: str | Side, prompts: Sequence[Prompt]) -> str | Side:
    """The answers of a file, checked; what is no file as it is."""
    if isinstance(side, Side) or Path(side).suffix not in SUFFIXES:
        return side
    options: dict[str, Any] = {"encoding": "utf-8-sig", "dtype": False, "lines": True}
    try:
        if side.endswith(".csv"):
            frame = pd.read_csv(side, encoding="utf-8-sig", dtype=str, keep_default_na=False)
        else:
            frame = pd.read_json(Path(side), **options) if side.endswith(".jsonl") else pd.read_parquet(side)
    except (OSError, ValueError) as error:
        raise MlpoError(f"{side} cannot be read ({str(error).splitlines()[0]}): check the path, or save it as UTF-8.") from None
    return replace(from_table(side, frame, prompts), name=Path(side).stem)


def answers(side: str | Side, prompts: Sequence[Prompt], store: Store, profile: Profile, seed: int = 0) -> Side:
    """A side's answers: those of a file (which its stem names), or drawn with the profile's sampling and stored."""
    side, base, samples = _given(side, prompts), profile.models.base, 2 if side == AGAIN else 1
    if isinstance(side, Side):
        return side
    if (Path(side) / "adapter_config.json").exists():
        model: Generator = complete.LocalGenerator(ready(base, adapter=Path(side)))
    else:
        model = complete.generator(base if side in (BASE, AGAIN) else side, profile.server)
    options: dict[str, Any] = {"role": "policy", "seed": seed, "samples": samples, "block": profile.budget.block}
    drawn = complete.run(store, model, prompts, profile.sampling, **options)[samples - 1 :: samples]
    return Side(side, f"{model.fingerprint}/{samples}", [c.text for c in drawn], [c.cut for c in drawn])


def _line_up(
    sides: Sequence[str | Side], against: str | Side, prompts: Sequence[Prompt], judge: Judge, profile: Profile
) -> tuple[dict[str, str | Side], dict[str, str]]:
    """All sides by name, files checked before any model is asked; and the comparison of each row."""
    if judge.needs_reference and (bare := [p for p in prompts if not p.reference]):
        where = f"the prompt {bare[0].id!r} in {bare[0].lang} has none"
        raise MlpoError(f"The judge {judge.name!r} needs references, and {where}: add them, or take the judge reward or MODEL@URL.")
    controls = [BASE, PRETRAINED, AGAIN] if profile.models.base == BASE else [BASE, AGAIN]
    name = lambda side: side.name if isinstance(side, Side) else side
    rows, other = [*(_given(side, prompts) for side in sides), *controls], _given(against, prompts)
    everyone = rows if against in controls else [*rows, other]
    if twice := [n for n, number in Counter(map(name, everyone)).items() if number > 1]:
        raise MlpoError(
            f"Two sides are called {twice[0]!r}, and {', '.join(controls)} are always there: leave one out or rename it."
        )
    return {name(side): side for side in everyone}, {name(row): BASE if row == AGAIN else name(other) for row in rows}


def _pair(texts: Mapping[str, Sequence[str]], versus: Mapping[str, str], prompts: Sequence[Prompt]) -> list[Match]:
    return [Match(p, a, b) for row, other in versus.items() for p, a, b in zip(prompts, texts[row], texts[other], strict=True)]


def plan(sides: Sequence[str], against: str, prompts: Sequence[Prompt], judge: Judge, profile: Profile, price: float | None) -> str:
    """What `run` would do: answers to draw, verdicts to give, a served judge's estimate. Files are checked, no model is asked."""
    everyone, versus = _line_up(sides, against, prompts, judge, profile)
    guessed = {name: [f"{p.reference or p.text} {i}" for p in prompts] for i, name in enumerate(everyone)}
    files = {name: side.texts for name, side in everyone.items() if isinstance(side, Side)}
    judged = [m for m in _pair({**guessed, **files}, versus, prompts) if m.a != m.b]
    estimate = f" {judge.estimate(judged, price)}" if isinstance(judge, LLMJudge) else ""
    draw = (len(everyone) - len(files)) * len(prompts)
    return f"{draw:,} answers to draw (fewer where the store has some), {len(judged):,} verdicts to give.{estimate}"


def run(
    sides: Sequence[str | Side],
    against: str | Side,
    prompts: Sequence[Prompt],
    judge: Judge,
    store: Store,
    profile: Profile,
    seed: int = 0,
) -> MatchResult:
    """Every side and the control rows against one comparison; a chapter gives answers that it has as `from_table`.

    The key covers the verdicts too: which weights a served judge has cannot be seen from outside.
    """
    started, known = time.monotonic(), results.load("judges")
    everyone, versus = _line_up(sides, against, prompts, judge, profile)
    got = {name: answers(side, prompts, store, profile, seed) for name, side in everyone.items()}
    matches = _pair({name: side.texts for name, side in got.items()}, versus, prompts)
    given = iter(judge.judge([m for m in matches if m.a != m.b]))  # the same text twice is a tie: base against itself is free
    verdicts = [Verdict("tie") if m.a == m.b else next(given) for m in matches]
    checked = {name: checks.check(prompts, side.texts, side.cut) for name, side in got.items()}
    judged = pd.DataFrame(
        {"task": m.prompt.task, "text": m.a, "base_text": m.b, "outcome": OUTCOME[v.outcome], "difference": v.difference}
        | {"flipped": v.flipped, "unparsable": v.outcome == "unparsable"}
        | {"log_length_ratio": math.log(max(1, len(m.a)) / max(1, len(m.b))), "rouge": rouge_l(m.prompt, m.a)}
        for m, v in zip(matches, verdicts, strict=True)
    ).astype({"difference": float})
    if judged["difference"].notna().any():
        judged["difference"] = judged["difference"].fillna(0.0)
    judged = pd.concat([checked[row].assign(row=row) for row in versus], ignore_index=True).join(judged)
    metrics, warnings = [], []
    for row, other in versus.items():
        of = judged[judged["row"] == row]
        made = {str(lang): _metrics(some) for lang, some in [("", of), *of.groupby("lang", sort=False)]}
        if tests := {lang: m["p"].value for lang, m in made.items() if lang and "p" in m}:
            for lang, p in stats.holm(tests).items():
                made[lang]["p_holm"] = replace(made[lang]["p"], value=p)
        for lang, m in made.items():
            if known and (valid := known.payload.get(f"valid[{judge.name}, {lang}]")):
                m["valid"] = stats.Estimate(valid.value, math.nan, math.nan, valid.n, valid.n)
            metrics += [(row, lang, name, e.value, e.lo, e.hi, e.n) for name, e in m.items()]
        deltas = {lang: m["delta"] for lang, m in made.items() if lang and "delta" in m}
        warnings += [f"{row}: {said}" for said in checks.suspicious(checked[row], checked[other], deltas)]
    summary = pd.DataFrame(metrics, columns=SUMMARY)
    inputs = sorted(f"{name}={side.fingerprint}" for name, side in got.items())
    about = {"rows": versus, "against": against.name if isinstance(against, Side) else against, "judge": judge.name, "seed": seed}
    about |= {"sampling": profile.sampling.model_dump(), "profile": profile.name}
    key = digest([inputs, about, [vars(p) for p in prompts], [vars(v) for v in verdicts]])
    real = lambda x: None if math.isnan(x) else x
    payload = {
        f"{name}_{row.replace(' ', '_')}{lang and f'[{lang}]'}": results.Metric(value=value, lo=real(lo), hi=real(hi), n=n)
        for row, lang, name, value, lo, hi, n in metrics
        if not math.isnan(value)
    }
    manifest = results.Manifest(
        run_id=f"match-{key[:12]}",
        kind="match",
        key=key,
        inputs=inputs,
        parameters=about | {"languages": list(dict.fromkeys(p.lang for p in prompts))},
        payload=dict(sorted(payload.items())),
        timing={"seconds": round(time.monotonic() - started, 1), "finished": datetime.now(UTC).strftime("%Y-%m-%d")},
        environment=results.environment("torch" in sys.modules),
    )
    return MatchResult(manifest, judged[JUDGED], summary, warnings)


def _metrics(some: pd.DataFrame) -> dict[str, stats.Estimate]:
    """Estimates by metric. Unparsable verdicts count in their own share alone."""
    judged, scored = some[~some["unparsable"]], bool(some["difference"].notna().all())
    made: dict[str, stats.Estimate] = {}
    if len(judged):
        signs, clusters = [SIGN[outcome] for outcome in judged["outcome"]], list(judged["prompt_id"])
        values = list(judged["difference"]) if scored else signs
        made |= {"difference": stats.clustered_mean(values, clusters)} if scored else {}
        made |= vars(stats.win_rate(signs, clusters, 0.5))
        made["win_equal_length"] = stats.at_equal_length([(s + 1) / 2 for s in signs], list(judged["log_length_ratio"]), clusters)
        point = replace(made["delta"], lo=math.nan, hi=math.nan)
        made["detectable"] = replace(point, value=stats.detectable(values, clusters))
        made["p"] = replace(point, value=stats.p_value(values, clusters))
    for name in ["log_length_ratio"] + ["rouge"] * bool(some["rouge"].notna().all()):
        made[name] = stats.clustered_mean(list(some[name]), list(some["prompt_id"]))
    if "rouge" in made:  # of two prompts the interval of a mean leaves the scale
        made["rouge"] = replace(made["rouge"], lo=max(0.0, made["rouge"].lo), hi=min(1.0, made["rouge"].hi))
    for name in [*checks.CHECKS] + ["flipped", "unparsable"] * (not scored):
        made[name] = stats.clustered_share(list(some[name]), list(some["prompt_id"]))
    return made


def rouge_l(prompt: Prompt, answer: str) -> float:
    """ROUGE-L F1 (Lin 2004) of a summary: twice the longest common subsequence of its parts and the reference's over their number.

    Parts are words without case and punctuation; characters in Chinese and Japanese; syllables in Korean, which writes particles
    onto nouns, so that the same noun in another role would be another word. nan where the prompt asks for no summary.
    """
    if prompt.task != "summarize" or not prompt.reference:
        return math.nan
    texts = [unicodedata.normalize("NFKC", text).lower() for text in (answer, prompt.reference)]
    plain = ["".join(" " if unicodedata.category(c)[0] in "PS" else c for c in text) for text in texts]
    split = list if prompt.lang == "ko" else lambda text: words(text, prompt.lang)
    a, b = ([part for part in split(text) if not part.isspace()] for text in plain)
    return 2 * LCSseq.similarity(a, b) / max(1, len(a) + len(b))


def write(result: MatchResult, folder: Path | None = None) -> Path:
    """Write tables, manifest and figures into `folder`, or build/runs/ID, where figures of a page find it by its id."""
    from mlpo import plots

    folder = paths.writable(folder or results.runs_folder("build") / result.manifest.run_id, "MLPO_BUILD")
    (folder / "manifest.json").unlink(missing_ok=True)  # so that a write that fails leaves nothing that looks finished
    paths.write_parquet(folder / "judgements.parquet", result.judgements)
    paths.write_parquet(folder / "summary.parquet", result.summary)
    paths.write_atomically(folder / "manifest.json", result.manifest.model_dump_json(indent=1) + "\n")
    where = [str(folder.resolve())]
    plots.win_rates(where, "build").savefig(folder / "win_rates.svg")
    plots.by_language(where, "build", "delta").savefig(folder / "by_language.svg")
    return folder


def show(result: MatchResult) -> None:
    """Print a line a row and language ("-": not known), and the warnings."""
    number = lambda x: "-" if math.isnan(x) else f"{x:.2f}"
    shown = [
        number(r.value) + ("" if r.metric in ("detectable", "p", "p_holm") else f" [{number(r.lo)}, {number(r.hi)}]")
        for r in result.summary.itertuples()
    ]
    cells = result.summary.assign(shown=shown, lang=result.summary["lang"].replace("", "all"))
    wide = cells.pivot_table(index=["row", "lang"], columns="metric", values="shown", aggfunc="first", sort=False)
    table = wide.reindex(columns=[*SHOWN, "flipped", "unparsable"]).dropna(axis=1, how="all")
    if "valid" in wide:
        table["flag"] = ["judge not valid" if str(valid).startswith("0") else "" for valid in wide["valid"]]
    print_texts(table.reset_index())
    for warning in result.warnings:
        print(f"warning: {warning}")
