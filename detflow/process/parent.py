"""A process that ends when its parent does, however that ends (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
# Loaded here, because between fork and exec a library had better not be loaded.
_LIBC = ctypes.CDLL(None)


def die_with(parent: int) -> None:
    """Called in a new process: once its parent ends, even by SIGKILL, the kernel kills it too.

    Args:
        parent: Process id of the parent. If it ended before this call, this process leaves at once.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
