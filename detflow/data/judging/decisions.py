"""What a person decides where the evidence does not: a table of questions, filled in.

`detflow.data.questions` writes the table. It comes back from a spreadsheet or an editor, so nothing
in it is believed: a row that does not fit the dataset refuses it, with the table's line.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from detflow.errors import ConfigError, DataError
from detflow.text import escape_unprintable
from detflow.types import CornerFrame

COLUMNS = ("question", "about", "annotation", "line", "evidence", "candidates", "answer")
_NEEDED = ("question", "annotation", "answer")
_MAX_BYTES = 64 << 20
# A spreadsheet takes what begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
DROP, SCALE, FOLLOW, IGNORE = "drop", "scale", "follow", "ignore"
_REMOVE = "remove the row, or answer what `detflow check --questions` asks now"


class Topic(StrEnum):
    """What a question is about."""

    IMAGE = "image"
    """Which image an annotation belongs to."""

    BOXES = "boxes"
    """What becomes of boxes that were drawn on another rendition or in other units."""

    EXIF = "exif"
    """Whether the image was annotated as EXIF turns it."""

    CORNERS = "corners"
    """What the corners of a tool count."""

    CLASS = "class"
    """Whether a class is another one, misspelt."""


# What the column `about` names; the others are about the annotation.
_ABOUT = (Topic.CORNERS, Topic.CLASS)

OPEN_CODES: Mapping[str, Topic] = {
    "image_ambiguous": Topic.IMAGE,
    "image_claimed_twice": Topic.IMAGE,
    "image_missing": Topic.IMAGE,
    "size_conflict": Topic.BOXES,
    "boxes_fractions": Topic.BOXES,
    "boxes_percent": Topic.BOXES,
    "boxes_widths": Topic.BOXES,
    "exif_undecided": Topic.EXIF,
    "class_near_miss": Topic.CLASS,
}
"""The rules whose findings a person can answer."""

ANSWERS: Mapping[Topic, tuple[str, ...]] = {
    Topic.IMAGE: (DROP,),
    Topic.BOXES: (SCALE, DROP),
    Topic.EXIF: (FOLLOW, IGNORE, DROP),
    Topic.CORNERS: tuple(frame.value for frame in CornerFrame if frame.value != "fractions"),
    Topic.CLASS: (),
}
"""The words that answer each topic. An image's path answers for the image too, and `class NAME` for
a class."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one question.

    Attributes:
        topic: What the question is about.
        about: The annotation's name; the tool; or the class.
        answer: One of `ANSWERS`, an image's path, or a class.
        path: The table that has it.
        line: The row's first line there.
    """

    topic: Topic
    about: str
    answer: str
    path: str
    line: int

    def refuse(self, cause: str) -> DataError:
        """Returns the error that refuses the row."""
        what = f"the answer {self.answer!r} for {self.about!r}"
        return DataError(f"{what}: {cause}", path=self.path, place=self.line, remedy=_REMOVE)


@dataclass(frozen=True, slots=True)
class Decisions:
    """All answers.

    Attributes:
        by_topic: The answers of each topic, by what they are about.
        tables: The SHA-256 of each table's bytes, in hexadecimal.
    """

    by_topic: Mapping[Topic, Mapping[str, Decision]] = field(
        default_factory=lambda: {topic: {} for topic in Topic}
    )
    tables: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.by_topic.values()))

    @property
    def renames(self) -> dict[str, str]:
        """The new name of each class that has another one."""
        return {
            old: decision.answer
            for old, decision in self.by_topic[Topic.CLASS].items()
            if decision.answer != old
        }

    @property
    def frames(self) -> dict[str, CornerFrame]:
        """What the corners of each tool count."""
        return {
            tool: CornerFrame(decision.answer)
            for tool, decision in self.by_topic[Topic.CORNERS].items()
        }

    @property
    def judged(self) -> dict[str, tuple[Decision, ...]]:
        """The answers about boxes and EXIF of each annotation."""
        exif, boxes = self.by_topic[Topic.EXIF], self.by_topic[Topic.BOXES]
        return {
            name: tuple(one[name] for one in (exif, boxes) if name in one)
            for name in dict.fromkeys((*exif, *boxes))
        }

    def describe(self) -> dict[str, Any]:
        """Returns what a manifest has of them: how many there are of each kind, and the tables."""
        counts = Counter(
            f"{topic.value}: {decision.answer}"
            if decision.answer in ANSWERS[topic]
            else topic.value
            for topic, decisions in self.by_topic.items()
            for decision in decisions.values()
        )
        return {"counts": dict(sorted(counts.items())), "tables": list(self.tables)}


def read_decisions(paths: Sequence[Path]) -> Decisions:
    """Reads tables of questions with answers; a row without one is still open.

    Raises:
        ConfigError: A file cannot be read.
        DataError: A file is no such table, or a row cannot be understood or contradicts another.
    """
    by_topic: dict[Topic, dict[str, Decision]] = {topic: {} for topic in Topic}
    tables = []
    givers: dict[str, Decision] = {}
    for path in paths:
        data = _read_bytes(path)
        tables.append(hashlib.sha256(data).hexdigest())
        for decision in _read_table(data, str(path)):
            known = by_topic[decision.topic].setdefault(decision.about, decision)
            if known is not decision:
                raise decision.refuse(f"{known.path}:{known.line} answers the same question")
            if decision.topic is Topic.IMAGE and decision.answer != DROP:
                giver = givers.setdefault(decision.answer, decision)
                if giver is not decision:
                    cause = f"{giver.path}:{giver.line} gives that image to {giver.about!r}"
                    raise decision.refuse(cause)
    return Decisions(by_topic, tuple(tables))


def _read_bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the decisions: {error.strerror}", path=path) from None
    if len(data) > _MAX_BYTES:
        raise DataError(f"larger than {_MAX_BYTES:,} bytes", path=path)
    return data


def _read_table(data: bytes, path: str) -> Iterator[Decision]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        remedy = "save it as CSV in UTF-8"
        raise DataError("not UTF-8 text", path=path, place=line, remedy=remedy) from None
    rows = _read_rows(text, path)
    line, header = next(rows, (1, []))
    names = [name.strip().lower() for name in header]
    if missing := [name for name in _NEEDED if name not in names]:
        raise DataError(
            f"there is no column {' or '.join(missing)}",
            path=path,
            place=line,
            remedy=f"the first row has the names {', '.join(COLUMNS)}",
        )
    for line, cells in rows:
        if len(cells) > len(names):
            cause = f"{len(cells)} cells, expected {len(names)}"
            remedy = "put cells that hold a comma or a quotation mark in quotation marks"
            raise DataError(cause, path=path, place=line, remedy=remedy)
        row = dict(zip(names, map(unguard, cells), strict=False))
        if row.get("answer", "").strip():
            yield _read_decision(row, path, line)


def _read_rows(text: str, path: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows that are not empty, each with its first line."""
    head = text.split("\n", 1)[0]
    # Spreadsheets write what their country writes between numbers.
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"not CSV: {error}", path=path, place=line) from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def _read_decision(row: Mapping[str, str], path: str, line: int) -> Decision:
    question, answer = row["question"].strip().lower(), row["answer"]
    try:
        topic = Topic(question)
    except ValueError:
        known = ", ".join(topic.value for topic in Topic)
        raise DataError(
            f"there is no question {question!r}",
            path=path,
            place=line,
            remedy=f"choose from {known}",
        ) from None
    is_about = topic in _ABOUT
    about = row.get("about", "") if is_about else row.get("annotation", "")
    # The tool of a file that names none has an empty name.
    if not about and topic is not Topic.CORNERS:
        column = "about" if is_about else "annotation"
        raise DataError(f"the column {column} is empty", path=path, place=line)
    word = answer.strip().lower()
    if word in ANSWERS[topic]:
        return Decision(topic, about, word, path, line)
    if topic is Topic.IMAGE:
        return Decision(topic, about, answer, path, line)
    if topic is Topic.CLASS and answer.strip().startswith("class "):
        name = " ".join(answer.strip().removeprefix("class ").split())
        if name:
            return Decision(topic, about, name, path, line)
    known = "class NAME" if topic is Topic.CLASS else ", ".join(ANSWERS[topic])
    raise DataError(
        f"the answer {answer!r} is none of those to the question {topic.value}",
        path=path,
        place=line,
        remedy=f"write {known}",
    )


