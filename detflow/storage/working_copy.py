"""A folder at a URL that one process at a time works in.

The process works in a local copy and uploads what has changed. An object store has no lock that
falls when its holder dies. A lease stands in for it: an object that the holder writes anew every
few seconds. A process that finds a lease watches it for a while, whatever the clocks say, and takes
it over if it does not change. Two processes that come at the same moment may both write theirs; the
later lease stands, and the other process stops before it changes anything else.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detflow.errors import EnvironmentFault, Locked
from detflow.storage.folders import open_folder
from detflow.storage.location import Url

_LEASE_NAME = ".lease.json"
_MAX_LEASE_BYTES = 4_096
_RENEW_SECONDS = 10.0
# Several renewals in a row may be late.
_WATCH_SECONDS = 45.0


class WorkingCopy:
    """The local copy of a folder at a URL. Hidden files stay where they are, on both sides.

    Args:
        url: The folder.
        path: The local folder; it exists when it is used.
        marker: The file that completes a folder inside: it is uploaded after all other files, and
            removed before them.
        renew_seconds: Time between two renewals of the lease.
        watch_seconds: How long a lease that is found is watched before it is taken over.
    """

    def __init__(
        self,
        url: Url,
        path: Path,
        marker: str,
        *,
        renew_seconds: float = _RENEW_SECONDS,
        watch_seconds: float = _WATCH_SECONDS,
    ) -> None:
        self._url = url
        self._path = path
        self._marker = marker
        self._renew_seconds = renew_seconds
        self._watch_seconds = watch_seconds
        self._token = uuid.uuid4().hex
        # Size and time of change of each file when it was last the same at the URL.
        self._shared: dict[str, tuple[int, int]] = {}

    @contextmanager
    def leased(self) -> Iterator[None]:
        """Holds the lease for the block.

        Raises:
            Locked: Another process holds it.
            EnvironmentFault: The store refuses.
        """
        folder = open_folder(self._url)
        self._await_lease()
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self._renew_seconds):
                try:
                    if self._read_lease()[0] != self._token:
                        return
                    self._write_lease()
                except EnvironmentFault:
                    # The store may come back. Where it does not, an upload fails and says so.
                    continue

        self._write_lease()
        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            if self._read_lease()[0] == self._token:
                folder.remove(_LEASE_NAME)

    def download(self) -> None:
        """Makes the local folder what the URL has."""
        for entry in self._path.iterdir():
            if not entry.name.startswith("."):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        folder = open_folder(self._url)
        for path, outside, _ in folder.walk(_is_hidden):
            if outside is None:
                target = self._path / path
                target.parent.mkdir(parents=True, exist_ok=True)
                folder.fetch(path, target)
        self._shared = self._find_files()

    def upload(self) -> None:
        """Makes the URL what the local folder has.

        Raises:
            Locked: Another process has taken the lease; nothing is changed.
            EnvironmentFault: The store refuses.
        """
        token, holder = self._read_lease()
        if token != self._token:
            cause = f"another process has taken over: {holder or 'the lease is gone'}"
            raise Locked(
                cause, path=str(self._url), remedy=f"what was not uploaded is in {self._path}"
            )
        folder, present = open_folder(self._url), self._find_files()
        changed = [name for name, state in present.items() if self._shared.get(name) != state]
        for name in sorted(changed, key=self._is_marker):
            with folder.build(name) as file:
                shutil.copyfile(self._path / name, file)
            self._shared[name] = present[name]
        for name in sorted(self._shared.keys() - present.keys(), key=self._is_marker, reverse=True):
            folder.remove(name)
            del self._shared[name]

    def _is_marker(self, name: str) -> bool:
        return name.rpartition("/")[2] == self._marker

    def _find_files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in sorted(self._path.rglob("*")):
            name = path.relative_to(self._path).as_posix()
            if path.is_file() and not any(map(_is_hidden, name.split("/"))):
                status = path.stat()
                found[name] = (status.st_size, status.st_mtime_ns)
        return found

    def _await_lease(self) -> None:
        """Waits until the lease is free, or has not been renewed for so long that it is dead."""
        first = self._read_lease(with_time=True)
        began = time.monotonic()
        while first[0] and time.monotonic() - began < self._watch_seconds:
            time.sleep(self._renew_seconds / 4)
            now = self._read_lease(with_time=True)
            if not now[0]:
                return
            if now != first:
                raise Locked(
                    f"another trainer is at work here: {now[1]}",
                    path=str(self._url),
                    remedy="wait for it or stop it",
                )

    def _read_lease(self, *, with_time: bool = False) -> tuple[str, ...]:
        """Returns token and holder of the lease, and on request when it was written.

        All are empty where there is no lease.
        """
        try:
            content = json.loads(open_folder(self._url).read(_LEASE_NAME, _MAX_LEASE_BYTES))
            token, holder, written = (
                str(content["token"]),
                str(content["holder"]),
                str(content["written"]),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            token = holder = written = ""
        return (token, holder, written) if with_time else (token, holder)

    def _write_lease(self) -> None:
        holder = f"pid {os.getpid()} on {socket.gethostname()}"
        content = json.dumps({"token": self._token, "holder": holder, "written": time.time()})
        open_folder(self._url).write(_LEASE_NAME, content.encode())


def _is_hidden(name: str) -> bool:
    return name.startswith(".")
