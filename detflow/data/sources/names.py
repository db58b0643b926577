"""What files in a dataset are called: extensions, and the names of splits."""

from __future__ import annotations

from detflow.data.images.header import IMAGE_SUFFIXES

SPLIT_NAMES = frozenset(
    {
        "train",
        "training",
        "val",
        "valid",
        "validation",
        "test",
        "testing",
        "trainval",
        "dev",
        "eval",
    }
)
"""Names, in lower case, by which folders and lists declare a split."""
# The extensions of files that belong to datasets; other dots are part of a name.
_KNOWN_SUFFIXES = frozenset({*IMAGE_SUFFIXES, ".xml", ".txt"})


def split_extension(name: str) -> tuple[str, str]:
    """Splits a file's name or path before its extension, where that is one of a dataset's files."""
    stem, dot, tail = name.rpartition(".")
    suffix = dot + tail
    return (stem, suffix) if stem and suffix.lower() in _KNOWN_SUFFIXES else (name, "")
