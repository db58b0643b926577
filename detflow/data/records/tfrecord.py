"""TFRecord framing: length, masked CRC of the length, data, masked CRC of the data.

The format is described in TensorFlow's `tensorflow/core/lib/io/record_writer.h`; the CRC is
Castagnoli's, masked as in `tensorflow/core/lib/hash/crc32c.h`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from detflow.errors import ArtifactError

FRAME_BYTES = 16
"""What framing adds to a record."""

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")
# The most that a protobuf message may have.
_MAX_DATA_BYTES = 2**31 - 1


def frame_record(data: bytes) -> bytes:
    """Returns a record as it stands in the file."""
    length = _LENGTH.pack(len(data))
    return b"".join(
        (_HEADER.pack(len(data), _masked_crc(length)), data, _FOOTER.pack(_masked_crc(data)))
    )


@dataclass(frozen=True, slots=True)
class ScannedRecord:
    """A record as found.

    Attributes:
        number: Its place in the file, from 0.
        offset: Its first byte in the file.
        data: Its content; empty where there is a fault.
        fault: What is wrong with it, or None.
        goes_on: Whether the record after it can be found.
    """

    number: int
    offset: int
    data: bytes
    fault: str | None = None
    goes_on: bool = True


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields (byte offset, data) of each record and checks both CRCs.

    Raises:
        ArtifactError: A record is damaged or cut; the error's place is "record N", N from 0.
    """
    for record in scan_records(path):
        if record.fault is not None:
            raise ArtifactError(record.fault, path=path, place=f"record {record.number}")
        yield record.offset, record.data


def scan_records(path: Path) -> Iterator[ScannedRecord]:
    """Yields every record, damaged ones too, up to the first whose length cannot be trusted."""
    with open(path, "rb") as file:
        end = path.stat().st_size
        offset = number = 0
        while offset < end:
            record, length = _scan_record(file, number, offset, end)
            yield record
            if not record.goes_on:
                return
            offset += FRAME_BYTES + length
            number += 1


def read_record_at(path: Path, offset: int) -> bytes:
    """Returns the data of the record that begins at a byte; both CRCs are checked.

    Raises:
        ArtifactError: The record is damaged or cut.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        record, _ = _scan_record(file, 0, offset, path.stat().st_size)
    if record.fault is not None:
        raise ArtifactError(record.fault, path=path)
    return record.data


def find_offsets(path: Path) -> Iterator[int]:
    """Yields the first byte of each record; only lengths are read, and those are checked."""
    with open(path, "rb") as file:
        end = path.stat().st_size
        offset = 0
        while offset + FRAME_BYTES <= end:
            file.seek(offset)
            length, length_crc = _HEADER.unpack(file.read(_HEADER.size))
            if _masked_crc(_LENGTH.pack(length)) != length_crc:
                return
            yield offset
            offset += FRAME_BYTES + length


def _scan_record(file: BinaryIO, number: int, offset: int, end: int) -> tuple[ScannedRecord, int]:
    """Returns a record and how many bytes of data it has."""
    begin = f"the record that begins at byte {offset:,}"
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return ScannedRecord(number, offset, b"", f"the file ends inside {begin}", goes_on=False), 0
    length, length_crc = _HEADER.unpack(header)
    if _masked_crc(header[:8]) != length_crc:
        return ScannedRecord(
            number, offset, b"", f"the length's checksum is wrong at byte {offset:,}", goes_on=False
        ), 0
    if offset + FRAME_BYTES + length > end:
        return ScannedRecord(number, offset, b"", f"the file ends inside {begin}", goes_on=False), 0
    if length > _MAX_DATA_BYTES:
        fault = f"{begin} has {length:,} bytes; a message has at most {_MAX_DATA_BYTES:,}"
        return ScannedRecord(number, offset, b"", fault, goes_on=False), 0
    data = file.read(length)
    if _FOOTER.unpack(file.read(_FOOTER.size))[0] != _masked_crc(data):
        return ScannedRecord(
            number, offset, b"", f"the data's checksum is wrong in {begin}"
        ), length
    return ScannedRecord(number, offset, data), length


def _masked_crc(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
