"""Step 4: rewards of completions, stored."""

from __future__ import annotations

from collections.abc import Sequence

from mlpo.models import digest
from mlpo.records import Prompt
from mlpo.rewards import RewardModel, ServedReward
from mlpo.store import Store, item_id

STEP_VERSION = 1


def run(
    store: Store, reward: RewardModel | ServedReward, prompts: Sequence[Prompt], texts: Sequence[str], block: int = 32
) -> list[float]:
    """Reward of each text as an answer to the prompt beside it, in the same order."""
    pairs = list(zip(prompts, texts, strict=True))
    ids = [item_id("score", STEP_VERSION, [digest(p.text), digest(text)], reward.fingerprint) for p, text in pairs]
    done = store.complete(
        "score",
        dict(zip(ids, pairs, strict=True)),
        lambda _, some: reward.score([p for p, _ in some], [text for _, text in some]),
        block,
    )
    return [float(done[item]) for item in ids]
