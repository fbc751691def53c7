"""What every chapter stands on, made once and committed: settings compared for `base`, its SFT adapter, the translator, the
judge's weights. Nobody needs to make them again; who wants others, in other languages say, runs

    python tools/recorded.py compare | sft | translator | reward | fits | levels | judge | margins | judges [--profile NAME]

All of it resumes after a kill. `sft` and `translator` take about an hour each on two cores.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from mlpo import paths, profiles, results
from mlpo.corruptions import KINDS, corrupt
from mlpo.data.prompts import seed_prompts
from mlpo.evaluate import stats
from mlpo.languages import LANGUAGES
from mlpo.models import Lazy, Loaded, digest, fingerprint, load, recorded_adapter
from mlpo.profiles import Profile, Sampling, Training
from mlpo.records import Match, Prompt, Translator
from mlpo.sample import chat, log_likelihood, sample
from mlpo.store import Store
from mlpo.train.reward import KnownPair, draw, known_pairs

# What was tried for `base`, judged on `dev` alone: settings over a quarter of an epoch, then the length of training.
_QUARTER = Training(learning_rate=3e-4, lora_rank=16, epochs=0.25, batch=8, warmup_steps=5, decay=True)
COMPARED = {
    "rank 16, rate 3e-4": _QUARTER,
    "rank 16, rate 1.5e-4": _QUARTER.model_copy(update={"learning_rate": 1.5e-4}),
    "rank 16, rate 1e-3": _QUARTER.model_copy(update={"learning_rate": 1e-3}),
    "rank 64, rate 3e-4": _QUARTER.model_copy(update={"lora_rank": 64}),
    "half an epoch": _QUARTER.model_copy(update={"epochs": 0.5, "warmup_steps": 10}),
    "one epoch": _QUARTER.model_copy(update={"epochs": 1.0, "warmup_steps": 10}),
    "two epochs": _QUARTER.model_copy(update={"epochs": 2.0, "warmup_steps": 10}),
    "half an epoch, rate 1e-3": _QUARTER.model_copy(update={"learning_rate": 1e-3, "epochs": 0.5, "warmup_steps": 10}),
}
CHATTERBOT = "rank 16, rate 3e-4, half chatterbot"


def sft_rows(languages: Sequence[str]) -> list[Prompt]:
    """What `base` is trained on: prompts and articles of the split `sft`."""
    return [p for lang in languages for task in ("open", "summarize") for p in seed_prompts("sft", lang, task)]


def compare(profile_name: str = "cpu", chatterbot: str = "chatterbot") -> Path:
    """Train the candidates for `base` and record their bits per character on `dev` in results/sft-compare."""
    from mlpo.data import sources
    from mlpo.train import sft as stage

    profile = profiles.load(profile_name)
    started = time.monotonic()
    rows = sft_rows(profile.languages)
    talk = [p for lang in profile.languages if lang not in sources.CHATTERBOT_MISSING for p in sources.load(chatterbot, lang, 108)]
    mixed = [*rows, *talk[: len(rows)]]
    dev = [
        p for lang in profile.languages for task, n in (("open", 8), ("summarize", 2)) for p in seed_prompts("dev", lang, task)[:n]
    ]
    first = next(iter(COMPARED.values()))
    grid = {name: (rows, config) for name, config in COMPARED.items()}
    grid[CHATTERBOT] = (mixed, first.model_copy(update={"epochs": 0.25 * len(rows) / len(mixed)}))
    bits = {"pretrained": bits_per_character(load("pretrained"), dev)}
    for name, (some, config) in grid.items():
        bits[name] = bits_per_character(load("pretrained", adapter=stage.train(some, config).adapter), dev)
    payload = {}
    for name, values in bits.items():
        e = stats.clustered_mean(values, [p.id for p in dev])
        payload[f"bits[{name}]"] = results.Metric(value=e.value, lo=e.lo, hi=e.hi, n=e.n, unit="bits/character")
        change = [x - y for x, y in zip(values, bits["rank 16, rate 3e-4"], strict=True)]
        e = stats.clustered_mean(change, [p.id for p in dev])
        payload[f"difference[{name}]"] = results.Metric(value=e.value, lo=e.lo, hi=e.hi, n=e.n, unit="bits/character")
    inputs = [fingerprint("pretrained"), digest([[p.id, p.lang, p.text, p.reference] for p in mixed])]
    parameters = {"profile": profile.name, "rows": len(rows), "chatterbot_rows": len(mixed) - len(rows)}
    return _record("sft-compare", "sft", digest([inputs, parameters]), inputs, parameters, payload, started)


def _record(
    run_id: str,
    kind: str,
    key: str,
    inputs: list[str],
    parameters: dict[str, Any],
    payload: dict[str, results.Metric],
    started: float,
) -> Path:
    """Write the manifest of a run that is no chapter."""
    manifest = results.Manifest(
        run_id=run_id,
        kind=kind,
        key=key,
        inputs=inputs,
        parameters=parameters,
        payload=dict(sorted(payload.items())),
        timing={
            "seconds": round(time.monotonic() - started, 1),
            "peak_memory_mb": results.peak_memory_mb(),
            "finished": datetime.now(UTC).strftime("%Y-%m-%d"),
        },
        environment=results.environment(torch_used=True),
    )
    paths.write_atomically(paths.RESULTS / run_id / "manifest.json", manifest.model_dump_json(indent=1) + "\n")
    return paths.RESULTS / run_id


def _keep_adapter(adapter: Path, run_id: str) -> None:
    """Copy an adapter into results/RUN_ID/adapter in float16, which halves the committed file, with its card."""
    import torch
    from safetensors.torch import load_file, save_file

    target = paths.RESULTS / run_id / "adapter"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    weights = load_file(adapter / "adapter_model.safetensors")
    half = {name: tensor.to(torch.float16).contiguous() for name, tensor in weights.items()}
    save_file(half, target / "adapter_model.safetensors", metadata={"format": "pt"})
    shutil.copy(adapter / "adapter_config.json", target)
    results.write_card(target, run_id)


def sft(profile_name: str = "cpu") -> Path:
    """Train the SFT adapter on `sft`, articles included, and record it in results/sft with its manifest."""
    from mlpo.train import sft as stage

    profile = profiles.load(profile_name)
    started = time.monotonic()
    rows = sft_rows(profile.languages)
    trained = stage.train(rows, profile.sft)
    _keep_adapter(trained.adapter, "sft")
    dev = [p for lang in profile.languages for task in ("open", "summarize") for p in seed_prompts("dev", lang, task)]
    seen = [p for lang in profile.languages for p in seed_prompts("sft", lang)[:20]]
    payload = {}
    for name, model, asked in (("pretrained", "pretrained", dev), ("base", "base", dev), ("train", "base", seen)):
        bits = bits_per_character(load(model), asked)
        groups = {f"[{lang}]": [i for i, p in enumerate(asked) if p.lang == lang] for lang in profile.languages}
        groups |= {f"_{task}": [i for i, p in enumerate(asked) if p.task == task] for task in ("open", "summarize")}
        for label, some in groups.items():
            if some:
                e = stats.clustered_mean([bits[i] for i in some], [asked[i].id for i in some])
                payload[f"bits_{name}{label}"] = results.Metric(value=e.value, lo=e.lo, hi=e.hi, n=e.n, unit="bits/character")
    losses = [row["loss"] for row in trained.log if "loss" in row]
    for label, ten in (("first", losses[:10]), ("last", losses[-10:])):
        payload[f"loss_{label}"] = results.Metric(value=sum(ten) / len(ten), n=10 * profile.sft.batch, unit="nats/token")
    inputs = [fingerprint("pretrained"), digest([[p.id, p.lang, p.text, p.reference] for p in rows])]
    parameters = {"profile": profile.name, "rows": len(rows), "steps": len(losses), **profile.sft.model_dump()}
    folder = _record("sft", "sft", trained.id, inputs, parameters, payload, started)
    sft_card(dev)
    return folder


def sft_card(dev: Sequence[Prompt]) -> None:
    """Add to the card of the SFT adapter what it was trained on, what it changed by language, and samples in eight scripts."""
    manifest = results.load("sft")
    assert manifest is not None
    about, codes = manifest.parameters, list(dict.fromkeys(p.lang for p in dev))
    bits = lambda m: f"{m.value:.2f} [{m.lo:.2f}, {m.hi:.2f}]"
    names = ("pretrained", "base", "train")
    lines = [f"| {LANGUAGES[c].name} | {' | '.join(bits(manifest.payload[f'bits_{n}[{c}]']) for n in names)} |" for c in codes]
    shown = [p for p in dev if p.id == dev[1].id and p.lang in ("en", "ru", "el", "ar", "he", "hi", "ja", "ko", "zh")]
    base, greedy = load("base"), Sampling(temperature=0, max_new_tokens=96)
    said = sample(base, [chat(base.tokenizer, p.text) for p in shown], greedy, [0] * len(shown))
    _fill_card(
        "sft",
        **about,
        languages=len(codes),
        first=results.format_metric(manifest.payload["loss_first"]),
        last=results.format_metric(manifest.payload["loss_last"]),
        table="\n".join(lines),
        open=results.format_metric(manifest.payload["bits_base_open"]),
        train=results.format_metric(manifest.payload["bits_train_open"]),
        prompt=shown[0].text,
        samples="".join(f"- {p.lang}: {' '.join(row.text.split())}\n" for p, row in zip(shown, said, strict=True)),
    )


def _fill_card(run_id: str, **fields: Any) -> None:
    """Write the card of a recorded adapter: the general part, and its own with `fields` filled in."""
    path = paths.RESULTS / run_id / "adapter" / "README.md"
    results.write_card(path.parent, run_id)
    own = (paths.PACKAGE / "cards" / f"{run_id}.md").read_text(encoding="utf-8").lstrip("\n")
    paths.write_atomically(path, path.read_text(encoding="utf-8") + "\n" + own.format(**fields))


def translator_card() -> None:
    """Add to the card of the translator's adapter what it was trained on and what it can do."""
    manifest = results.load("translator")
    assert manifest is not None
    show = lambda name: results.format_metric(manifest.payload[name])
    codes = [lang for lang in LANGUAGES if f"chrf_tuned[{lang}]" in manifest.payload]
    table = "\n".join(f"| {LANGUAGES[lang].name} | {show(f'chrf_tuned[{lang}]')} |" for lang in codes)
    scores = {"greedy": show("chrf_tuned_greedy"), "best": show("chrf_tuned"), "few": show("chrf_few_shot")}
    _fill_card("translator", **manifest.parameters, **scores, table=table)


