"""The one door through which a command's words reach a terminal.

Names of files, classes and entries come from data that anyone may have made. For people each is
shown with its escapes; for programs JSON and YAML have their own, and are written as they are.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import textwrap

from detflow.progress import erase_status
from detflow.text import PLAIN_ERRORS, escape_lines, hide_credentials


def prepare_streams() -> None:
    """Lets an 8-bit terminal show what it can, and the rest in plain characters.

    Without this a single sign that the terminal's encoding lacks ends the command.
    """
    for stream in (sys.stdout, sys.stderr):
        # A program that embeds Python may have put other objects there.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN_ERRORS)


def print_text(text: str, *, err: bool = False) -> None:
    """Prints lines for people.

    Args:
        text: One or more lines; what is in a line and would not be shown is escaped.
        err: Whether to print on stderr.
    """
    erase_status(is_done=not err)
    # click.echo would write UTF-8 where the encoding is ASCII.
    print(escape_lines(hide_credentials(text)), file=sys.stderr if err else sys.stdout, flush=True)


def print_data(text: str, *, end: str = "\n") -> None:
    """Prints what a program reads: JSON, YAML, XML.

    Args:
        text: The document; its format escapes what has to be.
        end: Printed behind it.
    """
    erase_status(is_done=True)
    print(text, end=end)


def print_error(text: str) -> None:
    """Prints what is wrong as one line on stderr, which a terminal shows broken at spaces."""
    line = escape_lines(hide_credentials(f"detflow: error: {text}"))
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns
        line = textwrap.fill(
            line,
            columns,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
    erase_status()
    print(line, file=sys.stderr, flush=True)


def flush_output() -> None:
    """Writes what `print_data` has left for later.

    Raises:
        OSError: Whatever stdout leads to refuses.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_unwritten() -> None:
    """Has stdout and stderr lead nowhere where they refuse what is still to be written.

    Python writes it while it ends; it would complain, and end with 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
