"""Pages for people: one file each, in which the browser loads nothing and runs one script of ours.

A page is a template of the folder `templates` and plain values. Jinja escapes whatever a template
shows; style sheet and script are the only texts that are trusted as they stand, and what macros
return is markup because Jinja has escaped inside of them. The policy of a page names the digests of
the two, so that the browser obeys nothing else. No page holds a time or a path of its own, so the
same values always give the same bytes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from detflow.pages.charts import format_px
from detflow.pages.colours import class_colour, format_css, to_hex
from detflow.text import count_noun

# One after the other, in one scope.
_SCRIPTS = ("common.js", "tables.js", "judged.js", "filters.js", "enlarging.js", "printing.js")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page, as the bar of links shows it; `count` stands beside the title."""

    title: str
    count: int | None = None


def render_page(template: str, **content: Any) -> str:
    """Returns a page.

    Args:
        template: Name of a file in `templates`, say "report.html.j2".
        content: What the template shows. A name that the template uses and that is missing here
            is an error.

    Returns:
        HTML that can be encoded as UTF-8. A character that nobody can see, such as one that
        changes the direction of writing or half of a surrogate pair, is shown as its escape.
    """
    return _environment().get_template(template).render(content)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("detflow.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_show_invisible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    folder = files("detflow.pages")
    style = "\n" + format_css() + folder.joinpath("page.css").read_text("utf-8")
    script = "\n" + "\n".join(
        folder.joinpath("scripts", name).read_text("utf-8") for name in _SCRIPTS
    )
    environment.globals.update(
        style=Markup(style),  # noqa: S704  (a file of this package, not of a user)
        style_digest=_digest_text(style),
        script=Markup(script),  # noqa: S704  (the same)
        script_digest=_digest_text(script),
        class_colour=class_colour,
        count_noun=count_noun,
    )
    environment.filters.update(
        data_uri=_to_data_uri,
        hex=to_hex,
        px=format_px,
        separated="{:,}".format,
        split_words=_split_words,
    )
    return environment


def _digest_text(text: str) -> str:
    """Returns the SHA-256 of a text as a policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _show_invisible(value: Any) -> Any:
    """Makes each value visible on its way into the page; None has no way there."""
    if value is None:
        raise TypeError("a page cannot show None: say in words what is missing")
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value
    )


def _to_data_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _split_words(path: str) -> list[str]:
    """Splits a path behind each slash and underscore, where a browser may break the line."""
    return re.split("(?<=[/_])", path)
