"""Where this machine keeps copies: of downloads, and of records and model directories at URLs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from detflow.storage.location import Url


def cache_directory() -> Path:
    """Returns `$DETFLOW_CACHE`, else `detflow` in `$XDG_CACHE_HOME`, else `~/.cache/detflow`."""
    if own := os.environ.get("DETFLOW_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detflow"


def find_cached(kind: str, url: Url, identity: bytes) -> Path:
    """Returns where the cache has what a URL stands for, or would have it.

    Args:
        kind: Name of the part of the cache.
        url: The URL; its last part is in the folder's name, for people who look.
        identity: What distinguishes it from others of that name.
    """
    return cache_directory() / kind / f"{url.name}-{hashlib.sha256(identity).hexdigest()[:16]}"
