"""What the first bytes of a video file say: its container, and how long the file should be.

The content decides, never the extension. FFmpeg is told which container to read, and so never comes
to try its other readers, some of which are playlists that name further files and hosts.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, Final, NamedTuple

from detflow.data.images.header import find_format
from detflow.text import count_noun

HEAD_BYTES: Final = 4096
"""How much of a file's beginning `find_container` wants to see."""

VIDEO_SUFFIXES: Final = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".avi", ".divx", ".mkv", ".webm"),
        *(".mpg", ".mpeg", ".mpe", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".m2t", ".flv", ".f4v"),
        *(".wmv", ".asf", ".ogv", ".ogm", ".ivf", ".rm", ".rmvb", ".mxf", ".nut", ".y4m"),
        *(".h264", ".264", ".h265", ".265", ".hevc"),
    }
)
"""Extensions of videos, in lower case."""

AUDIO_SUFFIXES: Final = frozenset(
    {".m4a", ".m4b", ".m4r", ".mka", ".oga", ".ogg", ".opus", ".spx", ".wma", ".weba", ".aac"}
)
"""Extensions of sound, which lies in the same containers as videos do."""

_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_MXF = bytes.fromhex("060e2b34020501010d0102010102")
_BOXES = (b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
# A transport stream's packets, without and with four bytes in front or sixteen behind them.
_TS_PACKETS = (188, 192, 204)
_TS_SYNC = 0x47
_TS_COUNT = 5
# Each fragment of a film has two boxes: these are days of them.
_MAX_BOXES = 1_000_000
# Longer than a page of Ogg can be.
_TAIL_BYTES = 1 << 17
# A box's type is four printable letters, and "free" or "wide" stand in many a text.
_FIRST_LETTER = 0x20


class Container(NamedTuple):
    """A kind of file that holds videos.

    Attributes:
        name: Its name for a person.
        demuxer: FFmpeg's name of what reads it.
    """

    name: str
    demuxer: str


_MP4 = Container("MP4 or QuickTime", "mov")
_AVI = Container("AVI", "avi")
_MATROSKA = Container("Matroska or WebM", "matroska")
_TS = Container("MPEG transport stream", "mpegts")
_WMV = Container("Windows Media", "asf")
_OGG = Container("Ogg", "ogg")
_GIF = Container("GIF", "gif")

# How a file begins, and at which byte.
_MARKS: Final = (
    (4, b"ftyp", _MP4),
    (0, _EBML, _MATROSKA),
    (0, b"\x00\x00\x01\xba", Container("MPEG program stream", "mpeg")),
    (0, b"\x00\x00\x01\xb3", Container("MPEG video", "mpegvideo")),
    (0, b"FLV\x01", Container("Flash video", "flv")),
    (0, _ASF, _WMV),
    (0, b"OggS", _OGG),
    (0, b"DKIF", Container("IVF", "ivf")),
    (0, b".RMF", Container("RealMedia", "rm")),
    (0, _MXF, Container("MXF", "mxf")),
    (0, b"nut/multimedia container\0", Container("NUT", "nut")),
    (0, b"YUV4MPEG2 ", Container("YUV4MPEG2", "yuv4mpegpipe")),
    *(
        (0, start + kind, Container(name, demuxer))
        for start in (b"\x00\x00\x00\x01", b"\x00\x00\x01")
        for kind, name, demuxer in (
            (b"\x67", "H.264", "h264"),
            (b"\x27", "H.264", "h264"),
            (b"\x40\x01", "H.265", "hevc"),
        )
    ),
    (0, b"GIF8", _GIF),
)


def find_container(head: bytes) -> Container | None:
    """Returns what a file's first `HEAD_BYTES` announce; None where they are not a video's.

    A GIF is one whether or not it moves.
    """
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        return _AVI
    if find_format(head[:16]) == "heif":
        return None
    for start, mark, container in _MARKS:
        if head[start : start + len(mark)] == mark:
            return container
    if head[4:8] in _BOXES and (head[0] < _FIRST_LETTER or head[4:8] == b"mdat"):
        return _MP4
    return None if _find_packets(head) is None else _TS


def find_missing_end(file: BinaryIO, container: Container) -> str:
    """Returns in words that a file is shorter than its container says.

    Nothing is returned where it is not, and where nobody can tell.

    Args:
        file: The file, opened for reading; its position is moved.
        container: As `find_container` names it.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if container is _MP4:
        missing = _measure_boxes(file, size) - size
    else:
        measure = {_AVI: _measure_riff, _MATROSKA: _measure_segment, _WMV: _measure_asf}
        missing = measure[container](head) - size if container in measure else 0
    if missing > 0:
        return f"the file ends {count_noun(missing, 'byte')} early"
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    if container is _GIF:
        has_end = tail.rstrip(b"\0").endswith(b";")
    elif container is _OGG:
        # The last page of each stream says that it is that.
        place = tail.rfind(b"OggS")
        has_end = place < 0 or (place + 5 < len(tail) and bool(tail[place + 5] & 4))
    elif container is _TS:
        length, first = _find_packets(head) or (1, 0)
        has_end = (size - first) % length == 0
    else:
        has_end = True
    return "" if has_end else "the file's end is missing"


def _find_packets(head: bytes) -> tuple[int, int] | None:
    """Returns the length of a transport stream's packets, and where the first whole one begins."""
    for length in _TS_PACKETS:
        for first in range(length):
            places = range(first, first + _TS_COUNT * length, length)
            if all(place < len(head) and head[place] == _TS_SYNC for place in places):
                # Packets of 192 bytes have four before their sync byte.
                return length, first - 4 if length == 192 and first >= 4 else first
    return None


def _measure_boxes(file: BinaryIO, size: int) -> int:
    """Returns where the boxes of an MP4 file end by their own words."""
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(16)
        # What follows the last box, if it is no box, means nothing.
        if len(header) < 8 or min(header[4:8]) < _FIRST_LETTER:
            break
        length = int.from_bytes(header[:4], "big")
        if length == 1 and len(header) == 16:
            length = int.from_bytes(header[8:], "big")
        if length < 8:  # 0 reaches to the end of the file.
            break
        position += length
        if position >= size:
            return position
    return size


def _measure_riff(head: bytes) -> int:
    length: int = struct.unpack_from("<I", head, 4)[0]
    # Those who write into a pipe leave 0 or all bits there.
    return 0 if length in (0, 0xFFFFFFFF) else 8 + length


def _measure_segment(head: bytes) -> int:
    place = head.find(_SEGMENT)
    if place < 0 or place + 12 > len(head):
        return 0
    first = head[place + 4]
    num_bytes = 9 - first.bit_length()
    if not 1 <= num_bytes <= 8:
        return 0
    coded = int.from_bytes(head[place + 4 : place + 4 + num_bytes], "big")
    length = coded & ((1 << 7 * num_bytes) - 1)
    # All bits say that the length was not known when the file was begun.
    return 0 if length == (1 << 7 * num_bytes) - 1 else place + 4 + num_bytes + length


def _measure_asf(head: bytes) -> int:
    place = head.find(_ASF_FILE_PROPERTIES)
    if place < 0 or place + 92 > len(head):
        return 0
    length, flags = (
        struct.unpack_from(form, head, place + offset)[0]
        for form, offset in (("<Q", 40), ("<I", 88))
    )
    return 0 if flags & 1 else int(length)  # A broadcast did not know its length.
