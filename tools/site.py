"""Gives the pages of a checkout their places in the documentation's site; a hook of mkdocs.

README.md is the site's first page, and what else lies outside docs/ keeps its path. Links between
the two are written for the checkout: they are turned here. What is no page, such as a folder of
configurations, is named without a link.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parents[1]
_OUTSIDE = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    *(f"datasets/{path.name}" for path in sorted(_ROOT.glob("datasets/*.md"))),
)
_LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that lie outside docs/."""
    for name in _OUTSIDE:
        content = (_ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, _place(PurePosixPath(name)), content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turns the links of a page from the checkout's places to the site's."""
    here = PurePosixPath(page.file.src_uri)
    is_outside = page.file.abs_src_path is None
    source = (
        PurePosixPath("README.md" if here.name == "index.md" else here)
        if is_outside
        else PurePosixPath("docs") / here
    )

    def turn(match: re.Match[str]) -> str:
        target = match["target"]
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        place = _place(_resolve(source.parent / target))
        if files.get_file_from_path(place) is None:
            return match["text"] if match["text"].startswith("!") else match["text"][1:-1]
        depth = len(here.parent.parts)
        return f"{match['text']}({'../' * depth}{place}{match['anchor'] or ''})"

    return _LINK.sub(turn, markdown)


def _place(path: PurePosixPath) -> str:
    """Returns where a file of the checkout lies in the site."""
    if path == PurePosixPath("README.md"):
        return "index.md"
    return str(path.relative_to("docs")) if path.parts[:1] == ("docs",) else str(path)


def _resolve(path: PurePosixPath) -> PurePosixPath:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return PurePosixPath(*parts)
