"""TFRecord framing: length, masked CRC of the length, data, masked CRC of the data.

The format is described in TensorFlow's `tensorflow/core/lib/io/record_writer.h`; the CRC is Castagnoli's, masked as in
`tensorflow/core/lib/hash/crc32c.h`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from detflow.errors import ArtifactError

__all__ = ["FRAME_BYTES", "frame_record", "read_records"]

FRAME_BYTES = 16
"""What framing adds to a record."""

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")


def frame_record(data: bytes) -> bytes:
    """Returns a record as it stands in the file."""
    length = _LENGTH.pack(len(data))
    return b"".join((_HEADER.pack(len(data), _masked_crc(length)), data, _FOOTER.pack(_masked_crc(data))))


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields (byte offset, data) of each record and checks both CRCs.

    Raises:
        ArtifactError: A record is damaged or cut; its place is `record N`, N from 0.
    """
    with open(path, "rb") as file:
        end = path.stat().st_size
        offset = number = 0
        while offset < end:
            data = _read_record(file, path, number, offset, end)
            yield offset, data
            offset += FRAME_BYTES + len(data)
            number += 1


def _read_record(file: BinaryIO, path: Path, number: int, offset: int, end: int) -> bytes:
    place = f"record {number}"
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise ArtifactError(f"the file ends inside the record that begins at byte {offset:,}", path=path, place=place)
    length, length_crc = _HEADER.unpack(header)
    if _masked_crc(header[:8]) != length_crc:
        raise ArtifactError(f"the length's checksum is wrong at byte {offset:,}", path=path, place=place)
    if offset + FRAME_BYTES + length > end:
        raise ArtifactError(f"the file ends inside the record that begins at byte {offset:,}", path=path, place=place)
    data = file.read(length)
    if _FOOTER.unpack(file.read(_FOOTER.size))[0] != _masked_crc(data):
        raise ArtifactError(f"the data's checksum is wrong in the record that begins at byte {offset:,}", path=path, place=place)
    return data


def _masked_crc(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
