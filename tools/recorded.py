"""What every chapter stands on, made once and committed: settings compared for `base`, its SFT adapter, the translator, the
judge's weights. Nobody needs to make them again; who wants others, in other languages say, runs

    python tools/recorded.py compare | sft | translator | judge [--profile NAME]

All of it resumes after a kill. `sft` and `translator` take about an hour each on two cores.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from mlpo import paths, profiles, results
from mlpo.corruptions import KINDS, corrupt
from mlpo.data.prompts import seed_prompts
from mlpo.evaluate import stats
from mlpo.languages import LANGUAGES
from mlpo.models import Loaded, digest, fingerprint, load
from mlpo.profiles import Sampling, Training
from mlpo.records import Prompt, Translator
from mlpo.sample import chat, log_likelihood, sample

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
    import pandas as pd

    from mlpo.data import translate
    from mlpo.store import Store
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


def bits_per_character(loaded: Loaded, prompts: Sequence[Prompt]) -> list[float]:
    """Bits per character of each prompt's reference as an answer to it: how unexpected the answer is to the model."""
    end = loaded.tokenizer.eos_token
    nats = log_likelihood(loaded, [p.reference + end for p in prompts], [chat(loaded.tokenizer, p.text) for p in prompts])
    return [-x / math.log(2) / len(p.reference) for x, p in zip(nats, prompts, strict=True)]


def judge(profile_name: str = "cpu") -> Path:
    """Fit the embedded judge's weights to pairs of known order made from `dev`, and write them into the package."""
    from mlpo.evaluate.judge import WEIGHTS, EmbeddedJudge, fit_weights
    from mlpo.store import Store

    profile = profiles.load(profile_name)
    dev = [p for lang in profile.languages for p in seed_prompts("dev", lang)]
    by_key = {(p.id, p.lang): p for p in dev}
    embedded = EmbeddedJudge(Store(), load("pretrained"), dev)
    kinds = [kind for kind in KINDS if kind != "wrong language"]  # the language gate sees to that one
    pairs = [(p, worse) for p in dev for kind in kinds if (worse := corrupt(p, kind, by_key)) != p.reference]
    better = embedded.features([p for p, _ in pairs], [p.reference for p, _ in pairs])
    spoiled = embedded.features([p for p, _ in pairs], [text for _, text in pairs])
    weights = fit_weights(better, spoiled)
    note = {"weights": weights, "fitted_on": f"dev, {len(pairs)} pairs, {len(profile.languages)} languages"}
    paths.write_atomically(WEIGHTS, json.dumps(note, indent=1) + "\n")
    return WEIGHTS


app = typer.Typer(add_completion=False)


@app.command()
def main(stage: str, profile: str = "cpu") -> None:
    """compare | sft | translator | judge"""
    stages = {"compare": compare, "sft": sft, "translator": translator, "judge": judge}
    if stage not in stages:
        raise typer.BadParameter(f"unknown stage {stage!r}: choose {', '.join(stages)}")
    print(stages[stage](profile))


if __name__ == "__main__":
    app()
