"""Golden outputs of the steps. If one of these fails, either mend the step or raise its STEP_VERSION and the golden value."""

from __future__ import annotations

from mlpo.data import complete, pair, prompts, score, translate
from mlpo.evaluate import judge
from mlpo.models import digest
from mlpo.profiles import Sampling
from mlpo.records import Completion, Prompt, Text
from mlpo.sample import chat, sample, seed_of
from mlpo.train import dpo, reward, rloo, sft

VERSIONS = {
    step.__name__.removeprefix("mlpo."): step.STEP_VERSION
    for step in (translate, complete, score, pair, judge, sft, reward, dpo, rloo)
}


def test_known_pairs_of_the_reward_model():
    rows = [p for lang in ("en", "tr", "zh") for p in prompts.seed_prompts("rm", lang)]
    got = digest([[p.kind, p.prompt_id, p.lang, p.rejected] for p in reward.known_pairs(rows)])
    assert (VERSIONS["train.reward"], got[:16]) == (1, "77bc4bfe9e803c8f")


def test_preference_pairs():
    asked = [Prompt(str(i), "en", "pref", "open", "x", f"q{i}") for i in range(4)]
    rows = [Completion(digest([p.id, role]), p.id, "en", role, role + p.id) for p in asked for role in ("native", "translated")]
    made = [pair.make(asked, rows, [0.1 * i for i in range(8)], rule) for rule in ("role", "reward", "random")]
    assert (VERSIONS["data.pair"], digest([[p.id for p in some] for some in made])[:16]) == (2, "b69655fd2530e688")


def test_a_translation():
    from mlpo.models import load

    translator = translate.FewShotTranslator(load("pretrained"), max_new_tokens=16)
    got = translator.translate([Text("1", "Why is the sky blue?")], "en", "de")
    assert (VERSIONS["data.translate"], got[0].text) == (3, "Warum ist der Himmel rot?")


def test_a_sampled_completion(base):
    drawn = sample(base, [chat(base.tokenizer, "Name a fruit.")], Sampling(max_new_tokens=12), [seed_of("0123456789abcdef")])
    assert (VERSIONS["data.complete"], drawn[0].text) == (2, "A fruit is a small, red, hollow structure that contains")


def test_every_step_has_a_version():
    assert all(isinstance(version, int) and version >= 1 for version in VERSIONS.values())
    assert len(VERSIONS) == 9
