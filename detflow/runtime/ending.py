"""How a process ends where Python's own way out may wait for ever. Does not import TensorFlow."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["exit_without_cleanup", "prompt_exit"]

_without_cleanup = False


def exit_without_cleanup() -> None:
    """Lets `prompt_exit` end this process without taking Python's modules and the objects in them apart."""
    global _without_cleanup
    _without_cleanup = True


@contextmanager
def prompt_exit() -> Iterator[None]:
    """Once `exit_without_cleanup` was called, an exception that leaves the block ends the process there and then.

    The exit code is the number of a `SystemExit`; of anything else a traceback is printed and the code is 1, as Python does it.
    """
    try:
        yield
    except BaseException as error:
        if not _without_cleanup:
            raise
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
