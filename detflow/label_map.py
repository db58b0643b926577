"""Class names and their ids, and the file that holds them: `label_map.pbtxt`.

The file is protobuf's text form of `StringIntLabelMap`, a message of the TF Object Detection API
(`object_detection/protos/string_int_label_map.proto`). The message is declared here at run time, in
a descriptor pool of its own, so that it can live in one process with that of another library.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from detflow.errors import ArtifactError, DataError
from detflow.text import first_line

# text_format reads some 300,000 bytes a second; ImageNet's 21,841 classes take 2 MiB.
_MAX_BYTES = 4 << 20
_MAX_DEPTH = 16
# Seven for each of 60,000 classes: some seconds.
_MAX_TOKENS = 420_000
# text_format copies the line of a token whenever it looks whether something is there, so that the
# time grows with the square of a line's length.
_LINE_LETTERS = 1_000
_MAX_LINE_LETTERS = 20_000
_MAX_REASON = 200
_MAX_NAMED = 5
# What an item of id 0 is called, which stands for no class.
_BACKGROUND_NAMES = ("background", "???")


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Class names with their ids, in ascending order of the ids.

    Id 0 means background in the TF Object Detection API, so that ids begin with 1. Those of foreign
    label maps may have gaps: COCO's 80 classes have ids up to 90. A network that detflow trains has
    one output for each class, in this order, and the ids 1 to N.

    Args:
        names: The class names, all different and none empty.
        ids: The id of each name, ascending; 1 to N unless given.
        display_names: What else a class is called, by its id: an item's `display_name` where it is
            not its name. The TF Object Detection API takes either in `image/object/class/text`.

    Raises:
        ValueError: A name is empty or appears twice, or the ids do not fit the names.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] = ()
    display_names: Mapping[int, str] = field(default_factory=dict, repr=False, compare=False)
    _ids_by_name: Mapping[str, int] = field(init=False, repr=False, compare=False)
    _names_by_id: Mapping[int, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not all(self.names):
            raise ValueError("a class name is empty")
        if len(set(self.names)) != len(self.names):
            twice = sorted(name for name, count in Counter(self.names).items() if count > 1)
            raise ValueError(f"class names appear twice: {', '.join(twice[:_MAX_NAMED])}")
        ids = self.ids or tuple(range(1, len(self.names) + 1))
        if len(ids) != len(self.names):
            raise ValueError(f"there are {len(ids)} ids for {len(self.names)} class names")
        if any(class_id < 1 for class_id in ids) or sorted(set(ids)) != list(ids):
            raise ValueError("class ids must be 1 or more and ascend")
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "_ids_by_name", dict(zip(self.names, ids, strict=True)))
        object.__setattr__(self, "_names_by_id", dict(zip(ids, self.names, strict=True)))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    @property
    def ids_by_name(self) -> Mapping[str, int]:
        """The id of each class name, in the order of the ids."""
        return MappingProxyType(self._ids_by_name)

    @property
    def has_gaps(self) -> bool:
        """Whether the ids are others than 1 to N."""
        return bool(self.ids) and self.ids[-1] != len(self.ids)

    def id_of(self, name: str) -> int:
        """Returns the id of a class name; raises KeyError for an unknown one."""
        return self._ids_by_name[name]

    def name_of(self, class_id: int) -> str:
        """Returns the name of an id; raises KeyError for an unknown one."""
        return self._names_by_id[class_id]

    def find_name(self, class_id: int) -> str | None:
        """Returns the name of an id; None for an unknown one."""
        return self._names_by_id.get(class_id)

    def to_pbtxt(self) -> str:
        """Returns the text form of the TF Object Detection API, one item for each class."""
        return "".join(
            f"item {{\n  id: {class_id}\n  name: {_quote(name)}\n}}\n"
            for name, class_id in self._ids_by_name.items()
        )

    @classmethod
    def from_pbtxt(cls, text: str, path: str | PurePath | None = None) -> LabelMap:
        """Reads the text form of the TF Object Detection API, whoever wrote it.

        The class name is an item's `name`, which is what records have in
        `image/object/class/text`; an item that has none is called by its `display_name`. Other
        fields, known to detflow or not, are passed over, and so is an item of id 0 that is called
        `background` or `???`.

        Args:
            text: The content of the file.
            path: Named in errors.

        Raises:
            DataError: The text is malformed, an item has no id or no name, or two items have the
                same id or name.
        """
        # Windows' editors begin a file with a mark that is no part of the text.
        text = text.removeprefix("\ufeff")
        item_lines, breaks = _find_items(text, path)
        broken = _break_lines(text, breaks)
        _require_short_lines(broken, path)
        label_map = _StringIntLabelMap()
        try:
            text_format.Parse(broken, label_map, allow_unknown_field=True)
        except text_format.ParseError as error:
            line = error.GetLine()
            if line is not None:
                line -= _count_breaks(broken, breaks, line)
            raise _malformed(_describe(error, broken), path, line) from None
        if not label_map.item and re.sub(r"(?m)#.*$", "", text).strip():
            raise _malformed("it has no items", path, 1)
        names: dict[int, str] = {}
        display_names: dict[int, str] = {}
        taken: set[str] = set()
        for item, line in zip(label_map.item, item_lines, strict=True):
            name = item.name or item.display_name
            if not item.HasField("id") or not name:
                raise DataError(
                    "a label map item needs `id: N` and `name: '…'`", path=path, place=line
                )
            if item.id == 0 and name.lower() in _BACKGROUND_NAMES:
                continue
            if item.id < 1:
                raise DataError(
                    f"label map id {item.id} of {name!r} is not 1 or more; 0 means background",
                    path=path,
                    place=line,
                )
            if item.id in names:
                raise DataError(f"label map id {item.id} appears twice", path=path, place=line)
            if name in taken:
                raise DataError(f"class name {name!r} appears twice", path=path, place=line)
            names[item.id] = name
            taken.add(name)
            if item.display_name not in ("", name):
                display_names[item.id] = item.display_name
        ids = tuple(sorted(names))
        return cls(tuple(names[class_id] for class_id in ids), ids, display_names)


def read_label_map(path: Path) -> LabelMap:
    """Reads `label_map.pbtxt`.

    Raises:
        ArtifactError: It is missing, or not a text of at most 4 MiB.
        DataError: It is malformed.
    """
    if not path.is_file():
        raise ArtifactError("the label map is missing", path=path)
    if path.stat().st_size > _MAX_BYTES:
        raise ArtifactError(f"larger than {_MAX_BYTES:,} bytes", path=path)
    try:
        return LabelMap.from_pbtxt(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError:
        raise ArtifactError("not UTF-8 text", path=path) from None


# What decides how deep a text is nested and where its items begin; names and numbers as text_format
# tells them apart. A string that is not closed is no token: text_format refuses it.
_TOKEN = re.compile(
    r"""#.*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[{}<>\[\]]"""
    r"""|[a-zA-Z_][0-9a-zA-Z_+-]*|(?:[0-9+-]|\.[0-9])[0-9a-zA-Z_.+-]*"""
)
# Python's text_format takes every escape sequence of Python, and warns of those that it does not
# know; protobuf takes these.
_ESCAPE = re.compile(
    r"""\\(?:[abfnrtv\\?'"]|[0-3][0-7]{2}|[0-7]{1,2}(?![0-7])"""
    r"""|x[0-9a-fA-F]|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"""
)


