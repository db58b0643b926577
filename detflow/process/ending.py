"""How a process ends where Python's own way out may wait for ever. Does not import TensorFlow."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

_is_required = False


def require_immediate_exit() -> None:
    """Has `immediate_exit` end this process without Python destroying its modules and objects."""
    global _is_required
    _is_required = True


@contextmanager
def immediate_exit() -> Iterator[None]:
    """Ends the process where an exception leaves the block, if `require_immediate_exit` was called.

    The exit code is the number of a `SystemExit`; of anything else a traceback is printed and the
    code is 1, as Python does it.
    """
    try:
        yield
    except BaseException as error:
        if not _is_required:
            raise
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            # Whoever read them may be gone.
            os._exit(code)
