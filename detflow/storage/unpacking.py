"""Unpacks archives that may be hostile."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, cast

from detflow.errors import ArtifactError
from detflow.storage.tar_headers import BoundedTar

_CHUNK_BYTES = 1 << 18


def unpack(archive: Path, folder: Path, *, max_members: int, max_bytes: int) -> None:
    """Unpacks the plain files and folders of a .tar.gz.

    Contents alone are taken, into files that are made anew: no link is ever made, and owner, mode
    and time stay ours.

    Args:
        archive: The file.
        folder: Is made.
        max_members: Largest number of files and folders.
        max_bytes: Largest size of all files together.

    Raises:
        ArtifactError: The archive is damaged or above a limit, or holds anything but files and
            folders with names inside the folder. What was unpacked until then stays.
    """
    left, count = max_bytes, 0
    folder.mkdir()
    try:
        with gzip.open(archive, "rb") as packed:
            source = BoundedTar(packed)
            tar = tarfile.TarFile(fileobj=cast("IO[bytes]", source))
            for member in tar:
                # tarfile keeps every member.
                tar.members = []  # type: ignore[attr-defined]
                count += 1
                left -= member.size
                cause = None
                if count > max_members:
                    cause = f"the archive has more than {max_members:,} members"
                elif left < 0:
                    cause = f"the archive unpacks to more than {max_bytes:,} bytes"
                elif not (member.isreg() or member.isdir()) or member.issparse():
                    cause = f"the archive's {member.name!r} is neither a plain file nor a folder"
                elif (
                    PurePosixPath(member.name).is_absolute()
                    or ".." in member.name.split("/")
                    or "\0" in member.name
                ):
                    cause = f"the archive's {member.name!r} leaves its folder"
                if cause:
                    raise ArtifactError(cause, path=archive)
                target = folder / member.name
                source.expect_headers()
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                source.expect_content()
                with open(target, "xb") as file:
                    _copy_member(tar, member, file.write)
                source.expect_headers()
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise ArtifactError(
            "the archive names one file twice, or a file as a folder", path=archive
        ) from None
    except (
        tarfile.TarError,
        EOFError,
        ValueError,
        RecursionError,
        zlib.error,
        gzip.BadGzipFile,
    ) as error:
        raise ArtifactError(f"not a whole .tar.gz: {error}", path=archive) from None


def _copy_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, write: Callable[[bytes], object]
) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise tarfile.ReadError(f"{member.name!r} has no content")
    with source:
        while piece := source.read(_CHUNK_BYTES):
            write(piece)
