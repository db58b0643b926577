"""Small pieces of the messages that people read."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterable
from urllib.parse import unquote

# pathlib makes one slash of two.
_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/(?:/|(?=[^/\\\s?#:@]*:)))[^/\\\s?#]*@")
_PARAMETER = re.compile(r"""([?&;#]([\w.%+-]{1,80})=)([^&#\s"'<>]+)""")
# What the parameters that sign or open an address are called: X-Amz-Signature, access_token, sig.
_SECRET_PARTS = re.compile(
    "token|signature|credential|secret|passw|jwt|session|api_?key|access_?key|accessid"
)
_SECRET_WORDS = frozenset({"sig", "key", "code", "policy", "pass", "pwd", "auth", "authorization"})

PLAIN_ERRORS = "detflow-plain"
"""The name of the codec error handler that writes what an encoding lacks in plain characters."""


def first_line(error: Exception | str) -> str:
    """Returns the first line of an error's message; the error's class where the message is empty.

    Libraries explain themselves over many lines, or not at all; an error of detflow is one line.
    """
    lines = str(error).strip().splitlines()
    return lines[0].rstrip() if lines else type(error).__name__


def hide_credentials(text: str) -> str:
    """Leaves out of a text what may be a password or a token; here alone detflow knows what may.

    In a URL that is all before the last @ of a host, and the values of the parameters that sign or
    open it; such a value becomes `…`.
    """
    if "=" in text:
        text = _PARAMETER.sub(_hide_value, text)
    return _CREDENTIALS.sub(r"\1", text)


def _hide_value(found: re.Match[str]) -> str:
    name = unquote(found[2]).lower().replace("-", "_")
    if not _SECRET_PARTS.search(name) and _SECRET_WORDS.isdisjoint(re.split(r"[_.+]", name)):
        return found[0]
    # A sentence goes on behind an address.
    end = found[3][len(found[3].rstrip(";,.:)")) :]
    return f"{found[1]}…{end}"


def find_nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Returns the known name that is most like a misspelt one; None where none is alike.

    Args:
        name: What was written.
        known: What could have been meant.
        cutoff: Least similarity in [0, 1], as `difflib.get_close_matches` measures it.
    """
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=cutoff)), None)


def count_noun(count: int, noun: str, plural: str = "") -> str:
    """Returns a count with its noun: "1 image", "1,204 images".

    Args:
        count: How many.
        noun: The singular.
        plural: The plural, where it is not the singular with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def escape_unprintable(text: str) -> str:
    r"""Returns text with the escape (`\x1b`) of each character that is not shown as itself.

    Names come from files, and a terminal obeys some characters: with them a file's name could
    colour, overwrite or reorder what a person reads. Line breaks are among them. White space other
    than a plain space, and characters without width, are escaped too, so that two names that differ
    look different.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def escape_lines(text: str) -> str:
    """Returns text whose lines stay lines and are escaped one by one; see `escape_unprintable`."""
    return "\n".join(map(escape_unprintable, text.split("\n")))


_PLAIN = {"×": "x", "…": "...", "→": "->", "–": "-", "—": "-", "·": "|", "’": "'"}


def _write_plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    written = "".join(
        _PLAIN.get(character, character.encode("unicode_escape", "surrogatepass").decode("ascii"))
        for character in missing
    )
    return written, error.end


codecs.register_error(PLAIN_ERRORS, _write_plain)
