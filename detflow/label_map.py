"""Class names and their ids, and the file that holds them: `label_map.pbtxt`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from detflow.errors import ArtifactError, DataError

__all__ = ["LabelMap", "read_label_map"]


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Class names; the id of `names[i]` is i + 1, since id 0 means background in the TF Object Detection API."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not all(self.names):
            raise ValueError("a class name is empty")
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"class names appear twice: {', '.join(twice)}")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def id_of(self, name: str) -> int:
        """Returns the 1-based id of a class name; raises KeyError for an unknown one."""
        try:
            return self.names.index(name) + 1
        except ValueError:
            raise KeyError(name) from None

    def name_of(self, class_id: int) -> str:
        """Returns the name of a 1-based id; raises KeyError for an unknown one."""
        if not 1 <= class_id <= len(self.names):
            raise KeyError(class_id)
        return self.names[class_id - 1]

    def to_pbtxt(self) -> str:
        """Returns the TF Object Detection API's text form (`StringIntLabelMap`), one item a class."""
        return "".join(
            f"item {{\n  id: {i}\n  name: {_quote(name)}\n}}\n"
            for i, name in enumerate(self.names, start=1)
        )

    @classmethod
    def from_pbtxt(cls, text: str, path: str | PurePath | None = None) -> LabelMap:
        """Reads `to_pbtxt`'s form, whoever wrote it; fields other than `id` and `name` are passed over.

        Args:
            text: The file's content.
            path: Named in errors.

        Raises:
            DataError: The text is malformed, or the ids are not 1…N.
        """
        items: dict[int, str] = {}
        body = _COMMENT.sub("", text)
        position = 0
        while match := _ITEM.match(body, position):
            fields = dict(_FIELD.findall(match.group(1)))
            line = body.count("\n", 0, match.start(1)) + 1
            if (
                _FIELD.sub("", match.group(1)).strip(" \t\r\n,;")
                or "id" not in fields
                or "name" not in fields
            ):
                raise DataError(
                    "a label map item needs `id: N` and `name: '…'`", path=path, place=line
                )
            try:
                class_id = int(fields["id"])
            except ValueError:
                raise DataError(
                    f"label map id {fields['id']} is not a whole number", path=path, place=line
                ) from None
            if class_id in items:
                raise DataError(f"label map id {class_id} appears twice", path=path, place=line)
            items[class_id] = _unquote(fields["name"])
            position = match.end()
        if body[position:].strip():
            raise DataError(
                "not a label map: expected `item { id: 1 name: 'cat' }`",
                path=path,
                place=body.count("\n", 0, position) + 1,
            )
        if sorted(items) != list(range(1, len(items) + 1)):
            raise DataError(
                f"label map ids are {sorted(items)}; expected 1 to {len(items)} without a gap",
                path=path,
            )
        try:
            return cls(tuple(items[i] for i in sorted(items)))
        except ValueError as error:
            raise DataError(str(error), path=path) from None


def read_label_map(path: Path) -> LabelMap:
    """Reads `label_map.pbtxt`.

    Raises:
        ArtifactError: It is missing or not a text of at most 16 MiB.
        DataError: It is malformed.
    """
    if not path.is_file():
        raise ArtifactError("the label map is missing", path=path)
    if path.stat().st_size > _MAX_LABEL_MAP_BYTES:
        raise ArtifactError(f"larger than {_MAX_LABEL_MAP_BYTES:,} bytes", path=path)
    try:
        return LabelMap.from_pbtxt(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError:
        raise ArtifactError("not UTF-8 text", path=path) from None


_MAX_LABEL_MAP_BYTES = 16 << 20
# The subset of protobuf's text format that label maps use. A quoted string may hold braces, so the
# item's pattern knows strings.
_STRING = r"""(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
_COMMENT = re.compile(r"""(?m)^[ \t]*#.*$""")
_ITEM = re.compile(rf"""\s*item\s*:?\s*\{{((?:[^{{}}"']|{_STRING})*)\}}""")
_FIELD = re.compile(rf"""\b([a-z_]+)\s*:\s*({_STRING}|[-\w.]+)""")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def _quote(name: str) -> str:
    escaped = (
        name.replace("\\", "\\\\")
        .replace("'", "\\'")
        .replace("\n", "\\n")
        .replace("\r", "\\r")
        .replace("\t", "\\t")
    )
    return f"'{escaped}'"


def _unquote(text: str) -> str:
    if text[:1] not in ("'", '"'):
        return text
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match.group(1), match.group(1)), text[1:-1])
