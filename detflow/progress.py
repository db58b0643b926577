"""Progress bars on the terminal: they are drawn on stderr, and only where that is a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from detflow.text import escape_unprintable

Progress: TypeAlias = Callable[[str, int, int], None]
"""(what is done, how many of it are done, how many there are) → nothing."""

_UPDATE_SECONDS = 0.1


@contextlib.contextmanager
def show_progress() -> Iterator[Progress]:
    """Yields a callback that draws a bar for each task, where stderr is a terminal."""
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


@contextlib.contextmanager
def show_download(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yields a callback that draws a bar of a download; prints a line where stderr is no terminal.

    The callback takes the bytes that have arrived and the bytes of the whole, None if unknown.

    Args:
        name: Name of the file.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    shown = escape_unprintable(name)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    if not console.is_terminal:
        console.print(f"downloading {shown}", markup=False)
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"downloading {shown}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
