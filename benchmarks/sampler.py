"""Tokens per second of mlpo's sampler against transformers' `generate`, same model and prompts; greedy tokens asserted equal.

The comparison alternates the two, so that a slow moment of the machine hits both; the ratio is taken pair by pair.
"""

import statistics
import time

from mlpo.data.prompts import seed_prompts
from mlpo.models import load
from mlpo.profiles import Sampling
from mlpo.sample import chat, sample

NEW, ROWS, REPEATS = 32, 16, 5

base = load("base")
prompts = [chat(base.tokenizer, p.text) for lang in ("en", "tr") for p in seed_prompts("dev", lang)[: ROWS // 2]]
encoded = base.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
width = encoded["input_ids"].shape[1]


def timed(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def stock(**options):
    return base.model.generate(**encoded, max_new_tokens=NEW, **options)[:, width:].tolist()


greedy = Sampling(temperature=0, max_new_tokens=NEW)
ours, reference = sample(base, prompts, greedy, [0] * ROWS), stock(do_sample=False)
assert all(row.tokens == other[: len(row.tokens)] for row, other in zip(ours, reference, strict=True))

drawn = {"do_sample": True, "temperature": 0.7, "top_p": 0.95, "top_k": 0}
for name, sampling, options in (("greedy", greedy, {"do_sample": False}), ("nucleus", Sampling(max_new_tokens=NEW), drawn)):
    pairs = [
        (timed(lambda: sample(base, prompts, sampling, list(range(ROWS))))[1], timed(lambda: stock(**options))[1])  # noqa: B023
        for _ in range(REPEATS)
    ]
    ratios = sorted(b / a for a, b in pairs)
    fastest = ROWS * NEW / min(a for a, _ in pairs)
    print(
        f"{name}: sampler up to {fastest:.0f} tokens/s; generate takes {statistics.median(ratios):.2f} times as long "
        f"(from {ratios[0]:.2f} to {ratios[-1]:.2f}, {REPEATS} repeats, {ROWS} rows of up to {NEW} tokens)"
    )