def _find_items(text: str, path: str | PurePath | None) -> tuple[list[int], list[int]]:
    """Returns the line on which each item begins, and where a long line may be broken.

    Raises:
        DataError: The text is nested too deep, has too many parts, or a string has an escape
            sequence that protobuf does not have.
    """
    lines: list[int] = []
    breaks: list[int] = []
    opened: list[str] = []
    line, position, begin, word = 1, 0, 0, ""
    for count, match in enumerate(_TOKEN.finditer(text), start=1):
        if count > _MAX_TOKENS:
            raise _malformed(f"more than {_MAX_TOKENS:,} words and signs", path, line)
        piece, place = match.group(), match.start()
        if number := text.count("\n", position, place):
            line += number
            begin = text.rindex("\n", position, place) + 1
        elif place - begin > _LINE_LETTERS and text[place - 1] in " \t{}":
            breaks.append(place)
            begin = place
        position = place
        # Items stand one after the other, or in a list: item: [{…}, {…}].
        is_outside = all(bracket == "[" for bracket in opened)
        if piece[0] in "\"'":
            if "\\" in _ESCAPE.sub("", piece):
                raise _malformed(f"unknown escape sequence in {piece[:80]}", path, line)
        elif piece in ("{", "<", "["):
            if is_outside and word == "item" and piece != "[":
                lines.append(line)
            opened.append(piece)
            if len(opened) > _MAX_DEPTH:
                raise _malformed(f"nested deeper than {_MAX_DEPTH}", path, line)
        elif piece in ("}", ">", "]"):
            del opened[-1:]
        elif is_outside and piece[0] != "#":
            word = piece
    return lines, breaks


