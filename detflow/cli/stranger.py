"""Tells whether an unrelated project of the same import name is installed beside this one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

DISTRIBUTION = "detflow-vision"
"""The name of detflow's own distribution."""

_STRANGER = "detflow"


def find_stranger(paths: Sequence[str] | None = None) -> str | None:
    """Returns what is wrong where the unrelated distribution `detflow` is installed.

    That project on the public index has an import package and a command of the same names, so that
    whichever was installed last has replaced files of the other. `importlib.metadata` would tell
    it too, but takes longer than the rest of a command's start.

    Args:
        paths: Folders to look into; those of this Python if None.
    """
    for folder in sys.path if paths is None else paths:
        names: list[str] = []
        with contextlib.suppress(OSError):
            # Python's path may name archives, and folders that are not there.
            names = os.listdir(folder or ".")
        for name in names:
            project, _, version = name.removesuffix(".dist-info").partition("-")
            if not name.endswith(".dist-info") or project != _STRANGER:
                continue
            # An installation from a folder is a checkout of this project before it had its name.
            if not os.path.exists(os.path.join(folder, name, "direct_url.json")):
                return (
                    f"an unrelated project, {_STRANGER} {version}, is installed beside "
                    f"{DISTRIBUTION}, and their files mix: uninstall both, then install "
                    f"{DISTRIBUTION} again"
                )
    return None
