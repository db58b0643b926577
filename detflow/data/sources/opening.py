"""Opens a dataset wherever it lies: a folder, a URL, or an archive."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detflow.data.sources.seen import require_folder
from detflow.storage.archives import (
    ArchiveLimits,
    drop_archive_suffix,
    find_archive_kind,
    unpack_archive,
)
from detflow.storage.folders import LocalFolder, open_folder
from detflow.storage.interface import Folder
from detflow.storage.location import Location


@contextmanager
def open_dataset(dataset: Location, max_unpacked: int) -> Iterator[Folder]:
    """Yields a dataset's folder; that of an archive is temporary and gone behind the block.

    Args:
        dataset: A folder, a URL, or a zip or tar file.
        max_unpacked: How many bytes an archive's files may have together.

    Raises:
        DataError: It is a file of another kind; or the archive is refused, and the error names the
            entry.
        EnvironmentFault: Its content does not fit on the disk.
    """
    kind = None
    if isinstance(dataset, Path) and dataset.is_file():
        kind = find_archive_kind(dataset)
    if not isinstance(dataset, Path) or kind is None:
        require_folder(dataset)
        yield open_folder(dataset)
        return
    with tempfile.TemporaryDirectory(prefix="detflow-archive-") as temporary:
        # The manifest names the dataset by its folder.
        folder = Path(temporary) / drop_archive_suffix(dataset.resolve().name)
        unpack_archive(dataset, kind, folder, ArchiveLimits(max_bytes=max_unpacked))
        yield LocalFolder.of(folder)
