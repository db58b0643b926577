"""How an entry of a file with many annotations claims its image."""

from __future__ import annotations

import posixpath
import re

from detflow.data.sources.source import ImageNames

_SEPARATORS = re.compile(r"[\\/]+")
_ABSOLUTE = re.compile(r"[\\/]|[A-Za-z]:[\\/]|[a-z0-9]+://")


def claim_image(filename: str | None, path: str) -> ImageNames:
    """Returns how an entry claims its image, where tools write whatever path they have.

    Args:
        filename: The name or path as written. An absolute one says where the image lay on the
            annotator's machine; dots lead from the file's own folder.
        path: The file that holds the entry, inside the dataset.
    """
    if filename is None:
        return ImageNames(None, None)
    if _ABSOLUTE.match(filename):
        return ImageNames(_SEPARATORS.split(filename)[-1] or None, filename)
    parts = _SEPARATORS.split(filename)
    if ".." in parts:
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(path), *parts))
        # What leaves the dataset stays as written, and is refused.
        return ImageNames(filename if inside.startswith("..") else inside, None)
    return ImageNames(filename, None)