TRANSLATOR = Training(learning_rate=3e-4, epochs=0.6, batch=8, lora_rank=32, warmup_steps=10, decay=True)


def translator(profile_name: str = "cpu") -> Path:
    """Train the default translator on the parallel texts of `sft`, both ways, and record it in results/translator."""
    from mlpo.data import translate
    from mlpo.train import sft as stage

    profile = profiles.load(profile_name)
    started = time.monotonic()
    pairs: list[tuple[str, str, str]] = []  # text, language to translate into, translation
    for lang in profile.languages:
        for a, b in zip(sft_rows(["en"]), sft_rows([lang]), strict=True) if lang != "en" else []:
            pairs.append((a.reference, lang, b.reference))
            if a.task == "open":
                pairs += [(a.text, lang, b.text), (b.text, "en", a.text)]
    rows = [Prompt(str(i), to, "sft", "open", "", translate.request(x, to), y) for i, (x, to, y) in enumerate(pairs)]
    trained = stage.train(rows, TRANSLATOR)
    _keep_adapter(trained.adapter, "translator")
    store, frames = Store(), []
    tuned = translate.TunedTranslator(load("tuned"))
    makers: dict[str, Translator] = {"few_shot": translate.FewShotTranslator(load("pretrained")), "tuned": tuned}
    makers["tuned_greedy"] = translate.TunedTranslator(tuned.loaded, candidates=1)
    seconds: dict[str, float] = {}
    english = seed_prompts("dev", "en")[:10]
    own = [p for lang in profile.languages if lang != "en" for p in seed_prompts("dev", lang)[:10]]
    for name, made in makers.items():
        began = time.monotonic()
        frames.append(translate.measure(store, made, english, own, profile.budget.block).assign(translator=name))
        seconds[name] = time.monotonic() - began
    table = pd.concat(frames)
    losses = [row["loss"] for row in trained.log if "loss" in row]
    payload = {
        f"loss_{label}": results.Metric(value=sum(ten) / len(ten), n=10 * TRANSLATOR.batch, unit="nats/token")
        for label, ten in (("first", losses[:10]), ("last", losses[-10:]))
    }
    parts = [*table.groupby(["translator", "lang"]), *(((name, ""), part) for name, part in table.groupby("translator"))]
    for (name, lang), part in parts:
        label = f"_{name}[{lang}]" if lang else f"_{name}"
        e = stats.clustered_mean(list(part["chrf"]), list(part["id"]))
        payload[f"chrf{label}"] = results.Metric(value=e.value, lo=e.lo, hi=e.hi, n=e.n, unit="chrF")
        e = stats.clustered_share(list(part["rejected"] != ""), list(part["id"]))
        payload[f"rejected{label}"] = results.Metric(value=e.value, lo=e.lo, hi=e.hi, n=e.n)
    by_row = table.set_index(["translator", "lang", "id"])["chrf"]
    for better, worse in (("tuned_greedy", "few_shot"), ("tuned", "tuned_greedy"), ("tuned", "few_shot")):
        gain = (by_row[better] - by_row[worse]).reset_index()
        e = stats.clustered_mean(list(gain["chrf"]), list(gain["id"]))
        payload[f"gain_{better}_over_{worse}"] = results.Metric(value=e.value, lo=e.lo, hi=e.hi, n=e.n, unit="chrF")
    for name, total in seconds.items():
        payload[f"seconds_{name}"] = results.Metric(value=total, n=len(table) // len(makers), unit="s")
    inputs = [fingerprint("pretrained"), digest(pairs)]
    parameters = {"profile": profile.name, "rows": len(rows), "steps": len(losses), **TRANSLATOR.model_dump()}
    folder = _record("translator", "sft", trained.id, inputs, parameters, payload, started)
    translator_card()
    return folder


CONFIDENCE = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)  # bins of calibration
JUDGED_PROMPTS = 8  # of `dev`, in every language


