"""How a command ends whose reader has gone, as `head` does: quietly, as if SIGPIPE had killed it.

Python ignores that signal, so that a training or a server may outlive whoever listens to it. What
writes to a closed pipe gets an error instead, which unwinds the stack as every other one does.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

import click

from detflow.cli.output import flush_output
from detflow.process.platform import is_reader_gone

CLOSED_PIPE_CODE = 141
"""128 and the number of SIGPIPE: what a shell says of a program that the signal has killed."""


class _Hidden(Exception):
    """Holds a broken pipe on its way through click, which would end the process with 1.

    Args:
        error: What has been raised.
    """

    def __init__(self, error: BrokenPipeError) -> None:
        super().__init__()
        self.error = error


@contextlib.contextmanager
def hide_broken_pipe() -> Iterator[None]:
    """Lets a broken pipe of the block pass through click to `run_group`, which raises it again."""
    try:
        yield
    except BrokenPipeError as error:
        raise _Hidden(error) from error


def run_group(group: click.Group, arguments: Sequence[str]) -> int:
    """Runs a command of a group that uses `hide_broken_pipe`, up to the last word of its output.

    Returns:
        The exit code.

    Raises:
        OSError: Among others, nobody reads any more what was written to a pipe or a connection.
    """
    try:
        code = group.main(list(arguments), prog_name="detflow", standalone_mode=False) or 0
    except _Hidden as hidden:
        raise hidden.error from None
    flush_output()
    return code


def is_output_closed(error: BaseException) -> bool:
    """Tells whether something was raised because nobody reads stdout or stderr any more.

    The broken connection to another process or machine is something else.
    """
    if isinstance(error, SystemExit):
        # Rich has met the closed pipe, and now stdout leads nowhere.
        return error.code == 1 and isinstance(error.__context__, BrokenPipeError)
    return isinstance(error, BrokenPipeError) and any(map(_is_closed, (sys.stdout, sys.stderr)))


def _is_closed(stream: TextIO | None) -> bool:
    try:
        return stream is not None and is_reader_gone(stream.fileno())
    except (OSError, ValueError):
        # A program that embeds Python may have put there what is no file.
        return False
