"""What a tracker is, and how one is told things without ever holding up a training."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from detflow.text import count_noun, first_line

# A step leaves one call in twenty behind: so many are hours of a server that does not answer.
_MAX_WAITING = 10_000


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told about a run before anything else.

    Attributes:
        project: The experiment or project that the run belongs to.
        name: The run's name there.
        folder: The model directory.
        parameters: Every setting with its value, by its dotted name.
        known_id: What the tracker called the run when an earlier process began it; None for a new
            one.
    """

    project: str
    name: str
    folder: Path
    parameters: Mapping[str, str]
    known_id: str | None = None


@dataclass(frozen=True)
class Tracked:
    """How a tracker keeps a run.

    Attributes:
        id: The tracker's name of it, by which a later process goes on with the same run.
        place: Where a person finds it: an address, or a folder.
    """

    id: str
    place: str


class Tracker(Protocol):
    """A connection to one tracker; its methods are called in this order, on one thread.

    A method may raise whatever its library raises: the tracker is left alone from then on.
    """

    def start(self, run: TrackedRun) -> Tracked:
        """Begins a run, or goes on with one that is known."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds figures of a step."""

    def log_files(self, paths: Sequence[Path]) -> None:
        """Adds files."""

    def log_export(self, folder: Path) -> None:
        """Adds an exported model: all of its folder, and as a model where the tracker has such."""

    def end(self, *, is_whole: bool) -> None:
        """Ends the run; `is_whole` tells whether the training has reached its end."""


class Messenger:
    """Passes calls on to a tracker, on a thread of its own.

    A server that is slow, gone or wrong costs the training nothing: what the tracker raises is said
    once, and it hears nothing more.

    Args:
        name: The tracker's name, for people.
        note: Tells people something; called on the messenger's thread too.
    """

    def __init__(self, name: str, note: Callable[[str], None]) -> None:
        self._name, self._note = name, note
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(_MAX_WAITING)
        self._is_broken = False
        self._lost = 0
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def send(self, call: Callable[[], None]) -> None:
        """Takes in a call that is made once those before it are done."""
        if self._is_broken:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._lost += 1

    def finish(self, seconds: float) -> None:
        """Waits until all is said, but not longer than so many seconds."""
        ends = time.monotonic() + seconds
        try:
            self._calls.put(None, timeout=seconds)
            self._thread.join(max(ends - time.monotonic(), 0.0))
        except queue.Full:
            pass
        if self._thread.is_alive():
            self._note(f"{self._name} did not answer within {seconds:g} s and lacks the end")
        if self._lost:
            self._note(f"{self._name} was too slow and lacks {count_noun(self._lost, 'message')}")

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception as error:  # noqa: BLE001  (whatever it is, the training goes on)
                self._is_broken = True
                line = first_line(error)
                self._note(f"{self._name} failed: {line}; all else goes on without it")
                return