def _reward_data(profile: Profile, store: Store) -> tuple[list[KnownPair], list[KnownPair], list[Prompt]]:
    """Pairs of `rm` to learn from (24 prompts a language, base's answers to 16 of them, weak answers to 4), pairs of `dev` to
    test with, and the prompts of `dev`."""
    from mlpo.data import complete, translate

    block, sampling = profile.budget.block, profile.sampling
    rm = [p for lang in profile.languages for p in seed_prompts("rm", lang)]
    dev = [p for lang in profile.languages for p in seed_prompts("dev", lang)[:JUDGED_PROMPTS]]
    first = lambda n: [p for p in rm if p.id in {q.id for q in seed_prompts("rm", "en")[:n]}]
    base = complete.LocalGenerator(Lazy("base"), batch=48)
    own = complete.run(store, base, first(16), sampling, role="policy", block=block)
    weak, _ = complete.translated(
        store,
        complete.generator(profile.models.weak),
        translate.TunedTranslator(Lazy("tuned"), candidates=1),
        [p for p in first(4) if p.lang == "en"],
        first(4),
        sampling,
        longest=profile.budget.weak_characters,
        seed=0,
        block=block,
    )
    taught = [kind for kind in KINDS if kind not in profile.held_out_corruptions]
    pairs = known_pairs(first(24), [c for c in (*own, *weak) if c.text], taught)
    answered = complete.run(store, base, dev, sampling, role="policy", seed=1, samples=2, block=block)[::2]
    return pairs, known_pairs(dev, [c for c in answered if c.text]), dev


