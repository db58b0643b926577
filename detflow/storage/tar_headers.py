"""What tarfile reads of an archive, within bounds: it believes what a header says of its length.

A member may have any number of headers in front, for a long name or further attributes. tarfile
reads each of them whole and keeps it until the member itself has come.
"""

from __future__ import annotations

import gzip
import tarfile
from typing import IO, Final

_MAX_HEADERS_BYTES: Final = 1 << 20
# A member's content is copied in pieces, which are not larger than this.
_MAX_PIECE_BYTES: Final = 1 << 20


class BoundedTar:
    """The file that tarfile reads; it refuses what no honest archive causes.

    Args:
        file: The archive, unpacked as it is read where it is packed.
    """

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self._left: int | None = None
        self.seek = file.seek
        self.tell = file.tell
        self.expect_headers()

    def expect_headers(self) -> None:
        """Says that the headers of the next member follow."""
        self._left = _MAX_HEADERS_BYTES

    def expect_content(self) -> None:
        """Says that a member's content follows."""
        self._left = None

    def read(self, size: int = -1) -> bytes:
        """Reads that many bytes.

        Raises:
            tarfile.ReadError: They are too many.
        """
        most = _MAX_PIECE_BYTES if self._left is None else self._left
        if not 0 <= size <= most:
            raise tarfile.ReadError("a header is too large")
        if self._left is not None:
            self._left -= size
        return self._file.read(size)
