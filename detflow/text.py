"""Small pieces of the messages that people read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def first_line(error: Exception | str) -> str:
    """Returns the first line of an error's message; the error's class where the message is empty.

    Libraries explain themselves over many lines, or not at all; an error of detflow is one line.
    """
    lines = str(error).strip().splitlines()
    return lines[0].rstrip() if lines else type(error).__name__


def find_nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Returns the known name that is most like a misspelt one; None where none is alike.

    Args:
        name: What was written.
        known: What could have been meant.
        cutoff: Least similarity in [0, 1], as `difflib.get_close_matches` measures it.
    """
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=cutoff)), None)


def count_noun(count: int, noun: str, plural: str = "") -> str:
    """Returns a count with its noun: "1 image", "1,204 images".

    Args:
        count: How many.
        noun: The singular.
        plural: The plural, where it is not the singular with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