def _tested(store: Store, adapter: Path, pairs: Sequence[KnownPair], block: int) -> pd.DataFrame:
    """One row a pair: kind, lang, prompt_id, margin (reward of the better side minus that of the worse), right (1 or 0)."""
    from mlpo.data import score
    from mlpo.rewards import RewardModel

    model = RewardModel.from_adapter("base", adapter)
    asked = [Prompt(pair.prompt_id, pair.lang, "", "open", "", pair.prompt) for pair in pairs]
    texts = [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]
    scores = np.array(score.run(store, model, [*asked, *asked], texts, block))
    frame = pd.DataFrame([{"kind": p.kind, "lang": p.lang, "prompt_id": p.prompt_id} for p in pairs])
    frame["margin"] = scores[: len(pairs)] - scores[len(pairs) :]
    return frame.assign(right=(frame["margin"] > 0).astype(float))


def _share(payload: dict[str, results.Metric], name: str, rows: pd.DataFrame, column: str = "right") -> None:
    """Record a share with its interval, clustered by prompt."""
    e = stats.clustered_share(list(rows[column]), list(rows["prompt_id"]))
    payload[name] = results.Metric(value=e.value, lo=e.lo, hi=e.hi, n=e.n)


def reward(profile_name: str = "cpu") -> Path:
    """Train the reward model that everything after chapter 05 uses, and test it on `dev`."""
    from mlpo.train import reward as stage

    profile, store, started = profiles.load(profile_name), Store(), time.monotonic()
    pairs, tests, _ = _reward_data(profile, store)
    drawn, block, held_out = draw(pairs), profile.budget.block, list(profile.held_out_corruptions)
    config = profile.reward.model_copy(update={"epochs": 0.5})  # on two cores; what it costs in accuracy was not tried
    trained = stage.train(drawn, config)
    _keep_adapter(trained.adapter, "reward")
    adapter = recorded_adapter("reward")
    articles = [p for lang in profile.languages[::5] for p in seed_prompts("dev", lang, "summarize")[:4]]
    groups = {"dev": tests, "articles": known_pairs(articles), "train": drawn[::10]}
    table = pd.concat([_tested(store, adapter, some, block).assign(set=name) for name, some in groups.items()], ignore_index=True)
    table["held_out"] = table["kind"].isin(held_out)
    main, payload = table[table["set"] == "dev"], {}
    _share(payload, "accuracy", main)
    _share(payload, "accuracy_held_out", main[main["held_out"]])
    _share(payload, "accuracy_taught", main[main["kind"].isin(set(pair.kind for pair in drawn))])
    for name in ("train", "articles"):
        _share(payload, f"accuracy_{name}", table[table["set"] == name])
    for by in ("kind", "lang"):
        for name, rows in main.groupby(by):
            _share(payload, f"accuracy[{name}]", rows)
    rest, english = main[main["lang"] != "en"], main[main["lang"] == "en"]
    gap = english.groupby("prompt_id")["right"].mean() - rest.groupby("prompt_id")["right"].mean()
    e = stats.clustered_mean(list(gap), list(gap.index))
    payload["english_minus_others"] = results.Metric(value=e.value, lo=e.lo, hi=e.hi, n=e.n)
    confidence = 1 / (1 + np.exp(-main["margin"].abs()))
    bins = []
    for low, high in itertools.pairwise(CONFIDENCE):
        inside = main[(confidence >= low) & (confidence < high if high < 1 else confidence <= 1)]
        if len(inside):
            e = stats.clustered_share(list(inside["right"]), list(inside["prompt_id"]))
            mean = float(confidence[inside.index].mean())
            bins.append({"bin_lo": low, "bin_hi": high, "predicted": mean, "right": e.value, "lo": e.lo, "hi": e.hi, "n": e.n})
    folder = paths.RESULTS / "reward"
    paths.write_parquet(folder / "dev.parquet", table)
    paths.write_parquet(folder / "calibration.parquet", pd.DataFrame(bins))
    log = pd.DataFrame([{k: row[k] for k in ("step", "loss", "accuracy")} for row in trained.log if "loss" in row])
    paths.write_parquet(folder / "log.parquet", log)
    inputs = [fingerprint("base"), digest([[p.kind, p.prompt_id, p.lang, p.rejected] for p in drawn])]
    parameters = {"profile": profile.name, "pairs": len(drawn), "held_out": held_out, **config.model_dump()}
    recorded = _record("reward", "reward", trained.id, inputs, parameters, payload, started)
    reward_card()
    return recorded


