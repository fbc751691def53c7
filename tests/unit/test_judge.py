"""The embedded judge on a few real prompts: order, symmetry, ties, and answers that try nothing at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mlpo import MlpoError
from mlpo.corruptions import corrupt
from mlpo.data.prompts import seed_prompts
from mlpo.evaluate.judge import FEATURES, EmbeddedJudge, ScoringJudge, fit_weights, fixed
from mlpo.languages import LANGUAGES
from mlpo.records import Match
from mlpo.store import Store

DEV = [p for lang in ("en", "tr", "zh") for p in seed_prompts("dev", lang)[:3]]


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return EmbeddedJudge(Store(tmp_path_factory.mktemp("judge") / "s.sqlite"))


@pytest.mark.parametrize("kind", ["shuffled words", "wrong language", "truncation"])
def test_the_reference_beats_itself_made_worse_on_either_side(judge, kind):
    rows = {(p.id, p.lang): p for p in DEV}
    worse = [corrupt(p, kind, rows) for p in DEV]
    there = judge.judge([Match(p, p.reference, w) for p, w in zip(DEV, worse, strict=True)])
    back = judge.judge([Match(p, w, p.reference) for p, w in zip(DEV, worse, strict=True)])
    assert [v.outcome for v in there] == ["A"] * len(DEV)
    assert [v.outcome for v in back] == ["B"] * len(DEV)
    assert [v.difference for v in there] == pytest.approx([-v.difference for v in back])


def test_the_same_answer_is_a_tie(judge):
    assert {v.outcome for v in judge.judge([Match(p, p.reference, p.reference) for p in DEV])} == {"tie"}


def test_an_empty_answer_loses_and_breaks_nothing(judge):
    assert {v.outcome for v in judge.judge([Match(p, "", p.reference) for p in DEV])} == {"B"}


def test_a_prompt_without_a_reference_is_refused_in_one_sentence(judge):
    bare = [replace(DEV[0], reference="")]
    with pytest.raises(MlpoError, match="needs a reference for every prompt, and 'p002'"):
        judge.score(bare, ["x"])


def test_what_was_fixed_covers_every_language_task_and_judge():
    about = fixed()
    assert set(about["weights"]) == set(FEATURES)
    assert all(set(about["levels"][task]) == set(LANGUAGES) for task in ("open", "summarize"))
    assert {judge: set(tasks) for judge, tasks in about["margins"].items()} == {
        judge: {"open", "summarize"} for judge in ("embedded", "reward")
    }
    assert all(margin > 0 for tasks in about["margins"].values() for margin in tasks.values())


def test_a_difference_below_the_margin_of_the_task_is_a_tie():
    class Lengths(ScoringJudge):
        name = "lengths"

        def score(self, prompts, answers):
            return [float(len(answer)) for answer in answers]

        def margin(self, task):
            return {"open": 2.0, "summarize": 5.0}[task]

    prompts = [DEV[0], DEV[0], replace(DEV[0], task="summarize")]
    verdicts = Lengths().judge([Match(p, "abcd", b) for p, b in zip(prompts, ("a", "abc", "a"), strict=True)])
    assert [(v.outcome, v.difference) for v in verdicts] == [("A", 3.0), ("tie", 1.0), ("tie", 3.0)]


def test_weights_are_those_of_a_bradley_terry_fit():
    rng = np.random.default_rng(0)
    true = np.array([2.0, 0.0, 1.0, 0.5, 0.0, 1.0])
    a, b = rng.normal(size=(2, 4000, len(FEATURES)))
    first = rng.random(4000) < 1 / (1 + np.exp(-(a - b) @ true))
    better, worse = np.where(first[:, None], a, b), np.where(first[:, None], b, a)
    fitted = np.array(list(fit_weights(better, worse, ridge=0).values()))
    assert fitted == pytest.approx(true, abs=0.2)
