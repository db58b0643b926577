"""The values in an element's children: read whole, or refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache

from lxml import etree

from detflow.data.findings import Finding
from detflow.data.sources.voc.parse import Unreadable, line_of
from detflow.data.sources.voc.tags import CORNERS

# Plain ASCII decimals only: int() would also take "１２" and "1_000", and float() "nan".
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]*)?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
Field = str | etree._Element
"""The text of a child that has no children itself, or the child."""
# Only fields that are read can be ambiguous: an object may have many <part> or <attributes>.
_READ = frozenset(
    {
        *("filename", "path", "size", "width", "height"),
        *("name", "bndbox", "robndbox", "difficult", "truncated", "pose", "deleted"),
        *CORNERS,
    }
)


def read_fields(children: etree._Element | list[etree._Element], path: str) -> dict[str, Field]:
    """Returns an element's children by tag.

    Raises:
        Unreadable: A field that is read stands twice, so that it is ambiguous.
    """
    fields: dict[str, Field] = {
        child.tag: child if len(child) else child.text or "" for child in children
    }
    if len(fields) == len(children):
        return fields
    seen = set()
    for child in children:
        if child.tag in seen and child.tag in _READ:
            raise Unreadable(
                Finding("field_twice", path, line=line_of(child), value=f"<{child.tag}>")
            )
        seen.add(child.tag)
    return fields


def read_text(fields: Mapping[str, Field], tag: str, path: str) -> str:
    """Returns a field's text as written; it is empty for a missing field.

    Raises:
        Unreadable: The field has children.
    """
    field = fields.get(tag, "")
    if not isinstance(field, str):
        raise Unreadable(Finding("field_has_children", path, line=line_of(field), value=f"<{tag}>"))
    return field


def find_line(parent: etree._Element | None, tag: str) -> int | None:
    """Returns the line of an element's child; None where there is none."""
    element = None if parent is None else parent.find(tag)
    return None if element is None else line_of(element)


# Nearly all corners are whole numbers up to an image's side, so the same texts come often.
@lru_cache(maxsize=16_384)
def read_number(text: str) -> float | None:
    """Returns a finite decimal number; None where the text is anything else."""
    if not _NUMBER.fullmatch(text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) else None