def fits(profile_name: str = "cpu") -> Path:
    """Two small reward models on every other language, with and without base's answers, in results/reward-fits."""
    from mlpo.train import reward as stage

    profile, store, started = profiles.load(profile_name), Store(), time.monotonic()
    pairs, tests, dev = _reward_data(profile, store)
    half, few = profile.languages[::2], {p.id for p in seed_prompts("rm", "en")[:8]}
    inside = [pair for pair in pairs if pair.lang in half and pair.prompt_id in few]
    sets = {"half": draw(inside), "half_without": draw([pair for pair in inside if pair.kind != "base's answer"])}
    asked = {p.id for p in dev[:4]}
    payload: dict[str, results.Metric] = {}
    frames = []
    for fit, some in sets.items():
        adapter = stage.train(some, profile.reward).adapter
        rows = _tested(store, adapter, [pair for pair in tests if pair.prompt_id in asked], profile.budget.block)
        seen = rows["lang"].isin(half)
        _share(payload, f"accuracy_{fit}_seen", rows[seen])
        _share(payload, f"accuracy_{fit}_unseen", rows[~seen])
        for kind, part in rows.groupby("kind"):
            _share(payload, f"accuracy_{fit}[{kind}]", part)
        frames.append(rows.assign(fit=fit, language_seen=seen))
    paths.write_parquet(paths.RESULTS / "reward-fits" / "dev.parquet", pd.concat(frames, ignore_index=True))
    inputs = [
        fingerprint("base"),
        digest({fit: [[p.kind, p.prompt_id, p.lang, p.rejected] for p in some] for fit, some in sets.items()}),
    ]
    parameters = {"profile": profile.name, "languages": list(half), "held_out": list(profile.held_out_corruptions)}
    parameters |= {f"pairs_{fit}": len(some) for fit, some in sets.items()} | profile.reward.model_dump()
    return _record("reward-fits", "reward", digest([inputs, parameters]), inputs, parameters, payload, started)