def resolve_decisions(
    decisions: Decisions, annotation_files: Collection[str], images: Collection[str]
) -> Decisions:
    """Returns decisions with the dataset's own names of files.

    A table holds UTF-8, and spreadsheets trim cells; a file's name may be other bytes.

    Args:
        decisions: Those that were read.
        annotation_files: The dataset's files with annotations.
        images: The dataset's images.

    Raises:
        DataError: An annotation or an image is not there.
    """
    if not len(decisions):
        return decisions
    files, pictures = _Names(annotation_files), _Names(images)
    by_topic: dict[Topic, dict[str, Decision]] = {}
    for topic, known in decisions.by_topic.items():
        by_topic[topic] = {}
        for decision in known.values():
            about, answer = decision.about, decision.answer
            if topic not in _ABOUT:
                about = _find_annotation(decision, files)
            if topic is Topic.IMAGE and answer != DROP:
                found = pictures.find(answer)
                if found is None:
                    raise decision.refuse("there is no such image")
                answer = found
            by_topic[topic][about] = Decision(topic, about, answer, decision.path, decision.line)
    return Decisions(by_topic, decisions.tables)


def _find_annotation(decision: Decision, files: _Names) -> str:
    path, mark, entry = decision.about, "", ""
    found = files.find(path)
    if found is None and "#" in path:
        # An annotation among several in a file is named by the file and its entry.
        path, mark, entry = path.rpartition("#")
        found = files.find(path)
    if found is None:
        raise decision.refuse("there is no such annotation")
    return f"{found}{mark}{entry}"


class _Names:
    """Names of files, found by what a table shows of them."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names if isinstance(names, (set, frozenset)) else frozenset(names)
        self._shown = {show_name(name): name for name in names if not name.isprintable()}

    def find(self, cell: str) -> str | None:
        """Returns a name; None where there is none."""
        for text in (cell, cell.strip()):
            if text in self._names:
                return text
            if text in self._shown:
                return self._shown[text]
        return None


_LITERAL = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


def read_quoted(text: str) -> str:
    """Returns the name that a finding's words quote first, as `repr` does; nothing if none is."""
    match = _LITERAL.search(text)
    return str(ast.literal_eval(match.group())) if match else ""


# --- Cells ----------------------------------------------------------------------------------------


def show_name(name: str) -> str:
    """Returns a file's name as a table has it: what nobody sees, and no UTF-8, is escaped."""
    return escape_unprintable(name)


def _to_utf8(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def guard(cell: str) -> str:
    """Returns a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def unguard(cell: str) -> str:
    """Returns the cell that `guard` got."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def format_table(rows: Iterable[Mapping[str, str]]) -> str:
    """Returns a table for `read_decisions`, with the mark by which spreadsheets know UTF-8."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows:
        # A class or a tool is found by its own name, a file by what the table shows of it.
        show = _to_utf8 if row["question"] in _ABOUT else show_name
        writer.writerow([guard(show(row.get(name, ""))) for name in COLUMNS])
    return f"\ufeff{text.getvalue()}"
