"""Names for the annotations of a file that holds several."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from detflow.data.sources.names import split_extension


def name_entries(names: Iterable[str]) -> list[str]:
    """Returns a name for each entry of a file: without a slash, and unique as a key is.

    Args:
        names: What the file calls its entries: ids, or images' names or paths.
    """
    taken: set[str] = set()
    entries = []
    for name in names:
        plain = name.replace("\\", "/").strip("/").replace("/", "|") or "_"
        stem, suffix = split_extension(plain)
        number, entry = 1, plain
        # Keys lose the extension, and file systems may not tell cases apart.
        while (key := _fold(split_extension(entry)[0])) in taken:
            number += 1
            entry = f"{stem}~{number}{suffix}"
        taken.add(key)
        entries.append(entry)
    return entries


def find_file(annotation: str, paths: Sequence[str] | frozenset[str]) -> str:
    """Returns the file that holds an annotation, by the annotation's name.

    Args:
        annotation: The annotation's name.
        paths: The files that hold annotations.
    """
    place = annotation.find("#")
    while place >= 0:
        if annotation[:place] in paths:
            return annotation[:place]
        place = annotation.find("#", place + 1)
    return annotation


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