def reward_card() -> None:
    """Add to the card of the reward model's adapter what it was trained on and how often it is right."""
    manifest = results.load("reward")
    assert manifest is not None
    show = lambda name: results.format_metric(manifest.payload[name])
    names = [*(kind for kind in (*KINDS, "base's answer") if f"accuracy[{kind}]" in manifest.payload)]
    kinds = "\n".join(f"| {kind} | {show(f'accuracy[{kind}]')} |" for kind in names)
    codes = [lang for lang in LANGUAGES if f"accuracy[{lang}]" in manifest.payload]
    table = "\n".join(f"| {LANGUAGES[lang].name} | {show(f'accuracy[{lang}]')} |" for lang in codes)
    about = manifest.parameters | {"held_out": " and ".join(manifest.parameters["held_out"])}
    figures = {name: show(name) for name in ("accuracy", "accuracy_train", "accuracy_held_out", "accuracy_articles")}
    _fill_card("reward", **about, **figures, kinds=kinds, table=table)


def bits_per_character(loaded: Loaded, prompts: Sequence[Prompt]) -> list[float]:
    """Bits per character of each prompt's reference as an answer to it: how unexpected the answer is to the model."""
    end = loaded.tokenizer.eos_token
    nats = log_likelihood(loaded, [p.reference + end for p in prompts], [chat(loaded.tokenizer, p.text) for p in prompts])
    return [-x / math.log(2) / len(p.reference) for x, p in zip(nats, prompts, strict=True)]


def _fix(**values: Any) -> Path:
    """Write into the package what was fixed for the judges."""
    from mlpo.evaluate.judge import WEIGHTS, fixed

    paths.write_atomically(WEIGHTS, json.dumps(fixed() | values, indent=1) + "\n")
    return WEIGHTS


