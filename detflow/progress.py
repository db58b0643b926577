"""What a command shows while it works: a line that says what it does, and progress bars.

Everything goes to stderr, and most of it only where that is a terminal.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal, TextIO, TypeAlias

from detflow.text import escape_unprintable

Progress: TypeAlias = Callable[[str, int, int], None]
"""(what is done, how many of it are done, how many there are) → nothing."""

_UPDATE_SECONDS = 0.1
# How often the line is drawn anew, and from when on it tells the time.
_TICK_SECONDS = 0.5
_TIMED_SECONDS = 2.0
# So long the line stays away for what is printed in its place.
_PRINTING_SECONDS = 1.0


class _Status:
    """The line at the bottom of a terminal that says what a command is doing.

    A thread keeps it moving while the command computes or imports. Whoever prints something else
    erases it first; it comes back by itself as long as nobody has told the end of what it says.
    """

    def __init__(self) -> None:
        # A signal may interrupt a function that holds it.
        self._lock = threading.RLock()
        self._mode: Literal["off", "line", "lines"] = "off"
        self._text = ""
        self._began = self._opened = self._resumes = 0.0
        self._stream: TextIO = sys.stderr
        self._pauses = 0
        self._is_drawn = self._is_ticking = False
        self._is_over = threading.Event()

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Shows what is told during the block, where stderr is a terminal."""
        self._opened = time.monotonic()
        self._is_over, self._is_ticking = threading.Event(), False
        with contextlib.ExitStack() as stack:
            # A way of its own: where native code is kept from talking, stderr leads nowhere.
            self._stream = sys.stderr
            with contextlib.suppress(OSError, ValueError):
                descriptor = os.dup(sys.stderr.fileno())
                encoding, errors = sys.stderr.encoding, sys.stderr.errors
                self._stream = stack.enter_context(
                    open(descriptor, "w", encoding=encoding, errors=errors)
                )
            self.use("line" if sys.stderr.isatty() else "off")
            try:
                yield
            finally:
                self.erase(is_done=True)
                with self._lock:
                    self._is_over.set()
                    self._mode = "off"
                    self._stream = sys.stderr

    def use(self, mode: Literal["off", "line", "lines"]) -> None:
        """Chooses between one line that changes, lines that stay, and nothing."""
        self.erase()
        self._mode = mode

    def tell(self, text: str) -> None:
        """Says what is done now."""
        if self._mode == "off":
            return
        with self._lock:
            self._text, self._began = escape_unprintable(text), time.monotonic()
            if self._mode == "lines":
                after = self._began - self._opened
                self._write(f"detflow: {after:.1f} s: {self._text}\n")
                return
            self._draw()
            if not self._is_ticking:
                self._is_ticking = True
                threading.Thread(target=self._tick, name="detflow status", daemon=True).start()

    def erase(self, *, is_done: bool = False) -> None:
        """Takes the line away, so that something else can be printed.

        Args:
            is_done: Whether what it says is over; else it comes back.
        """
        with self._lock:
            # Not before the caller has printed.
            self._resumes = time.monotonic() + _PRINTING_SECONDS
            if is_done:
                self._text = ""
            if self._is_drawn:
                self._write("\r\x1b[2K")
                self._is_drawn = False

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Shows no line during the block, in which something else moves on the terminal."""
        with self._lock:
            self.erase(is_done=True)
            self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1

    def _draw(self) -> None:
        seconds = time.monotonic() - self._began
        clock = f" {seconds:.0f} s" if seconds >= _TIMED_SECONDS else ""
        line = f"{self._text}…{clock}"[: shutil.get_terminal_size().columns - 1]
        self._write(f"\r\x1b[2K{line}")
        self._is_drawn = True

    def _write(self, text: str) -> None:
        sys.stderr.flush()
        self._stream.write(text)
        self._stream.flush()

    def _tick(self) -> None:
        is_over = self._is_over
        while not is_over.wait(_TICK_SECONDS):
            with self._lock:
                may_draw = not self._pauses and time.monotonic() >= self._resumes
                if self._text and self._mode == "line" and may_draw:
                    self._draw()


_status = _Status()
_is_quiet = False


@contextlib.contextmanager
def show_status() -> Iterator[None]:
    """Lets `tell_status` show something during the block; what was chosen inside is forgotten."""
    global _is_quiet
    try:
        with _status.opened():
            yield
    finally:
        _is_quiet = False


def choose_talk(talk: Literal["quiet", "verbose"]) -> None:
    """Chooses how much is shown until `show_status` ends.

    Args:
        talk: quiet shows results and errors alone; verbose has a line for each thing that is told,
            also where stderr is no terminal.
    """
    global _is_quiet
    _is_quiet = talk == "quiet"
    _status.use("off" if _is_quiet else "lines")


def is_quiet() -> bool:
    """Tells whether results and errors alone are to be shown."""
    return _is_quiet


def tell_status(text: str) -> None:
    """Says what is done now, as a few words such as "loading TensorFlow"."""
    _status.tell(text)


def erase_status(*, is_done: bool = False) -> None:
    """Takes the line that `tell_status` shows away; called before anything else is printed.

    Args:
        is_done: Whether what it says is over; else it comes back.
    """
    _status.erase(is_done=is_done)


def pause_status() -> contextlib.AbstractContextManager[None]:
    """Returns a block in which something else moves on the terminal."""
    return _status.paused()


@contextlib.contextmanager
def show_progress() -> Iterator[Progress]:
    """Yields a callback that draws a bar for each task, where stderr is a terminal."""
    if _is_quiet or not sys.stderr.isatty():
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
    bar = Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
    with contextlib.ExitStack() as stack:

        def update(what: str, done: int, total: int) -> None:
            nonlocal next_update
            # A bar costs more to draw than a small image to check.
            now = time.monotonic()
            if now < next_update and done < total:
                return
            next_update = now + _UPDATE_SECONDS
            if not tasks:
                # Until there is something to count, the status says what is done.
                stack.enter_context(pause_status())
                stack.enter_context(bar)
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
    if not console.is_terminal and not _is_quiet:
        console.print(f"downloading {shown}", markup=False)
    is_shown = console.is_terminal and not _is_quiet
    with pause_status(), Bar(*columns, console=console, disable=not is_shown) as bar:
        task = bar.add_task(f"downloading {shown}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
