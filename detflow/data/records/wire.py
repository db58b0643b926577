"""Protobuf's wire format, walked field by field: what is not asked for is never unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

MAX_WALKED_FIELDS: Final = 100_000
"""A hostile message of a few bytes for each field would take minutes."""

MAX_HEAD_BYTES: Final = 20
"""So many bytes tell where a field ends: two numbers of at most ten each."""


def read_parts(message: memoryview, number: int, budget: Iterator[int]) -> Iterator[memoryview]:
    """Yields the content of a message's fields of one number that hold bytes or messages.

    Args:
        message: In protobuf's wire format.
        number: The field's number.
        budget: Counts the fields that were walked.

    Raises:
        ValueError: It is no message, or holds more than 100,000 fields.
    """
    position = 0
    while position < len(message):
        if next(budget) >= MAX_WALKED_FIELDS:
            raise ValueError(f"more than {MAX_WALKED_FIELDS:,} fields")
        key, begin, position = find_field(message, position)
        if position > len(message):
            raise ValueError("it is cut off")
        if key == number << 3 | 2:
            yield message[begin:position]


def find_field(message: memoryview, position: int) -> tuple[int, int, int]:
    """Returns the key of the field at a position, and where its content begins and ends.

    The end may lie behind the message, of which `MAX_HEAD_BYTES` from the position on suffice. The
    key has the field's number and, in its last three bits, the kind; kind 2 holds bytes.

    Raises:
        ValueError: There is no field.
    """
    key, position = _read_varint(message, position)
    begin = position
    match key & 7:
        case 0:
            _, position = _read_varint(message, position)
        case 1:
            position += 8
        case 2:
            size, begin = _read_varint(message, position)
            position = begin + size
        case 5:
            position += 4
        case kind:
            raise ValueError(f"a field of the unknown kind {kind}")
    return key, begin, position


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """Returns a number of at most ten bytes, and where the next field begins."""
    value = 0
    for shift, byte in zip(range(0, 70, 7), message[position:], strict=False):
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + shift // 7 + 1
    raise ValueError("it is cut off")
