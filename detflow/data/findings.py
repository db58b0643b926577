"""One thing that is wrong: its kind, its place, what is there, and what should be."""

from __future__ import annotations

import json
from dataclasses import dataclass

from detflow.data.rules import RECORD_RULES, RULES, UPLOAD_RULES, Action, Rule, Where
from detflow.text import escape_unprintable, hide_credentials
from detflow.types import CornerFrame

Corners = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax; a `CornerFrame` says what they count."""

_RULES_OF = {Where.DATASET: RULES, Where.RECORD: RECORD_RULES, Where.UPLOAD: UPLOAD_RULES}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found in a dataset or in a set of TFRecord files.

    Attributes:
        code: The code of a rule; see `detflow.data.rules`.
        path: The file, inside the dataset and with forward slashes, or the TFRecord file's name.
        line: The line in that file, from 1.
        object_index: Which object of the annotation or record, from 1.
        value: What is there.
        expected: What should be.
        image: The image that it is about: its path inside the dataset, so that a report can show
            it, or the record's own name for it.
        before: The box as written, in pixels.
        after: The box as mended; None where the object was left out.
        related: Other files that it is about: candidates, duplicates.
        entry: Which annotation of the file, where a file holds several; see `RawAnnotation.entry`.
        record: The record's number in the TFRecord file, from 0.
        offset: The record's first byte in that file.
        frame: What the pixels of `before` and `after` count: VOC's or zero-based; None stands for
            VOC's.
        where: Which part of the table of rules holds the code.

    Raises:
        ValueError: No rule has the code.
    """

    code: str
    path: str
    line: int | None = None
    object_index: int | None = None
    value: str = ""
    expected: str = ""
    image: str | None = None
    before: Corners | None = None
    after: Corners | None = None
    related: tuple[str, ...] = ()
    entry: str = ""
    record: int | None = None
    offset: int | None = None
    frame: CornerFrame | None = None
    where: Where = Where.DATASET

    def __post_init__(self) -> None:
        if self.code not in _RULES_OF[self.where]:
            raise ValueError(f"no rule for a {self.where.value} has the code {self.code!r}")
        # A dataset may name its images by signed addresses, and reports are passed on.
        object.__setattr__(self, "value", hide_credentials(self.value))

    @property
    def rule(self) -> Rule:
        """The rule that it falls under."""
        return _RULES_OF[self.where][self.code]

    @property
    def action(self) -> Action:
        """What is done about it."""
        return self.rule.action

    @property
    def annotation(self) -> str:
        """The name of the annotation that it is about, where it is about one."""
        return name_annotation(self.path, self.entry)

    @property
    def place(self) -> str:
        """The annotation's or the file's name, with the line where there is one."""
        return self.annotation if self.line is None else f"{self.annotation}:{self.line}"

    @property
    def subject(self) -> str:
        """The place and, where there is one, the record and the object in it."""
        record = "" if self.record is None else f": record {self.record} at byte {self.offset:,}"
        image = f" ({self.image})" if self.record is not None and self.image else ""
        number = "" if self.object_index is None else f", object {self.object_index}"
        return f"{self.place}{record}{image}{number}"

    @property
    def details(self) -> str:
        """What is there, what should be, and the other files that it is about; maybe nothing."""
        expected = f"expected {self.expected}" if self.expected else ""
        related = f"[{', '.join(self.related)}]" if self.related else ""
        text = ", ".join(part for part in (self.value, expected) if part)
        return " ".join(part for part in (text, related) if part)

    def __str__(self) -> str:
        """One line: place, object, value, meaning, expectation, remedy."""
        subject = "" if self.object_index is None else f"object {self.object_index}: "
        value = f" ({self.value})" if self.value else ""
        expected = f", expected {self.expected}" if self.expected else ""
        related = f" [{', '.join(self.related)}]" if self.related else ""
        text = f"{self.place}: {subject}{self.rule.meaning}{value}{expected}{related}"
        text = f"{text}; {self.rule.remedy}"
        return escape_unprintable(text)

    def to_line(self) -> str:
        """Returns one line without what all findings of the code have in common."""
        # The dataset as a whole has no place to be named.
        parts = ("" if self.subject == "." else self.subject, self.details)
        return escape_unprintable(": ".join(part for part in parts if part))

    def to_json(self) -> str:
        """Returns a ledger line: an object with the attributes that are set, the action first."""
        return json.dumps(
            {"action": self.action.value, **self.to_fields(), "remedy": self.rule.remedy}
        )

    def to_fields(self) -> dict[str, object]:
        """Returns the attributes that are set, by name, but for `where`."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "where"}
        return {name: value for name, value in fields.items() if value not in (None, "", ())}

    @classmethod
    def from_json(cls, line: str) -> Finding:
        """Reads the line that `to_json` wrote for a finding in a dataset."""
        fields = json.loads(line)
        for name in ("before", "after", "related"):
            if name in fields:
                fields[name] = tuple(fields[name])
        if "frame" in fields:
            fields["frame"] = CornerFrame(fields["frame"])
        return cls(**{name: fields[name] for name in cls.__slots__ if name in fields})


def name_annotation(path: str, entry: str) -> str:
    """Returns an annotation's name inside the dataset: unique, and a path's name for sorting.

    Args:
        path: The file that holds it.
        entry: Which one of the file; empty where the file holds one.
    """
    return f"{path}#{entry}" if entry else path
