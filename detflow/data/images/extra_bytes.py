"""Bytes in a JPEG that mean nothing: told from damage, and left out.

Cameras and tools put bytes between segments and before the end marker, count another version of
JFIF, or leave out a scan's bounds. Decoders warn of it and show the whole picture. A scan that is
damaged may end early and leave bytes, too. So what is accepted here is proven: without those bytes
libjpeg decodes every block without a warning, and needs the last byte that is left; and the bits
behind the last block are ones, as the standard has encoders fill them up (T.81, F.1.2.3).
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import simplejpeg

from detflow.text import count_noun

_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
# A damaged scan that ends early leaves a few dozen bytes; padding has one value throughout.
_MAX_EXTRA = 64
# So many bytes, at most, decoders take in advance without a word.
_READ_AHEAD = 8
_MAX_SCANS = 64
_SEQUENTIAL = frozenset({0xC0, 0xC1})


def clean_header(data: bytes) -> tuple[bytes, str]:
    """Rewrites what stands in front of the first scan where decoders only warn of it.

    Returns:
        The file, the same object where nothing was rewritten, and what was wrong.
    """
    pieces = [data[:2]]
    faults = []
    position, frame, garbage = 2, 0, 0
    while (start := _find_marker(data, position)) is not None:
        skipped = data[position:start]
        # A marker may follow any number of fill bytes.
        if skipped.strip(b"\xff"):
            garbage += len(skipped)
        else:
            pieces.append(skipped)
        marker = data[start + 1]
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        end = start + 2 + length
        if length < 2 or end > len(data) or marker == 0x01 or 0xD0 <= marker <= 0xD9:
            return data, ""
        segment = data[start:end]
        if marker == 0xE0 and segment[4:9] == b"JFIF\0" and length >= 16 and segment[9] != 1:
            faults.append(f"JFIF version {segment[9]}.{segment[10]:02}")
            segment = segment[:9] + b"\1\1" + segment[11:]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = marker
        position = end
        if marker == 0xDA:
            if frame in _SEQUENTIAL and length >= 8 and segment[-3:] != b"\0\x3f\0":
                faults.append("a scan without its bounds")
                segment = segment[:-3] + b"\0\x3f\0"
            pieces += [segment, data[end:]]
            break
        pieces.append(segment)
    else:
        return data, ""
    if garbage:
        faults.insert(0, f"{count_noun(garbage, 'byte')} between segments")
    return (b"".join(pieces), " and ".join(faults)) if faults else (data, "")


def cut_extra_bytes(data: bytes, warning: str) -> tuple[bytes, str] | None:
    """Returns a file without the bytes behind its last block, and what was left out.

    Args:
        data: A JPEG whose header is clean.
        warning: What the decoder says of it, its first warning.

    Returns:
        None where it is damaged, or may be.
    """
    match = _EXTRANEOUS.search(warning)
    if match is None:
        return None
    number, marker = int(match[1]), int(match[2], 16)
    for end in _find_scan_ends(data):
        if data[end + 1] != marker:
            continue
        if number > _MAX_EXTRA and len(set(data[end - number : end])) > 1:
            return None
        start = _find_end_of_data(data, end - number, data[end:])
        cut = data[:start] + data[end:]
        if _warn(cut):
            continue
        if not _ends_as_encoders_end(data[:start], data[end:]):
            return None
        place = "the end marker" if marker == 0xD9 else "a marker"
        return cut, f"{count_noun(end - start, 'byte')} before {place} that mean nothing"
    return None


def has_more_scans(data: bytes, limit: int) -> bool:
    """Tells whether a JPEG has more scans than that, up to its end marker."""
    return len(_find_scan_ends(data, limit + 1)) > limit


def _find_marker(data: bytes, position: int) -> int | None:
    """Returns where the next marker begins, as decoders look for it."""
    while (place := data.find(b"\xff", position)) >= 0:
        while place + 1 < len(data) and data[place + 1] == 0xFF:
            place += 1
        if place + 4 > len(data):
            return None
        if data[place + 1] != 0:
            return place
        position = place + 2
    return None


def _find_scan_ends(data: bytes, limit: int = _MAX_SCANS) -> list[int]:
    """Returns where the markers stand that end the scans, the first `limit` ones."""
    ends: list[int] = []
    position = 2
    while len(ends) < limit and (start := _find_marker(data, position)) is not None:
        marker = data[start + 1]
        if marker == 0xD9:
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # They have no content.
            position = start + 2
            continue
        position = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if marker == 0xDA:
            end = _find_scan_end(data, position)
            if end is None:
                break
            ends.append(end)
            position = end
    return ends


def _find_scan_end(data: bytes, position: int) -> int | None:
    while (place := data.find(b"\xff", position)) >= 0 and place + 1 < len(data):
        if data[place + 1] not in (0x00, 0xFF) and not 0xD0 <= data[place + 1] <= 0xD7:
            return place
        position = place + (1 if data[place + 1] == 0xFF else 2)
    return None


def _warn(data: bytes) -> str:
    """Returns the decoder's first warning; all entropy-coded data are walked."""
    try:
        simplejpeg.decode_jpeg(
            data, colorspace="GRAY", min_height=16, min_width=17, min_factor=1, strict=True
        )
    except ValueError as error:
        return str(error)
    return ""


def _find_end_of_data(data: bytes, latest: int, rest: bytes) -> int:
    """Returns the end of a scan's data: as few bytes as have all blocks.

    Args:
        data: The file.
        latest: Where the data end at the latest.
        rest: What follows the scan.
    """
    low, high = latest - _READ_AHEAD, latest
    while low < high:
        middle = (low + high) // 2
        warning = _warn(data[:middle] + rest)
        if not warning or _EXTRANEOUS.search(warning):
            high = middle
        else:
            low = middle + 1
    return high


def _ends_as_encoders_end(scan: bytes, rest: bytes) -> bool:
    """Whether the bits behind a scan's last block are ones.

    Args:
        scan: The file up to the end of the scan's data.
        rest: What follows it.
    """
    if scan.endswith(b"\xff\0"):
        return True
    scan, byte = scan[:-1], scan[-1]
    shown = _decode(scan + bytes([byte]) + rest)
    for bit in range(8):
        changed = byte ^ (1 << bit)
        stuffed = bytes([changed, 0]) if changed == 0xFF else bytes([changed])
        pixels = _decode(scan + stuffed + rest)
        if pixels is None or shown is None or not np.array_equal(pixels, shown):
            # This bit belongs to the last block.
            return True
        if not byte >> bit & 1:
            return False
    return True


def _decode(data: bytes) -> npt.NDArray[np.uint8] | None:
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True))
    except ValueError:
        return None
