"""Profiles: every mistake names the key and the fix."""

from __future__ import annotations

import pytest

from mlpo import MlpoError, profiles


@pytest.mark.parametrize("name", profiles.NAMES)
def test_the_shipped_profiles_load(name):
    profile = profiles.load(name)
    assert profile.name == name
    assert len(profile.languages) == (3 if name == "smoke" else 23)


def test_a_file_may_extend_a_profile(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: gpu\nbudget: {eval_prompts: 7}\n")
    mine = profiles.load(str(path))
    assert (mine.name, mine.budget.eval_prompts, mine.models.base) == ("mine", 7, profiles.load("gpu").models.base)
    assert mine.budget.train_pairs == profiles.load("gpu").budget.train_pairs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: cpu\nbudgett: {}\n", "key 'budgett': unknown key; the keys here are name, languages"),
        ("extends: cpu\nbudget: {eval_prompt: 3}\n", "key 'budget.eval_prompt': unknown key; the keys here are eval_prompts"),
        ("extends: cpu\nbudget: {eval_prompts: many}\n", "key 'budget.eval_prompts': Input should be a valid integer"),
        ("extends: cpu\nlanguages: [en, xx]\n", "unknown language 'xx'; choose from en, ar"),
        ("extends: cpu\nlanguages: [tr, hi]\n", "languages must contain en"),
        ("extends: cpu\nheld_out_corruptions: [typo]\n", "key 'held_out_corruptions.0': Input should be 'other reference'"),
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


def test_files_that_a_profile_names_lie_beside_it(tmp_path):
    (tmp_path / "below.yaml").write_text("extends: cpu\nprompts: mine.jsonl\n")
    (tmp_path / "top.yaml").write_text("extends: below.yaml\n")
    assert profiles.load(str(tmp_path / "top.yaml")).prompts == str(tmp_path / "mine.jsonl")
