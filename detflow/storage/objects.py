"""Object stores through fsspec, which no other module imports.

What a store answers becomes one of detflow's errors here.
Credentials, endpoints and regions come from the environment, as each store's own library reads
them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from typing_extensions import override

from detflow.digests import FileDigest, digest_file, is_plain_name
from detflow.errors import EnvironmentFault
from detflow.storage.interface import Entry, Folder
from detflow.storage.location import EXTRAS, Url
from detflow.text import first_line

# A request takes tens of milliseconds, most of which are spent waiting.
_READS_IN_FLIGHT = 16
_PIECE_BYTES = 8 << 20
# The libraries of the stores raise errors of their own, which are not OSErrors.
_CLIENT_LIBRARIES = frozenset({"aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "s3fs"})


@dataclass(frozen=True, slots=True)
class ObjectFolder(Folder):
    """A prefix in an object store.

    Attributes:
        url: The prefix.
    """

    url: Url

    @classmethod
    def of(cls, url: Url) -> ObjectFolder:
        """Returns the folder at a URL, and makes the connection that it needs.

        Raises:
            EnvironmentFault: The library is not installed.
        """
        _file_system(url.scheme)
        return cls(url)

    @property
    @override
    def location(self) -> Url:
        return self.url

    @property
    @override
    def name(self) -> str:
        return self.url.name

    @override
    def walk(
        self,
        skip: Callable[[str], bool],
        on_error: Callable[[Entry, OSError], None] | None = None,
    ) -> Iterator[Entry]:
        # Keys that are no plain path lead outside: clients may resolve them to another object.
        with _faults(self.url):
            keys = _file_system(self.url.scheme).find(self.url.key)
        start = f"{self.url.key}/"
        for key in keys:
            path = key.lstrip("/").removeprefix(start)
            if path == key.lstrip("/") or path.endswith("/"):
                # Consoles make empty objects that stand for folders.
                continue
            if not is_plain_name(path):
                yield Entry(path, "another object")
            elif not any(map(skip, path.split("/"))):
                yield Entry(path)

    @override
    def read(self, path: str, limit: int) -> bytes:
        store = _file_system(self.url.scheme)
        with _faults(self.url, path):
            try:
                content: bytes = store.cat_file(self._key(path), start=0, end=limit)
            except OSError as error:
                # A part of an object cannot be read where the object is empty.
                if error.errno != errno.EINVAL:
                    raise
                content = store.cat_file(self._key(path))[:limit]
        return content

    @override
    def read_many(self, paths: Iterable[str], limit: int) -> Iterator[bytes]:
        remaining = iter(paths)
        pending: deque[Future[bytes]] = deque()
        with ThreadPoolExecutor(_READS_IN_FLIGHT) as threads:
            try:
                pending.extend(
                    threads.submit(self.read, path, limit)
                    for path in islice(remaining, _READS_IN_FLIGHT)
                )
                while pending:
                    content = pending.popleft().result()
                    pending.extend(
                        threads.submit(self.read, path, limit) for path in islice(remaining, 1)
                    )
                    yield content
            finally:
                for future in pending:
                    future.cancel()

    @override
    def digest(self, path: str) -> FileDigest | None:
        # The object is read, since what a store says of it is not a SHA-256.
        digest, size = hashlib.sha256(), 0
        try:
            with (
                _faults(self.url, path),
                _file_system(self.url.scheme).open(self._key(path), "rb", _PIECE_BYTES) as stream,
            ):
                while piece := stream.read(_PIECE_BYTES):
                    digest.update(piece)
                    size += len(piece)
        except FileNotFoundError:
            return None
        return {"bytes": size, "sha256": digest.hexdigest()}

    @override
    @contextmanager
    def build(self, path: str) -> Iterator[Path]:
        # The file is uploaded and compared with what then stands there.
        with tempfile.TemporaryDirectory(prefix="detflow-") as folder:
            staging = Path(folder) / path.rpartition("/")[2]
            yield staging
            with _faults(self.url, path):
                _file_system(self.url.scheme).put_file(os.fspath(staging), self._key(path))
            self._require(path, digest_file(staging))

    @override
    def write(self, path: str, content: bytes) -> None:
        with _faults(self.url, path):
            _file_system(self.url.scheme).pipe_file(self._key(path), content)
        self._require(path, {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})

    def create(self, path: str, content: bytes) -> bool:
        """Writes a small file where none stands; tells whether none stood there.

        Of several that do so at once, a store that knows conditional writes lets one through.
        Others may let all of them, and the last one's file stands.
        """
        store = _file_system(self.url.scheme)
        with _faults(self.url, path):
            try:
                store.pipe_file(self._key(path), content, mode="create")
            except FileExistsError:
                return False
            except OSError:
                # It may know no conditional writes, or refuse one in its own words. What else is
                # the matter, a plain write shows.
                if self.digest(path) is not None:
                    return False
                store.pipe_file(self._key(path), content)
        return True

    @override
    def fetch(self, path: str, file: Path) -> None:
        with _faults(self.url, path):
            _file_system(self.url.scheme).get_file(self._key(path), os.fspath(file))

    @override
    def remove(self, path: str) -> None:
        try:
            with _faults(self.url, path):
                _file_system(self.url.scheme).rm_file(self._key(path))
        except FileNotFoundError:
            return

    def _key(self, path: str) -> str:
        if not is_plain_name(path):
            raise EnvironmentFault(f"{path!r} is no plain name below the URL", path=str(self.url))
        return f"{self.url.key}/{path}"

    def _require(self, path: str, expected: FileDigest) -> None:
        found = self.digest(path)
        if found == expected:
            return
        what = f"{found['bytes']:,} bytes, SHA-256 {found['sha256'][:12]}…" if found else "nothing"
        cause = (
            f"{expected['bytes']:,} bytes, SHA-256 {expected['sha256'][:12]}…, were written, "
            f"the store holds {what}"
        )
        raise EnvironmentFault(
            cause, path=str(self.url / path), remedy="run it again; what is complete is kept"
        )


@cache
def _file_system(scheme: str) -> Any:
    """Returns the store's client, one for each process."""
    import fsspec

    try:
        # A listing must not be an earlier one: others write to the store too.
        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError as error:
        remedy = f"pip install '.[{EXTRAS[scheme]}]'"
        raise EnvironmentFault(
            f"the library for {scheme}:// is not installed: {error}", remedy=remedy
        ) from None
    except Exception as error:
        if not _is_of_a_client(error):
            raise
        raise EnvironmentFault(
            f"no connection to {scheme}://: {first_line(error)}", remedy=_REMEDY
        ) from None


_REMEDY = "check the network, the endpoint and the credentials in the environment"


@contextmanager
def _faults(url: Url, path: str = "") -> Iterator[None]:
    """Turns what a store answers into detflow's errors.

    An object that is missing becomes a FileNotFoundError of that path.
    """
    place = str(url / path) if path else str(url)
    try:
        yield
    except FileNotFoundError as error:
        if "specified bucket" in str(error) or not path:
            raise EnvironmentFault(
                f"there is no such bucket: {first_line(error)}",
                path=place,
                remedy="make it, or name another",
            ) from None
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    except PermissionError as error:
        remedy = "check the credentials in the environment and their rights on the bucket"
        raise EnvironmentFault(
            f"the store refused: {first_line(error)}", path=place, remedy=remedy
        ) from None
    except Exception as error:
        if not isinstance(error, OSError) and not _is_of_a_client(error):
            raise
        raise EnvironmentFault(
            f"the store cannot be used: {first_line(error)}", path=place, remedy=_REMEDY
        ) from None


def _is_of_a_client(error: Exception) -> bool:
    return any(
        kind.__module__.partition(".")[0] in _CLIENT_LIBRARIES for kind in type(error).__mro__
    )
