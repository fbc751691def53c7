"""The embedded judge: verdicts per second, all pairs in one call against one call a pair; its encoder alone; and memory.

Each repeat starts with an empty store, so that every text is read by both models. Scores of both ways are asserted equal.
"""

import resource
import tempfile
import time
from itertools import islice
from pathlib import Path

from mlpo.corruptions import corrupt
from mlpo.data.prompts import seed_prompts
from mlpo.evaluate.judge import EmbeddedJudge
from mlpo.records import Match
from mlpo.store import Store

LANGUAGES, PROMPTS, REPEATS = ("en", "tr", "hi", "zh"), 6, 5
dev = [p for lang in LANGUAGES for p in islice(seed_prompts("dev", lang), PROMPTS)]
by_key = {(p.id, p.lang): p for p in dev}
matches = [Match(p, p.reference, corrupt(p, "truncation", by_key)) for p in dev]
fluency = EmbeddedJudge(Store(Path(tempfile.mkdtemp()) / "s.sqlite")).fluency
fluency.model  # noqa: B018  loaded before the clock starts


def judged(one_by_one: bool) -> tuple[list[float], float, float]:
    """Differences of scores, seconds for all of it, seconds of the encoder."""
    with tempfile.TemporaryDirectory() as folder:
        judge = EmbeddedJudge(Store(Path(folder) / "s.sqlite"))
        judge.fluency = fluency
        judge.embed(["warm"])
        start = time.perf_counter()
        for match in matches if one_by_one else [None]:
            some = [match] if match else matches
            judge.embed([text for m in some for text in (m.a, m.b, m.prompt.reference)])
        encoder = time.perf_counter() - start
        judge._vectors.clear()
        start = time.perf_counter()
        verdicts = [v for m in matches for v in judge.judge([m])] if one_by_one else judge.judge(matches)
        return [v.difference for v in verdicts], time.perf_counter() - start, encoder


ratios, rates, encoder_rates = [], [], []
for _ in range(REPEATS):
    batched, quick, encoder = judged(False)
    single, slow, _ = judged(True)
    assert all(abs(a - b) < 1e-3 for a, b in zip(batched, single, strict=True))
    ratios.append(slow / quick)
    rates.append(len(matches) / quick)
    encoder_rates.append(len(matches) / encoder)
middle = REPEATS // 2
for what, values in (
    ("one call a pair takes, of the time in one call", ratios),
    ("verdicts a second in one call", rates),
    ("verdicts a second, encoder alone", encoder_rates),
):
    values.sort()
    print(f"{what}: {values[middle]:.2f} ({values[0]:.2f} to {values[-1]:.2f})")
print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB, {len(matches)} pairs, {REPEATS} repeats")
