"""What every chapter stands on and nobody needs to make again: the SFT adapter of `base`, and the judge's weights."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mlpo import paths, profiles, results
from mlpo.corruptions import KINDS, corrupt
from mlpo.data.prompts import seed_prompts
from mlpo.evaluate import stats
from mlpo.models import Loaded, digest, fingerprint, load
from mlpo.records import Prompt
from mlpo.sample import log_likelihood


def sft(profile_name: str = "cpu") -> Path:
    """Train the SFT adapter on `sft` in all languages of the profile and record it in results/sft with its manifest."""
    import torch
    from safetensors.torch import load_file, save_file

    from mlpo.train import sft as stage

    profile = profiles.load(profile_name)
    started = time.monotonic()
    rows = [p for lang in profile.languages for p in seed_prompts("sft", lang)]
    trained = stage.train(rows, profile.sft)
    target = paths.RESULTS / "sft" / "adapter"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    weights = load_file(trained.adapter / "adapter_model.safetensors")
    half = {name: tensor.to(torch.float16).contiguous() for name, tensor in weights.items()}  # halves the committed file
    save_file(half, target / "adapter_model.safetensors", metadata={"format": "pt"})
    shutil.copy(trained.adapter / "adapter_config.json", target)
    results.write_card(target, "sft")

    dev = [p for lang in profile.languages for p in seed_prompts("dev", lang)]
    payload = {}
    for name in ("pretrained", "base"):
        bits = bits_per_character(load(name), dev)
        for lang in profile.languages:
            some = [(b, p.id) for b, p in zip(bits, dev, strict=True) if p.lang == lang]
            e = stats.clustered_mean([b for b, _ in some], [i for _, i in some])
            payload[f"bits_{name}[{lang}]"] = results.Metric(value=e.value, lo=e.lo, hi=e.hi, n=e.n, unit="bits/character")
    losses = [row["loss"] for row in trained.log if "loss" in row]
    payload["loss_first"] = results.Metric(value=losses[0], n=profile.sft.batch, unit="nats/token")
    payload["loss_last"] = results.Metric(value=losses[-1], n=profile.sft.batch, unit="nats/token")
    manifest = results.Manifest(
        run_id="sft",
        kind="sft",
        key=trained.id,
        inputs=[fingerprint("pretrained"), digest([[p.id, p.lang, p.text, p.reference] for p in rows])],
        parameters={"profile": profile.name, "rows": len(rows), **profile.sft.model_dump()},
        payload=dict(sorted(payload.items())),
        timing={
            "seconds": round(time.monotonic() - started, 1),
            "peak_memory_mb": results.peak_memory_mb(),
            "finished": datetime.now(UTC).strftime("%Y-%m-%d"),
        },
        environment=results.environment(torch_used=True),
    )
    paths.write_atomically(paths.RESULTS / "sft" / "manifest.json", manifest.model_dump_json(indent=1) + "\n")
    return target


def bits_per_character(loaded: Loaded, prompts: Sequence[Prompt]) -> list[float]:
    """Bits per character of each prompt's reference under a model: its own measure of how expected the text is."""
    texts = [p.reference for p in prompts]
    return [-x / 0.6931471805599453 / len(text) for x, text in zip(log_likelihood(loaded, texts, batch=8), texts, strict=True)]


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
