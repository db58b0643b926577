"""Where this machine keeps what lies elsewhere: downloads, records and model directories of URLs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from detflow.storage.location import Url

__all__ = ["cache_directory", "find_cached"]


def cache_directory() -> Path:
    """Returns the folder: `$DETFLOW_CACHE`, else `detflow` in `$XDG_CACHE_HOME`, else in `~/.cache`."""
    if own := os.environ.get("DETFLOW_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detflow"


def find_cached(kind: str, url: Url, identity: bytes) -> Path:
    """Returns where the cache has what a URL stands for, or would have it.

    Args:
        kind: The cache's part.
        url: Its last part is in the name, for people who look.
        identity: What tells it from others of that name.
    """
    return cache_directory() / kind / f"{url.name}-{hashlib.sha256(identity).hexdigest()[:16]}"
