"""Tokens per second of mlpo's sampler against transformers' `generate`, same model and prompts; greedy tokens asserted equal.

The two alternate, so that a slow moment of the machine hits both; the ratio is taken pair by pair, at equal numbers of tokens
kept. Three cases: one sample a prompt, all of the same length; four samples a prompt; lengths as skewed as real ones, greedy and
sampled. `python benchmarks/sampler.py sampled` runs the last one alone.
"""

import random
import statistics
import sys
import time

from mlpo.data.prompts import seed_prompts
from mlpo.languages import LANGUAGES
from mlpo.models import load
from mlpo.profiles import Sampling
from mlpo.sample import chat, sample

NEW, ROWS, REPEATS = 32, 32, 5

base = load("base")
texts = [p.text for lang in LANGUAGES for p in seed_prompts("dev", lang)[:2]][:ROWS]
prompts = [chat(base.tokenizer, text) for text in texts]
pad = base.tokenizer.pad_token_id


def timed(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def stock(prompts, **options):
    """`generate` on all prompts at once: rows of token lists, without what follows the end of turn."""
    encoded = base.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    rows = base.model.generate(**encoded, **options)[:, encoded["input_ids"].shape[1] :].tolist()
    return [[token for token in row if token != pad] for row in rows]


def compare(name, ours, theirs, repeats=REPEATS):
    if len(sys.argv) > 1 and sys.argv[1] not in name:
        return
    ratios = []
    for _ in range(repeats):
        (a, seconds_a), (b, seconds_b) = timed(ours), timed(theirs)
        kept_a, kept_b = sum(len(row.tokens) for row in a), sum(len(row) for row in b)
        ratios.append((kept_a / seconds_a) / (kept_b / seconds_b))
    ratios.sort()
    middle = f"{statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f}, {repeats} repeats)"
    print(f"{name}: tokens per second relative to generate {middle}; last: {kept_a} tokens in {seconds_a:.1f} s", flush=True)


def ban_end(function):
    """Both sides with an end token that never comes, so that all rows have the same length."""
    saved = base.model.config.eos_token_id, base.tokenizer.eos_token, base.model.generation_config.eos_token_id
    base.model.config.eos_token_id = base.model.generation_config.eos_token_id = pad
    base.tokenizer.eos_token = base.tokenizer.pad_token
    try:
        return function()
    finally:
        base.model.config.eos_token_id, base.tokenizer.eos_token, base.model.generation_config.eos_token_id = saved


greedy = Sampling(temperature=0, max_new_tokens=NEW)
one, reference = sample(base, prompts, greedy, [0] * ROWS), stock(prompts, max_new_tokens=NEW, do_sample=False)
equal = sum(row.tokens == other[: len(row.tokens)] for row, other in zip(one, reference, strict=True))
assert equal >= 0.95 * ROWS, f"greedy tokens differ in {ROWS - equal} rows"
print(f"greedy tokens equal in {equal} of {ROWS} rows (rounding in other batch shapes may turn a near tie)")

nucleus = Sampling(max_new_tokens=NEW)
drawn = {"do_sample": True, "temperature": 0.7, "top_p": 0.95, "top_k": 0}
compare(
    "k = 1, equal lengths",
    lambda: ban_end(lambda: sample(base, prompts, nucleus, list(range(ROWS)))),
    lambda: ban_end(lambda: stock(prompts, max_new_tokens=NEW, **drawn)),
)
few = prompts[: ROWS // 4]
repeated = [prompt for prompt in few for _ in range(4)]
compare(
    "k = 4, equal lengths",
    lambda: ban_end(lambda: sample(base, repeated, nucleus, list(range(ROWS)))),
    lambda: ban_end(lambda: stock(few, max_new_tokens=NEW, num_return_sequences=4, **drawn)),
)
# Skewed: most answers end soon, some go on to the limit. Both sides end a row by the same rule: a token in one set, of which
# a random text meets one every sixteen tokens or so.
ends = [*random.Random(0).sample(range(1000, len(base.tokenizer)), len(base.tokenizer) // 16), base.tokenizer.eos_token_id]
base.model.config.eos_token_id = base.model.generation_config.eos_token_id = ends
many = prompts * 2
long = Sampling(temperature=0, max_new_tokens=128)  # greedy on both sides: what is left is the lengths' doing
compare(
    "k = 1, skewed lengths, greedy",
    lambda: sample(base, many, long, list(range(len(many)))),
    lambda: [row for i in range(0, len(many), ROWS) for row in stock(many[i : i + ROWS], max_new_tokens=128, do_sample=False)],
    repeats=3,
)
short = Sampling(max_new_tokens=64)
compare(
    "k = 1, skewed lengths, sampled",
    lambda: sample(base, many, short, list(range(len(many)))),
    lambda: [row for i in range(0, len(many), ROWS) for row in stock(many[i : i + ROWS], max_new_tokens=64, **drawn)],
    repeats=3,
)
