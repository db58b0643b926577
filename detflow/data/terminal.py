"""What a person sees on the terminal: a bar with rate and time left, then one screen of sums that add up."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from detflow.data.judging.audit import Progress
from detflow.data.judging.rules import RULES

__all__ = ["format_summary", "show_progress"]

_MAX_CLASSES = 12
_UPDATE_SECONDS = 0.1


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Yields a callback that draws a bar on stderr; one that does nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    tasks: dict[str, TaskID] = {}
    next_update = 0.0
    with Bar(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    ) as bar:

        def update(what: str, done: int, total: int) -> None:
            nonlocal next_update
            # A bar costs more to draw than a small image to check.
            now = time.monotonic()
            if now < next_update and done < total:
                return
            next_update = now + _UPDATE_SECONDS
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, rate="")
            speed = bar.tasks[tasks[what]].speed
            bar.update(
                tasks[what], completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else ""
            )

        yield update


def format_summary(content: Mapping[str, Any]) -> str:
    """Returns a summary of a few lines.

    Args:
        content: A manifest, or what `check` found, which also has `refused`.
    """
    usable = {name: split["images"] for name, split in content["splits"].items()}
    set_aside = sum(content["quarantined"].values())
    parts = [f"{sum(usable.values()):,} usable", f"{set_aside:,} quarantined"]
    # A refused annotation has no place in any sum but this one: nothing is written as long as there
    # is one.
    if rest := content["annotations_found"] - sum(usable.values()) - set_aside:
        parts.append(f"{rest:,} refused")
    lines = [
        f"annotations   {content['annotations_found']:,} found = {' + '.join(parts)}",
        f"images        {content['images_found']:,} found, {content['images_unlabelled']:,} without an annotation",
        f"splits        {', '.join(f'{name} {count:,}' for name, count in usable.items())} (by {content['split_rule']['by']})",
    ]
    if content["unions"]:
        unions = (f"{name} = {' + '.join(parts)}" for name, parts in content["unions"].items())
        lines.append(f"              {', '.join(unions)}")
    totals = {
        name: sum(split["objects_per_class"][name] for split in content["splits"].values())
        for name in content["classes"]
    }
    shown = sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:_MAX_CLASSES]
    more = f", and {len(totals) - _MAX_CLASSES} more classes" if len(totals) > _MAX_CLASSES else ""
    lines.append(
        f"objects       {sum(totals.values()):,}: {', '.join(f'{name} {count:,}' for name, count in shown)}{more}"
    )
    for title, part in (
        ("refused", "refused"),
        ("quarantined", "quarantined"),
        ("repaired", "repairs"),
        ("noted", "noted"),
    ):
        for code, count in content.get(part, {}).items():
            lines.append(
                f"{title:<13} {count:,} × {code}: {RULES[code].meaning}; {RULES[code].remedy}"
            )
    return "\n".join(lines)
