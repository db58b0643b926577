"""The signals that ask a process to stop. Does not import TensorFlow."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@dataclass
class Requests:
    """The SIGTERMs and SIGINTs that this process got, in order."""

    signums: list[int] = field(default_factory=list)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        self.signums.append(signum)


@dataclass
class StopRequest:
    """The first SIGTERM or SIGINT that this process got. A second one ends the process at once.

    So the step at work can end and be saved, and a person who does not want to wait need not.
    """

    signum: int | None = None

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        if self.signum is not None:
            os._exit(128 + signum)
        self.signum = signum


@contextmanager
def gather_requests() -> Iterator[Requests]:
    """Gathers signals during the block."""
    requests = Requests()
    with _signals_handled(requests.handle):
        yield requests


@contextmanager
def stop_request(acknowledge: Callable[[], None] = lambda: None) -> Iterator[StopRequest]:
    """Remembers the first signal during the block; a second one ends the process.

    Python runs a handler when the function that is at work returns, and one of TensorFlow's may
    take a minute. So a thread listens as well: it tells the user, and answers the second signal.

    Args:
        acknowledge: Called on that thread as soon as the first signal arrives.
    """
    request = StopRequest()
    with _signals_handled(request.handle), _signals_heard(acknowledge):
        yield request


@contextmanager
def _signals_heard(acknowledge: Callable[[], None]) -> Iterator[None]:
    """Acknowledges the first SIGTERM or SIGINT, and leaves at the second, whatever Python does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def listen() -> None:
        count = 0
        while heard := ours.recv(1):
            if heard[0] not in (signal.SIGTERM, signal.SIGINT):
                continue
            count += 1
            if count > 1:
                os._exit(128 + heard[0])
            acknowledge()

    listener = threading.Thread(target=listen, name="detflow signals", daemon=True)
    listener.start()
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()
        listener.join()
        ours.close()


@contextmanager
def _signals_handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Gives SIGTERM and SIGINT to a handler during the block, and to those from before after it.

    In a thread other than the main one nothing is changed: Python lets only the main thread set
    handlers, and a program that trains in a thread answers signals itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, own in before.items():
            signal.signal(signum, own)
