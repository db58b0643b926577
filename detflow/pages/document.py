"""The frame of a page, its tables, and text made inert. Everything that a page shows stands inside it."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["Section", "escape", "render_page", "render_table"]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page.

    Attributes:
        anchor: Its name in links.
        title: Markup, above it and in the bar of links.
        body: Markup.
        count: Shown beside the title in the bar of links.
    """

    anchor: str
    title: str
    body: str
    count: int | None = None


def escape(text: str) -> str:
    """Returns text for a page: markup is inert, and what cannot be seen is shown as its escape."""
    visible = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
    return html.escape(visible, quote=True)


def render_page(kicker: str, name: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """Returns a page whose policy lets the browser load and run nothing but what stands in it.

    Args:
        kicker: What kind of page this is; text.
        name: What it is about; text.
        lead: The whole story in two sentences; markup.
        sections: In their order.
        footer: Markup.
    """
    style = files("detflow.pages").joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    links = "".join(
        f'<a href="#{one.anchor}">{one.title}{"" if one.count is None else f" <b>{one.count:,}</b>"}</a>'
        for one in sections
    )
    body = "".join(
        f'<section id="{one.anchor}"><h2>{one.title}</h2>{one.body}</section>' for one in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(name)} · {escape(kicker.lower())}</title>
<style>{style}</style>
</head>
<body>
<header><div><p class="kicker">{escape(kicker)}</p><h1>{escape(name)}</h1><p class="lead">{lead}</p></div></header>
<nav><div>{links}</div></nav>
<main>{body}</main>
<footer>{footer} Written by detflow. Nothing in this page is loaded or run.
</footer>
</body>
</html>
"""


def render_table(heads: Sequence[str], rows: Sequence[Sequence[str]], foot: str = "") -> str:
    """Returns a table that scrolls by itself where the screen is narrow.

    Args:
        heads: Text; an empty one stands over bars, which narrow screens leave out.
        rows: Cells (`<td>…`), markup.
        foot: Cells of the last row, markup.
    """
    head = "".join(
        f"<th>{escape(text)}</th>" if text else '<th class="bar"></th>' for text in heads
    )
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    end = f"<tfoot><tr>{foot}</tr></tfoot>" if foot else ""
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>{end}</table></div>'
