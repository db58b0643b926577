"""Reads JSON of hundreds of megabytes piece by piece, so that memory holds what a reader keeps.

`json.loads` would make Python objects of all of it at once, which take several times the file's
size. The text is decoded in windows, and each value inside by Python's own JSON scanner.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

_WINDOW_BYTES = 1 << 22
_MAX_VALUE_CHARS = 1 << 26
# What the scanner cannot tell from an error where the window cuts it: literals and escapes.
_MAX_CUT_CHARS = 64
_SPACE = " \t\r\n"


class MalformedJson(Exception):
    """The text is no JSON, or no JSON that detflow reads.

    Attributes:
        reason: What is wrong.
        line: Where, from 1.
    """

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason, line)
        self.reason = reason
        self.line = line


class JsonStream:
    """A JSON document, read from its beginning to its end.

    Raises:
        MalformedJson: From every method.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        # A byte order mark is no part of the text.
        self._decoder = codecs.getincrementaldecoder(json.detect_encoding(data))()
        self._scanner = json.JSONDecoder(object_pairs_hook=_to_dict)
        self._fed = 0
        self._text = ""
        self._place = 0
        self._line = 1
        self._counted = 0

    @property
    def line(self) -> int:
        """The line of what comes next, from 1."""
        self._count_lines()
        return self._line

    def read_members(self) -> Iterator[str]:
        """Yields the keys of the document's object; the caller reads each one's value meanwhile."""
        self._expect("{")
        seen: set[str] = set()
        if self._peek() == "}":
            self._place += 1
        else:
            while True:
                key = self.read_value() if self._peek() == '"' else None
                if not isinstance(key, str):
                    raise self._fault("expected a key in quotes")
                if key in seen:
                    raise self._fault(f"the key {key[:80]!r} stands twice")
                seen.add(key)
                self._expect(":")
                yield key
                if self._peek() != ",":
                    break
                self._place += 1
            self._expect("}")
        if self._peek():
            raise self._fault("more text stands behind the end")

    def is_array(self) -> bool:
        """Whether an array comes next."""
        return self._peek() == "["

    def read_elements(self) -> Iterator[tuple[int, Any]]:
        """Yields the line and the value of each element of the array that comes next."""
        self._expect("[")
        if self._peek() == "]":
            self._place += 1
            return
        while True:
            self._peek()
            yield self.line, self.read_value()
            if self._peek() != ",":
                break
            self._place += 1
        self._expect("]")

    def skip_value(self) -> None:
        """Passes over the value that comes next."""
        if self.is_array():
            for _ in self.read_elements():
                pass
        else:
            self.read_value()

    def read_value(self) -> Any:
        """Returns the value that comes next, whole."""
        self._peek()
        while True:
            try:
                value, end = self._scanner.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                # What is cut at the window's end may go on behind it.
                is_cut = error.pos >= len(self._text) - _MAX_CUT_CHARS or error.msg.startswith(
                    "Unterminated string"
                )
                if not (is_cut and self._widen()):
                    self._place = min(error.pos, len(self._text))
                    raise self._fault(error.msg) from None
            except RecursionError:
                raise self._fault("it is nested too deep") from None
            except ValueError as error:
                raise self._fault(str(error)) from None
            else:
                # A number may go on behind the window's end.
                if end < len(self._text) or not self._widen():
                    self._place = end
                    return value

    def _widen(self) -> bool:
        """Makes the window about twice as large; False where the text has ended."""
        length = len(self._text) - self._place
        if length > _MAX_VALUE_CHARS:
            raise self._fault(f"one value has more than {_MAX_VALUE_CHARS:,} characters")
        return self._feed(max(_WINDOW_BYTES, length))

    def _count_lines(self) -> None:
        self._line += self._text.count("\n", self._counted, self._place)
        self._counted = self._place

    def _feed(self, num_bytes: int) -> bool:
        if self._fed >= len(self._data):
            return False
        piece = self._data[self._fed : self._fed + num_bytes]
        self._fed += len(piece)
        try:
            text = self._decoder.decode(piece, final=self._fed >= len(self._data))
        except UnicodeDecodeError as error:
            raise self._fault(f"not {error.encoding} text") from None
        self._count_lines()
        self._text = self._text[self._place :] + text
        self._place = self._counted = 0
        return True

    def _peek(self) -> str:
        """Passes over white space and returns the next character; none at the end."""
        while True:
            text, place = self._text, self._place
            while place < len(text) and text[place] in _SPACE:
                place += 1
            self._place = place
            if place < len(text):
                return text[place]
            if not self._feed(_WINDOW_BYTES):
                return ""

    def _expect(self, character: str) -> None:
        found = self._peek()
        if found != character:
            raise self._fault(f"expected {character!r}, not {found!r}" if found else "it is cut")
        self._place += 1

    def _fault(self, reason: str) -> MalformedJson:
        return MalformedJson(reason[:200], self.line)


def _to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has the same key twice")
    return members
