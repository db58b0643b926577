"""File names for a set that is written: safe, unique, and as like the old ones as they can be."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from detflow.data.sources.names import split_extension

# XML cannot hold control characters or lone surrogates; other characters would confuse a shell or a
# list of names.
_UNSAFE = re.compile(r"[^\w.=#@+,() -]+")
# VOC's lists have a number behind a name: whether the class is in the image.
_NUMBER_BEHIND = re.compile(r" (?=[+-]?[0-9]+$)")
# A file name has at most 255 bytes; a number and a suffix have to fit as well.
_MAX_BYTES = 200
# Names that Windows keeps for devices.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def choose_names(paths: Sequence[str]) -> tuple[list[str], list[int]]:
    """Returns a file name without suffix for each image, and which had to be told apart.

    A name that several images have keeps its folders as part of it, and a number where even that is
    not unique. Names are compared without case and in one Unicode form, since file systems of other
    machines may not tell them apart.

    Args:
        paths: The images' paths inside their set.

    Returns:
        The names, and the places of those whose own name others have too.
    """
    stems = [split_extension(path)[0] for path in paths]
    names = [to_safe_name(stem.rpartition("/")[2]) for stem in stems]
    counts = Counter(map(_fold, names))
    used = {folded for folded, count in counts.items() if count == 1}
    shared = [place for place, name in enumerate(names) if counts[_fold(name)] > 1]
    # What comes next for a base, so that many images of one name take no longer than few.
    numbers: Counter[str] = Counter()
    for place in shared:
        base = to_safe_name(stems[place].replace("/", "_"))
        name = base
        while _fold(name) in used:
            numbers[base] = max(numbers[base], 1) + 1
            name = f"{base}_{numbers[base]}"
        used.add(_fold(name))
        names[place] = name
    return names, shared


def choose_split_names(splits: Iterable[str]) -> dict[str, str]:
    """Returns a safe and unique file name for each split or union."""
    used: set[str] = set()
    names: dict[str, str] = {}
    for split in splits:
        base = name = to_safe_name(split)
        number = 1
        while _fold(name) in used:
            number += 1
            name = f"{base}_{number}"
        used.add(_fold(name))
        names[split] = name
    return names


def to_safe_name(name: str) -> str:
    """Returns a name without what a file system, a list or a reader of sets would stumble over."""
    safe = _NUMBER_BEHIND.sub("_", _UNSAFE.sub("_", name).strip(" "))
    # A name that ends like an image's would lose its end where suffixes are left out.
    while (parts := split_extension(safe))[1]:
        safe = f"{parts[0]}_{parts[1][1:]}"
    while len(safe.encode()) > _MAX_BYTES:
        safe = safe[:-1]
    # Files whose names begin with a point are hidden, and a point at the end is lost on Windows.
    if not safe or safe.startswith((".", "-")) or _DEVICES.fullmatch(safe):
        safe = f"_{safe}"
    return f"{safe[:-1]}_" if safe.endswith((".", " ")) else safe


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
