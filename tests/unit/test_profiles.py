"""Profiles: every mistake names the key and the fix."""

from __future__ import annotations

import pytest

from mlpo import MlpoError, profiles


@pytest.mark.parametrize("name", profiles.NAMES)
def test_the_shipped_profiles_load(name):
    profile = profiles.load(name)
    assert profile.name == name
    assert len(profile.languages) == {"smoke": 3, "cpu": 8}.get(name, 23)


def test_a_file_may_extend_a_profile(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: gpu\nbudget: {eval_prompts: 7}\n")
    mine = profiles.load(str(path))
    assert (mine.name, mine.budget.eval_prompts, mine.models.four_bit) == ("mine", 7, True)
    assert mine.budget.train_pairs == profiles.load("gpu").budget.train_pairs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: cpu\nbudgett: {}\n", "key 'budgett': unknown key; the keys here are name, languages"),
        ("extends: cpu\nbudget: {eval_prompt: 3}\n", "key 'budget.eval_prompt': unknown key; the keys here are eval_prompts"),
        ("extends: cpu\nbudget: {eval_prompts: many}\n", "key 'budget.eval_prompts': Input should be a valid integer"),
        ("extends: cpu\nlanguages: [en, xx]\n", "unknown language 'xx'; choose from en, ar"),
        ("extends: cpu\nlanguages: [tr]\n", "languages must contain en"),
        (
            "extends: cpu\nmodels: {translator_model: facebook/nllb-200-distilled-600M, four_bit: yes, base: pretrained}\n",
            "four_bit",
        ),
        ("extends: nowhere\n", "Unknown profile 'nowhere': choose smoke, cpu"),
        ("just text", "holds no settings"),
        ("a: [1", "not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, said):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(MlpoError) as error:
        profiles.load(str(path))
    assert said in str(error.value)


def test_a_profile_that_extends_itself_is_refused(tmp_path):
    path = tmp_path / "loop.yaml"
    path.write_text(f"extends: {path}\n")
    with pytest.raises(MlpoError, match="extends itself"):
        profiles.load(str(path))