def _break_lines(text: str, places: Sequence[int]) -> str:
    """Returns a text with a line break more at each place."""
    begins, ends = (0, *places), (*places, len(text))
    return "\n".join(text[begin:end] for begin, end in zip(begins, ends, strict=True))


def _require_short_lines(text: str, path: str | PurePath | None) -> None:
    longest = max(text.split("\n"), key=len)
    if len(longest) > _MAX_LINE_LETTERS:
        line = text.count("\n", 0, text.index(longest)) + 1
        raise _malformed(
            f"more than {_MAX_LINE_LETTERS:,} letters without a line break or a blank",
            path,
            line,
        )


def _count_breaks(broken: str, places: Sequence[int], line: int) -> int:
    """Returns how many of the breaks lie before a line of the broken text."""
    begin = sum(len(part) + 1 for part in broken.split("\n")[: line - 1])
    # Each break makes what follows longer by one letter.
    return sum(place + number < begin for number, place in enumerate(places))


def _malformed(reason: str, path: str | PurePath | None, line: int | None) -> DataError:
    return DataError(
        f"not a label map: {reason}",
        path=path,
        place=line,
        remedy="expected items such as item { id: 1 name: 'cat' }",
    )


def _describe(error: text_format.ParseError, text: str) -> str:
    """Returns the reason without the place and the line of the text, which can be of any length."""
    reason = re.sub(r"^\d+:\d+ : ", "", str(error))
    line = error.GetLine()
    source = "" if line is None else text.split("\n")[line - 1]
    return first_line(reason.removeprefix(f"'{source}': "))[:_MAX_REASON]


def _quote(name: str) -> str:
    escaped = (
        name.replace("\\", "\\\\")
        .replace("'", "\\'")
        .replace("\n", "\\n")
        .replace("\r", "\\r")
        .replace("\t", "\\t")
    )
    return f"'{escaped}'"


def _build_message() -> Any:
    """Builds the class of the message `StringIntLabelMap`."""
    types = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="detflow/label_map.proto", package="detflow", syntax="proto2"
    )
    item = file.message_type.add(name="StringIntLabelMapItem")
    fields = (("name", 1, types.TYPE_STRING), ("id", 2, types.TYPE_INT32))
    for name, number, kind in (*fields, ("display_name", 3, types.TYPE_STRING)):
        item.field.add(name=name, number=number, type=kind, label=types.LABEL_OPTIONAL)
    file.message_type.add(name="StringIntLabelMap").field.add(
        name="item",
        number=1,
        type=types.TYPE_MESSAGE,
        type_name=".detflow.StringIntLabelMapItem",
        label=types.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("detflow.StringIntLabelMap"))


_StringIntLabelMap = _build_message()
