"""The signals that ask a process to stop. Does not import TensorFlow."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_signals_handled"]


@contextmanager
def stop_signals_handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Gives SIGTERM and SIGINT to a handler during the block, and to those from before after it."""
    before = {signum: signal.signal(signum, handler) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, own in before.items():
            signal.signal(signum, own)
