"""Opens a dataset wherever it lies: a folder, a URL, or an archive."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detflow.errors import ConfigError
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
        ConfigError: It is a file of another kind.
        DataError: The archive is refused; the error names the entry.
        EnvironmentFault: Its content does not fit on the disk.
    """
    if not isinstance(dataset, Path) or not dataset.is_file():
        yield open_folder(dataset)
        return
    kind = find_archive_kind(dataset)
    if kind is None:
        raise ConfigError(
            "neither a folder nor a zip or tar archive",
            path=dataset,
            remedy="name the folder that holds the images and their annotations",
        )
    with tempfile.TemporaryDirectory(prefix="detflow-archive-") as temporary:
        # The manifest names the dataset by its folder.
        folder = Path(temporary) / drop_archive_suffix(dataset.resolve().name)
        unpack_archive(dataset, kind, folder, ArchiveLimits(max_bytes=max_unpacked))
        yield LocalFolder.of(folder)
