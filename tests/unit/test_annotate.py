"""The form without a browser: who wrote what stays hidden, sides map back to A and B, and no verdict is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlpo import MlpoError, paths
from mlpo.evaluate.annotate import Form, match_id, read
from mlpo.evaluate.stats import win_rate
from mlpo.records import Match, Prompt, Verdict


def match(number: int, lang: str = "en", a: str = "good", b: str = "bad") -> Match:
    prompt = Prompt(f"p{number}", lang, "dev", "open", "advice", f"Question {number}?", reference="the reference")
    return Match(prompt, f"{a} {number}", f"{b} {number}")


MATCHES = [match(number) for number in range(20)]


def side_of(form: Form, text: str) -> str:
    return ("left", "right")[form.shown["texts"][1:].index(text)]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_browser_gets_texts_in_both_orders_and_nothing_that_names_a_side(tmp_path):
    form, left, seen = Form(MATCHES, tmp_path / "dpo-against-base.jsonl", "ana"), [], []
    while form.current():
        assert set(form.shown) == {"match", "of", "done", "lang", "dir", "texts"}
        state = json.dumps(form.get_state(form.keys), default=str)  # all traits that are sent, not only ours
        assert not any(word in state for word in ("dpo", "base.jsonl", "the reference"))
        left.append(form.shown["texts"][1].split()[0])
        seen.append(form.current().prompt.id)
        form.decide("tie")
    assert set(left) == {"good", "bad"}
    assert sorted(seen) == sorted(m.prompt.id for m in MATCHES) != seen
    assert form.shown == {"match": "", "of": 20, "done": 20}


def test_order_and_sides_follow_seed_and_annotator_and_not_the_other_matches(tmp_path):
    def walk(matches, annotator, seed):
        form, shown = Form(matches, tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl", annotator, seed), []
        while form.current():
            shown.append(tuple(form.shown["texts"]))
            form.decide("tie")
        return shown

    first = walk(MATCHES, "ana", 0)
    assert walk(MATCHES[::-1], "ana", 0) == first
    assert walk(MATCHES, "ana", 1) != first
    assert walk(MATCHES, "ben", 0) != first
    few = walk(MATCHES[:7], "ana", 0)
    assert few == [texts for texts in first if texts in few]


@pytest.mark.parametrize(("word", "outcome", "sign"), [("good", "A", 1), ("bad", "B", -1)])
def test_the_chosen_text_wins_on_whichever_side_it_stood(tmp_path, word, outcome, sign):
    path = tmp_path / "verdicts.jsonl"
    form, sides = Form(MATCHES, path, "ana"), set()
    while m := form.current():
        side = side_of(form, m.a if outcome == "A" else m.b)
        sides.add(side)
        form.decide(side)
    assert sides == {"left", "right"}
    assert read(path, MATCHES) == [Verdict(outcome, sign)] * 20
    rate = win_rate([v.difference for v in read(path, MATCHES)], [m.prompt.id for m in MATCHES], 0.5)
    assert (rate.win.value, rate.loss.value) == ((1, 0) if sign > 0 else (0, 1))


def test_each_verdict_is_on_disk_at_once_with_ids_and_no_texts(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    form = Form(MATCHES, path, "ana")
    for count in range(1, 4):
        key = match_id(form.current())
        form.decide("tie")
        row = lines(path)[-1]
        assert len(lines(path)) == count
        assert set(row) == {"match", "annotator", "verdict", "seconds", "date"}
        assert (row["match"], row["annotator"], row["verdict"]) == (key, "ana", "tie")
        assert row["seconds"] >= 0


def test_a_new_form_goes_on_and_undo_reaches_back_before_it(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    first = Form(MATCHES, path, "ana")
    first.decide("left")
    second = first.current()
    first.decide("left")
    again = Form(MATCHES, path, "ana")
    assert again.current() == first.current()
    again.undo()
    assert again.current() == second
    assert read(path, [second]) == [None]
    assert Form(MATCHES, path, "ana").current() == second
    again.decide(side_of(again, second.b))
    assert [row["verdict"] for row in lines(path) if row["match"] == match_id(second)][1:] == [None, "B"]
    assert read(path, [second]) == [Verdict("B", -1)]


def test_several_annotators_share_a_file(tmp_path):
    path, m = tmp_path / "verdicts.jsonl", MATCHES[0]
    for annotator, text in (("ana", m.a), ("ben", m.b), ("eva", m.a), ("ida", m.a)):
        form = Form([m], path, annotator)
        form.decide(side_of(form, text))
    assert read(path, [m], "ben") == [Verdict("B", -1)]
    assert read(path, MATCHES, "nobody") == [None] * 20
    assert read(path, [m, MATCHES[1]]) == [Verdict("A", 0.5), None]
    Form([m], path, "ida").undo()
    assert read(path, [m])[0] == Verdict("tie", pytest.approx(1 / 3))


@pytest.mark.parametrize("kept", [1, 5, 60, -1])
def test_a_line_torn_by_a_kill_is_asked_again(tmp_path, kept):
    path = tmp_path / "verdicts.jsonl"
    form = Form(MATCHES, path, "ána")
    form.decide("tie")
    whole, second = path.read_bytes(), form.current()
    form.decide("tie")
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:kept])
    assert sum(verdict is not None for verdict in read(path, MATCHES)) == 1
    again = Form(MATCHES, path, "ána")
    assert again.current() == second
    assert path.read_bytes() == whole
    again.decide("tie")
    assert [row["verdict"] for row in lines(path)] == ["tie", "tie"]


def test_presses_for_a_match_no_longer_on_show_are_dropped(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    form = Form(MATCHES, path, "ana")
    key = form.shown["match"]
    for _ in range(2):
        form._receive(form, {"match": key, "choice": "tie"}, [])
    assert len(lines(path)) == 1
    form._receive(form, {"match": form.shown["match"], "choice": "undo"}, [])
    assert form.shown["match"] == key


def test_a_verdict_that_cannot_be_saved_is_not_taken_and_the_browser_is_told(tmp_path, monkeypatch):
    path, told = tmp_path / "verdicts.jsonl", []
    form = Form(MATCHES, path, "ana")
    before, form._path = form.shown, tmp_path / "gone" / "verdicts.jsonl"
    monkeypatch.setattr(form, "send", told.append)
    form._receive(form, {"match": before["match"], "choice": "left"}, [])
    assert form.shown == before
    assert "verdicts.jsonl cannot be written" in told[0]["error"]


def test_model_output_stays_text(tmp_path):
    attack = "<img src=x onerror=alert(1)>\u202e\x1b[31m"
    form = Form([match(0, "he", a=attack)], tmp_path / "verdicts.jsonl", "ana")
    assert "<img src=x onerror=alert(1)><202E><001B>[31m 0" in form.shown["texts"]
    assert (form.shown["lang"], form.shown["dir"]) == ("he", "rtl")
    script = (paths.PACKAGE / "evaluate" / "annotate.js").read_text(encoding="utf-8")
    assert not any(word in script for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval("))


def test_errors_are_one_sentence(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    with pytest.raises(MlpoError, match="no matches"):
        Form([], path, "ana")
    with pytest.raises(MlpoError, match="cannot be read"):
        read(path, MATCHES)
    form = Form(MATCHES, path, "ana")
    form.decide("left")
    form.decide("left")
    for use in (read, lambda p, m: Form(m, p, "ben")):
        with pytest.raises(MlpoError, match="belong to other matches"):
            use(path, [match(99)])
    good = path.read_text(encoding="utf-8")
    for bad in ("{}", "", '{"match":"', good.splitlines()[0].replace('"A"', '"C"').replace('"B"', '"C"')):
        path.write_text(f"{good.splitlines()[0]}\n{bad}\n{good}", encoding="utf-8")
        with pytest.raises(MlpoError, match=r"Line 2 of .*verdicts.jsonl is no verdict"):
            read(path, MATCHES)
    path.write_text("my only copy", encoding="utf-8")
    with pytest.raises(MlpoError, match="Line 1 of"):
        Form(MATCHES, path, "ana")
    assert path.read_text(encoding="utf-8") == "my only copy"
    for wrong in (path / "inside", tmp_path / "missing" / "verdicts.jsonl", Path("/proc/verdicts.jsonl")):
        with pytest.raises(MlpoError, match="cannot be written"):
            Form(MATCHES, wrong, "ana")
