"""Memory that a long-lived process has freed goes back to the system (glibc; elsewhere nothing)."""

from __future__ import annotations

import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 1 << 20
_LIBC = ctypes.CDLL(None)


def return_large_blocks() -> None:
    """Has each block of a megabyte or more returned as soon as it is freed.

    By itself the allocator raises that bound to 32 MiB once such a block was freed, and keeps what
    is smaller: a server would hold on to what its largest requests took.
    """
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def return_free_pages() -> None:
    """Returns the pages that hold nothing any more, between the blocks that are in use.

    It takes a few milliseconds, in which other threads cannot allocate.
    """
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