def judge(profile_name: str = "cpu") -> Path:
    """Fix the embedded judge on `dev`: levels of references, then weights from pairs of known order."""
    from mlpo.evaluate.judge import EmbeddedJudge, fit_weights

    levels(profile_name)
    profile = profiles.load(profile_name)
    dev = [p for lang in profile.languages for p in seed_prompts("dev", lang)]
    by_key = {(p.id, p.lang): p for p in dev}
    embedded = EmbeddedJudge(Store())
    kinds = [kind for kind in KINDS if kind != "wrong language"]  # the language gate sees to that one
    pairs = [(p, worse) for p in dev for kind in kinds if (worse := corrupt(p, kind, by_key)) != p.reference]
    better = embedded.features([p for p, _ in pairs], [p.reference for p, _ in pairs])
    spoiled = embedded.features([p for p, _ in pairs], [text for _, text in pairs])
    weights = fit_weights(better, spoiled)
    return _fix(weights=weights, fitted_on=f"dev, {len(pairs)} pairs, {len(profile.languages)} languages")


def levels(profile_name: str = "cpu") -> Path:
    """Bits per character of the references of `dev`, and similarity of unrelated ones, by task and language."""
    from mlpo.evaluate.judge import EmbeddedJudge

    languages, embedded = profiles.load(profile_name).languages, EmbeddedJudge(Store())
    tasks = ("open", "summarize")
    asked = {task: [p for lang in languages for p in seed_prompts("dev", lang, task)] for task in tasks}
    return _fix(levels={task: embedded.measure_levels(asked[task]) for task in tasks})


def margins(profile_name: str = "cpu") -> Path:
    """Tie margins of the scoring judges: the median difference of two answers of `base` to one prompt, on `dev`, by task."""
    from mlpo.data import complete
    from mlpo.evaluate.judge import EmbeddedJudge, RewardJudge

    profile, store = profiles.load(profile_name), Store()
    base = complete.LocalGenerator(Lazy("base"))
    found: dict[str, dict[str, float]] = {}
    for task, number in (("open", JUDGED_PROMPTS), ("summarize", 1)):
        asked = [p for lang in profile.languages for p in seed_prompts("dev", lang, task)[:number]]
        drawn = complete.run(store, base, asked, profile.sampling, role="policy", samples=2, seed=1, block=profile.budget.block)
        for scoring in (EmbeddedJudge(store), RewardJudge(store)):
            scores = np.array(scoring.score([p for p in asked for _ in range(2)], [c.text for c in drawn]))
            found.setdefault(scoring.name, {})[task] = round(float(np.median(np.abs(scores[::2] - scores[1::2]))), 4)
    return _fix(margins=found)


ATTACKED = ("en", "ar", "zh", "de", "hi", "ja", "ru", "tr")  # languages of the attacked answers


