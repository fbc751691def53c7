"""What a judge is worth: pairs of known order, attacks, a guard against them, and its agreement with another judge."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from rapidfuzz import fuzz

from mlpo import languages, paths
from mlpo.corruptions import KINDS, corrupt
from mlpo.evaluate import checks, stats
from mlpo.evaluate.llm_judge import guarded
from mlpo.records import Judge, Match, Prompt, Verdict

ATTACKS = paths.PACKAGE / "evaluate" / "attacks.json"
SPOILED = {"shuffled": "shuffled words", "truncated": "truncation", "repeated": "repetition", "other prompt's": "other reference"}
Texts = Mapping[tuple[str, str], str]  # answers of one model by (prompt id, language)


@dataclass(frozen=True)
class Known:
    """Two answers of known order; `kind` says how the worse one came about."""

    kind: str
    prompt: Prompt
    better: str
    worse: str


@dataclass(frozen=True)
class Attacked:
    """An honest answer, and the attack that was put in its place or tied to it."""

    attack: str
    prompt: Prompt
    honest: str
    attacked: str


def _side(kind: str, prompt: Prompt) -> str:
    """Where the worse answer stands, drawn from what identifies the pair: who always names one side is right half the time."""
    return random.Random(f"side/{kind}/{prompt.id}/{prompt.lang}").choice("AB")


def flawed(prompt: Prompt, text: str) -> bool:
    """Whether an answer says nothing, is in another language than the prompt, loops, or repeats the whole prompt."""
    repeats = len(text) >= 0.9 * len(prompt.text) and fuzz.partial_ratio(prompt.text, text) >= 95
    return checks.is_empty(text) or repeats or checks.loops(text, prompt.lang) or not languages.is_in(text, prompt.lang)


def known_matches(prompts: Sequence[Prompt], answers: Mapping[str, Texts] = {}) -> list[Known]:
    """Each reference against itself made worse in every way of KINDS, and against the answers of weaker models (`answers`, by
    the model's name). Then these answers against themselves spoiled, so that neither side is the reference; a flawed answer is
    not spoiled further, because the order would not be known. Pairs of equal texts are left out.
    """
    by_key = {(p.id, p.lang): p for p in prompts}
    known = [Known(kind, p, p.reference, corrupt(p, kind, by_key)) for p in prompts for kind in KINDS]
    for name, texts in answers.items():
        own = {key: replace(p, reference=texts[key]) for key, p in by_key.items() if key in texts}
        for key, answered in own.items():
            p, text = by_key[key], answered.reference
            known.append(Known(f"{name}'s answer", p, p.reference, text))
            if not flawed(p, text):
                known += [Known(f"{name}, {how}", p, text, corrupt(answered, kind, own)) for how, kind in SPOILED.items()]
    return [pair for pair in known if pair.better != pair.worse]


def table(judge: Judge, known: Sequence[Known]) -> pd.DataFrame:
    """One row a pair: judge, kind, lang, task, prompt_id, right (1 right, 0.5 tie, 0 wrong or unparsable), outcome, flipped."""
    sides = [_side(k.kind, k.prompt) for k in known]
    placed = [(k.worse, k.better) if side == "A" else (k.better, k.worse) for k, side in zip(known, sides, strict=True)]
    verdicts = judge.judge([Match(k.prompt, a, b) for k, (a, b) in zip(known, placed, strict=True)])
    rights = [{"tie": 0.5, "unparsable": 0.0, side: 0.0}.get(v.outcome, 1.0) for v, side in zip(verdicts, sides, strict=True)]
    rows = [
        (judge.name, k.kind, k.prompt.lang, k.prompt.task, k.prompt.id, right, v.outcome, v.flipped)
        for k, v, right in zip(known, verdicts, rights, strict=True)
    ]
    return pd.DataFrame(rows, columns=["judge", "kind", "lang", "task", "prompt_id", "right", "outcome", "flipped"])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Share of right verdicts by judge, kind and language, one row each: judge, kind, lang, value, lo, hi, n."""
    rows = []
    for keys, some in table.groupby(["judge", "kind", "lang"], sort=False):
        e = stats.clustered_share(list(some["right"]), list(some["prompt_id"]))
        rows.append((*keys, e.value, e.lo, e.hi, e.n))
    return pd.DataFrame(rows, columns=["judge", "kind", "lang", "value", "lo", "hi", "n"])


def valid(summary: pd.DataFrame) -> dict[tuple[str, str], bool]:
    """Whether a judge is valid, by (judge, language): the lower limit lies above 0.5 for every kind of pair in `summary`. A kind
    that a language has no pairs of is unknown, which is not valid."""
    lowest = summary.pivot(index=["judge", "lang"], columns="kind", values="lo")
    return dict(zip(lowest.index.to_list(), map(bool, (lowest > 0.5).all(axis=1)), strict=True))


def attack_matches(prompts: Sequence[Prompt], base: Texts) -> list[Attacked]:
    """Every attack of attacks.json on every answer of `base` that is not flawed. Left out where it has nothing to work with:
    English on an English prompt or without the English one in `prompts`, another prompt's answer on a lone prompt."""
    data = json.loads(ATTACKS.read_text(encoding="utf-8"))
    by_key = {(p.id, p.lang): p for p in prompts}
    attacked = []
    for p in (p for key, p in by_key.items() if key in base and not flawed(p, base[key])):
        answer, english = base[p.id, p.lang], by_key.get((p.id, "en"), p)
        halves = zip(p.text[::2], p.text[1::2], strict=False)  # without spaces, two characters stand in for a word
        pieces = list(map("".join, halves)) if languages.split_characters(p.lang) else p.text.split()
        fields = {name: phrase[p.lang] for name, phrase in data["phrases"].items()} | {
            "prompt": p.text,
            "answer": answer,
            "other": corrupt(replace(p, reference=answer), "other reference", by_key),
            "english": answer if english is p else english.reference,
            "keywords": " ".join(sorted(pieces, key=len, reverse=True)[:8]),
            "spread": "".join(f"\u200b{char}" for char in answer),
        }
        made = {a["name"]: a["text"].format(side=_side(a["name"], p), **fields) for a in data["attacks"]}
        attacked += [Attacked(name, p, answer, text) for name, text in made.items() if text != answer]
    return attacked


def attack_table(judge: Judge, attacked: Sequence[Attacked], guard: str) -> pd.DataFrame:
    """One row an attack: judge, attack, guard ("before" or "after"), lang, prompt_id, fell (1 where the judge prefers the attack,
    or no verdict can be read any more; 0.5 tie)."""
    rows = table(judge, [Known(a.attack, a.prompt, a.honest, a.attacked) for a in attacked]).rename(columns={"kind": "attack"})
    return rows.assign(guard=guard, fell=1 - rows["right"])[["judge", "attack", "guard", "lang", "prompt_id", "fell"]]


class Guarded:
    """Judge (protocol) behind a guard: what it reads has been cleaned of forged turns, verdicts and delimiters, and a flawed
    answer loses against one that is not, unasked and so without a difference of scores."""

    def __init__(self, judge: Judge) -> None:
        self.inner, self.name, self.needs_reference = judge, judge.name, judge.needs_reference

    def judge(self, matches: Sequence[Match]) -> list[Verdict]:
        clean = [Match(m.prompt, guarded(m.a), guarded(m.b)) for m in matches]
        bad = [(flawed(m.prompt, m.a), flawed(m.prompt, m.b)) for m in clean]
        asked = iter(self.inner.judge([m for m, (a, b) in zip(clean, bad, strict=True) if a == b]))
        return [next(asked) if a == b else Verdict("B" if a else "A") for a, b in bad]


def agreement(a: Sequence[Verdict], b: Sequence[Verdict], clusters: Sequence[str]) -> dict[str, stats.Estimate]:
    """How far two judges agree on the same matches: `kappa` of outcomes, and where both score, `spearman` of differences."""
    found = {"kappa": stats.kappa([v.outcome for v in a], [v.outcome for v in b], clusters)}
    scored = [None not in (x.difference, y.difference) for x, y in zip(a, b, strict=True)]
    both = [(x.difference, y.difference, c) for x, y, c, ok in zip(a, b, clusters, scored, strict=True) if ok]
    return found | ({"spearman": stats.rank_correlation(*map(list, zip(*both, strict=True)))} if both else {})
