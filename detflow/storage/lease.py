"""Keeps a prefix of an object store for one process at a time.

A store has no lock that falls when its holder dies. A lease stands in for it: an object that the
holder writes anew every few seconds. It is made where none stands, in one step where the store
knows conditional writes (S3, GCS). A process that finds one watches it for a while, whatever the
clocks say, and takes it over if it does not change.

What no lease can do: two processes that take over the same dead lease in the same instant, or that
come to a store without conditional writes, may both write theirs. The later lease stands, and the
other process stops before it changes the next object; the one that it is writing meanwhile is
written. The same goes for a holder that was stopped for longer than others watch.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from detflow.errors import EnvironmentFault, Locked
from detflow.progress import tell_status
from detflow.storage.location import Url
from detflow.storage.objects import ObjectFolder

LEASE_NAME: Final = ".lease.json"
"""The object below a prefix that says who works there."""

_MAX_LEASE_BYTES = 4_096
_RENEW_SECONDS = 10.0
# Several renewals in a row may be late.
_WATCH_SECONDS = 45.0


class _Found(NamedTuple):
    """A lease as it was read; all texts are empty where none can be read."""

    token: str = ""
    holder: str = ""
    written: str = ""


class Lease:
    """The right to change what lies below a URL.

    Args:
        url: The prefix.
        renew_seconds: Time between two renewals.
        watch_seconds: How long a lease that is found is watched before it is taken over.
    """

    def __init__(
        self,
        url: Url,
        *,
        renew_seconds: float = _RENEW_SECONDS,
        watch_seconds: float = _WATCH_SECONDS,
    ) -> None:
        self._url = url
        self._renew_seconds = renew_seconds
        self._watch_seconds = watch_seconds
        self._token = uuid.uuid4().hex
        self._holder = f"pid {os.getpid()} on {socket.gethostname()}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lease for the block.

        Raises:
            Locked: Another process holds it.
            EnvironmentFault: The store refuses.
        """
        folder = ObjectFolder.of(self._url)
        self._take(folder)
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self._renew_seconds):
                try:
                    if _read(folder).token != self._token:
                        return
                    folder.write(LEASE_NAME, self._describe())
                except EnvironmentFault:
                    # The store may come back. Where it does not, an upload fails and says so.
                    continue

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            if _read(folder).token == self._token:
                folder.remove(LEASE_NAME)

    def require(self, remedy: str = "wait for it, then run this again") -> None:
        """Makes sure, before an object is changed, that no other process has taken over.

        Raises:
            Locked: One has.
            EnvironmentFault: The store refuses.
        """
        found = _read(ObjectFolder.of(self._url))
        if found.token != self._token:
            raise Locked(
                f"another process has taken over: {found.holder or 'the lease is gone'}",
                path=str(self._url),
                remedy=remedy,
            )

    def _take(self, folder: ObjectFolder) -> None:
        """Takes the lease once it is free, or has not been renewed for so long that it is dead."""
        first: _Found | None = None
        began = time.monotonic()
        while not folder.create(LEASE_NAME, self._describe()):
            found = _read(folder)
            if found.token == self._token:
                # It was written, and the answer was lost.
                return
            first = first or found
            if found != first and found.token:
                raise Locked(
                    f"another process is at work here: {found.holder}",
                    path=str(self._url),
                    remedy="wait for it or stop it",
                )
            if time.monotonic() - began >= self._watch_seconds:
                folder.write(LEASE_NAME, self._describe())
                # Whoever takes over in the same instant is to be seen.
                time.sleep(self._renew_seconds / 4)
                self.require()
                return
            tell_status(f"seeing whether {found.holder or 'another process'} is still at work")
            time.sleep(self._renew_seconds / 4)

    def _describe(self) -> bytes:
        content = {"token": self._token, "holder": self._holder, "written": time.time()}
        return json.dumps(content).encode()


def _read(folder: ObjectFolder) -> _Found:
    try:
        content = json.loads(folder.read(LEASE_NAME, _MAX_LEASE_BYTES))
        return _Found(*(str(content[name]) for name in _Found._fields))
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return _Found()
