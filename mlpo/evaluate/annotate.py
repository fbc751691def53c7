"""People as judges: a form in a notebook cell that shows two answers blind, and the file of verdicts that it writes.

Neither the browser nor the file knows which model wrote what; which answer stands on the left is drawn for each match.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import anywidget
import traitlets
from pydantic import BaseModel

from mlpo import languages, paths
from mlpo.display import printable
from mlpo.errors import MlpoError
from mlpo.models import digest
from mlpo.records import Match, Verdict


class Row(BaseModel):
    """A line of the file; an annotator's last on a match counts. `verdict`: A, B as in the match, None where taken back."""

    match: str
    annotator: str
    verdict: Literal["A", "B", "tie"] | None
    seconds: float
    date: date


def match_id(match: Match) -> str:
    return digest([match.prompt.id, match.prompt.lang, match.a, match.b])


def read(path: Path, matches: Sequence[Match], annotator: str | None = None) -> list[Verdict | None]:
    """A verdict a match (None: not judged) by one annotator or all in the file. `difference` is their mean of A +1, tie 0, B -1;
    below 0.5 it is a tie, the margin for `stats.win_rate` too. MlpoError where the file is unreadable or of other matches."""
    ids = [match_id(match) for match in matches]
    last = {(row.match, row.annotator): row for row in _rows(path, ids) if annotator in (None, row.annotator)}
    verdicts: list[Verdict | None] = []
    for key in ids:
        signs = [{"A": 1, "tie": 0, "B": -1}[row.verdict] for row in last.values() if row.match == key and row.verdict]
        mean = sum(signs) / max(1, len(signs))
        verdicts.append(Verdict("tie" if abs(mean) < 0.5 else "A" if mean > 0 else "B", mean) if signs else None)
    return verdicts


def _rows(path: Path, ids: Sequence[str]) -> list[Row]:
    """Lines of the file. The start of one after the last newline was torn by a kill: it does not count."""
    rows, start = [], b'{"match":"'
    try:
        lines = path.read_bytes().split(b"\n")
        for line in lines[:-1] if start.startswith(lines[-1][: len(start)]) else lines:
            rows.append(Row.model_validate_json(line))
    except OSError as error:
        raise MlpoError(f"The verdicts {path} cannot be read ({error.strerror}): name a file that the form has written.") from None
    except ValueError:
        raise MlpoError(f"Line {len(rows) + 1} of {path} is no verdict: correct or remove it, or name another file.") from None
    if rows and not {row.match for row in rows} & set(ids):
        raise MlpoError(f"The verdicts in {path} belong to other matches: give those, or name another file.")
    return rows


class Form(anywidget.AnyWidget):
    """The form, for the last line of a cell; goes on after what `annotator` has in `path`. MlpoError: no matches, a wrong file."""

    _esm = paths.PACKAGE / "evaluate" / "annotate.js"
    _css = paths.PACKAGE / "evaluate" / "annotate.css"
    shown = traitlets.Dict().tag(sync=True)  # all that the browser gets

    def __init__(self, matches: Sequence[Match], path: Path, annotator: str, seed: int = 0) -> None:
        super().__init__()
        if not matches:
            raise MlpoError("There are no matches to judge: give the form at least one.")
        self._path, self._annotator, self._matches = path, annotator, {match_id(match): match for match in matches}
        self._draw = {key: int(digest([seed, annotator, key]), 16) for key in self._matches}
        rows = _rows(path, list(self._matches)) if path.exists() else []
        last = {row.match: row.verdict for row in rows if row.annotator == annotator and row.match in self._matches}
        self._done = [key for key, verdict in last.items() if verdict]  # oldest first
        self._todo = sorted(self._matches.keys() - self._done, key=lambda key: self._draw[key])
        self._write("")  # a closed folder shows now, not at the first verdict
        self._show()
        self.on_msg(self._receive)

    def current(self) -> Match | None:
        """The match on show; None when all are judged."""
        return self._matches[self._todo[0]] if self._todo else None

    def decide(self, choice: Literal["left", "right", "tie"]) -> None:
        """Save a verdict on the match on show, by side of the screen, and show the next."""
        swapped = self._draw[self._todo[0]] % 2
        self._save(self._todo[0], "tie" if choice == "tie" else "A" if (choice == "right") == swapped else "B")
        self._done.append(self._todo.pop(0))
        self._show()

    def undo(self) -> None:
        """Take back the last verdict and show its match again."""
        self._save(self._done[-1], None)
        self._todo.insert(0, self._done.pop())
        self._show()

    def _save(self, key: str, verdict: Literal["A", "B", "tie"] | None) -> None:
        seconds, today = round(time.monotonic() - self._since, 1), datetime.now(UTC).date()
        row = Row(match=key, annotator=self._annotator, verdict=verdict, seconds=seconds, date=today)
        self._write(row.model_dump_json() + "\n")

    def _write(self, line: str) -> None:
        """Add a line for good; a torn one makes way."""
        try:
            with self._path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # another annotator may be at it
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise MlpoError(f"{self._path} cannot be written ({error.strerror}): unlock or free it, or name another.") from None

    def _show(self) -> None:
        self._since, shown = time.monotonic(), {"match": "", "of": len(self._matches), "done": len(self._done)}
        if match := self.current():
            lang, key, answers = languages.get(match.prompt.lang), self._todo[0], [match.a, match.b]
            texts = [match.prompt.text, *(reversed(answers) if self._draw[key] % 2 else answers)]
            shown |= {
                "match": key,
                "lang": lang.code,
                "dir": "rtl" if lang.rtl else "ltr",
                "texts": [printable(text) for text in texts],
            }
        self.shown = shown

    def _receive(self, _: object, press: dict[str, Any], __: object) -> None:
        """A key or button; one meant for a match no longer on show (pressed twice) is dropped."""
        try:
            if press["match"] == self.shown["match"]:
                self.undo() if press["choice"] == "undo" else self.decide(press["choice"])
        except MlpoError as error:  # raised here it would end in a log that nobody sees
            self.send({"error": str(error)})