def judges(profile_name: str = "cpu", served: str = "") -> Path:
    """Test every judge on pairs of known order and under attack, on `dev`; `served` adds an LLM judge (MODEL@URL), on English
    alone and fewer pairs, because it takes seconds a verdict."""
    from mlpo.data import complete
    from mlpo.evaluate import validity
    from mlpo.evaluate.judge import EmbeddedJudge, RewardJudge
    from mlpo.evaluate.llm_judge import LLMJudge
    from mlpo.server import Server

    profile, store, started = profiles.load(profile_name), Store(), time.monotonic()
    dev = [p for lang in profile.languages for p in seed_prompts("dev", lang)[:JUDGED_PROMPTS]]
    base = complete.LocalGenerator(Lazy("base"))
    drawn = complete.run(store, base, dev, profile.sampling, role="policy", seed=1, samples=2, block=profile.budget.block)
    first = {(p.id, p.lang): c.text for p, c in zip(dev, drawn[::2], strict=True)}
    second = {(p.id, p.lang): c.text for p, c in zip(dev, drawn[1::2], strict=True)}
    known = validity.known_matches(dev, {"base": first})
    few = [p for p in dev if p.id == dev[0].id or (p.id == dev[1].id and p.lang == "en")]
    attacked = [a for a in validity.attack_matches(few, first) if a.prompt.lang in ATTACKED]
    twice = [Match(p, first[p.id, p.lang], second[p.id, p.lang]) for p in dev]
    clusters = [p.id for p in dev]
    scoring: list[Any] = [EmbeddedJudge(store), RewardJudge(store)]
    rows, fell, said = [], [], {}
    for judge in scoring:
        rows.append(validity.table(judge, known))
        fell += [validity.attack_table(judge, attacked, "before")]
        fell += [validity.attack_table(validity.Guarded(judge), attacked, "after")]
        said[judge.name] = judge.judge(twice)
    if served:
        english = [k for k in known if k.prompt.lang == "en"]
        hurt = [a for a in attacked if a.prompt.lang == "en"]
        for guard in (False, True):
            judge = LLMJudge(store, Server(served), guard=guard)
            fell.append(validity.attack_table(judge, hurt, "after" if guard else "before"))
        rows.append(validity.table(judge, english))
    table, attacks = pd.concat(rows, ignore_index=True), pd.concat(fell, ignore_index=True)
    summary = validity.summary(table)
    payload: dict[str, results.Metric] = {}

    for (name, lang), ok in validity.valid(summary).items():
        number = int((table["judge"].eq(name) & table["lang"].eq(lang)).sum())
        payload[f"valid[{name}, {lang}]"] = results.Metric(value=float(ok), n=number)
    for name, part in table.groupby("judge"):
        _share(payload, f"right[{name}]", part)
        codes = list(part["lang"].unique())
        valid_in = sum(payload[f"valid[{name}, {lang}]"].value for lang in codes)
        payload[f"valid_languages[{name}]"] = results.Metric(value=valid_in, n=len(codes))
        for kind, some in part.groupby("kind"):
            _share(payload, f"right[{name}, {kind}]", some)
        for lang, some in part.groupby("lang"):
            _share(payload, f"right[{name}, {lang}]", some)
    for (name, guard, attack), some in attacks.groupby(["judge", "guard", "attack"]):
        _share(payload, f"fell[{name}, {guard}, {attack}]", some.assign(prompt_id=some["prompt_id"] + some["lang"]), "fell")
    for (name, guard), some in attacks.groupby(["judge", "guard"]):
        _share(payload, f"fell[{name}, {guard}]", some, "fell")
    for measure, e in validity.agreement(said["embedded"], said["reward"], clusters).items():
        payload[f"{measure}[embedded, reward]"] = results.Metric(value=e.value, lo=e.lo, hi=e.hi, n=e.n)
    folder = paths.RESULTS / "judges"
    show = lambda name: results.format_metric(payload[name]).rpartition(", n")[0]
    names, kinds = list(table["judge"].unique()), list(table["kind"].unique())
    by_kind = [{"kind": kind} | {name: show(f"right[{name}, {kind}]") for name in names} for kind in kinds]
    by_attack = [
        {"attack": attack} | {f"{name}, {guard} guard": show(f"fell[{name}, {guard}, {attack}]") for name, guard in rows}
        for attack, some in attacks.groupby("attack")
        for rows in [list(dict.fromkeys(zip(some["judge"], some["guard"], strict=True)))]
    ]
    tables = {"validity": table, "validity_summary": summary, "attacks": attacks}
    tables |= {"kinds": pd.DataFrame(by_kind), "attack_rates": pd.DataFrame(by_attack)}
    for name, frame in tables.items():
        paths.write_parquet(folder / f"{name}.parquet", frame)
    inputs = [fingerprint("base"), fingerprint("pretrained"), digest(list(first.values()))]
    parameters = {"profile": profile.name, "prompts": JUDGED_PROMPTS, "attacked": list(ATTACKED), "served": served.split("@")[0]}
    key = digest([inputs, parameters, rows_digest(table), rows_digest(attacks)])
    return _record("judges", "judges", key, inputs, parameters, payload, started)


def rows_digest(frame: Any) -> str:
    return digest(frame.to_dict("list"))


app = typer.Typer(add_completion=False)


@app.command()
def main(stage: str, profile: str = "cpu", served: str = "") -> None:
    """compare | sft | translator | reward | fits | levels | judge | margins | judges"""
    stages = {"compare": compare, "sft": sft, "translator": translator, "reward": reward, "fits": fits}
    stages |= {"levels": levels, "judge": judge, "margins": margins, "judges": judges}
    if stage not in stages:
        raise typer.BadParameter(f"unknown stage {stage!r}: choose {', '.join(stages)}")
    print(judges(profile, served) if served else stages[stage](profile))


if __name__ == "__main__":
    app()
