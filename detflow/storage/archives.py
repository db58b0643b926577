"""Unpacks datasets from zip and tar files, which may be hostile.

Nothing is written outside of the folder that is made: contents alone are taken, into new files. No
link is ever made, and owner, mode and time stay ours.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from detflow.errors import DataError
from detflow.publish import require_space
from detflow.storage.tar_headers import BoundedTar

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
"""Extensions of archives, in lower case; the content decides."""
DEFAULT_MAX_UNPACKED = 100_000_000_000
"""How many bytes the files of an archive may have together."""

_PIECE_BYTES = 1 << 18
# Letters of all names, which are kept to find one that stands twice.
_MAX_NAMES_LETTERS = 256 << 20
# A small archive of flat pictures may be packed very well.
_RATIO_SLACK_BYTES = 16 << 20
_ZIP_END = struct.Struct("<4s4H2LH")
# The lengths of its name, extra fields and comment stand in an entry of the list.
_ZIP_ENTRY = struct.Struct("<4s24x3H12x")
# The end of a list above 4 GiB or 65,535 entries, and what tells where it is.
_ZIP64_END_BYTES = 56 + 20
# An entry of the list has fewer bytes on average; zipfile reads the whole list at once.
_MAX_ZIP_ENTRY_BYTES = 1_024
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 3_000
_MAX_DEPTH = 64
_DRIVE = re.compile(r"[A-Za-z]:")
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an archive may hold.

    Attributes:
        max_entries: Number of files and folders.
        max_bytes: Size of all files together, unpacked.
        max_ratio: How many times as large as the archive they may be.
    """

    max_entries: int = 500_000
    max_bytes: int = DEFAULT_MAX_UNPACKED
    max_ratio: int = 100


def find_archive_kind(path: Path) -> str | None:
    """Returns "zip", "tar" or "tar.gz" by a file's content; None for anything else."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    if head.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as packed:
                return "tar.gz" if packed.read(512)[257:262] == b"ustar" else None
        except (OSError, EOFError, zlib.error):
            return None
    return None


def drop_archive_suffix(name: str) -> str:
    """Returns an archive's name without its extension."""
    for suffix in ARCHIVE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def unpack_archive(archive: Path, kind: str, folder: Path, limits: ArchiveLimits) -> None:
    """Unpacks an archive; what detflow passes over in a dataset, hidden files say, is left out.

    Args:
        archive: The file.
        kind: As `find_archive_kind` has it.
        folder: Is made.
        limits: What the archive may hold.

    Raises:
        DataError: It is damaged, encrypted or above a limit; or an entry is no plain file or
            folder, leads out of the folder, or stands twice. What was unpacked until then stays.
        EnvironmentFault: It does not fit on the disk.
    """
    folder.mkdir(parents=True)
    unpacker = _Unpacker(archive, folder, limits)
    try:
        if kind == "zip":
            _unpack_zip(archive, unpacker)
        else:
            _unpack_tar(archive, unpacker, is_packed=kind == "tar.gz")
    except _DAMAGE as error:
        cause = f"not a whole {kind} archive: {str(error)[:200] or type(error).__name__}"
        raise DataError(cause, path=archive) from None


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Unpacker:
    """Judges entries, one after the other, and writes those that are sound."""

    def __init__(self, archive: Path, folder: Path, limits: ArchiveLimits) -> None:
        self._archive = archive
        self._folder = folder
        self._limits = limits
        self._packed_bytes = archive.stat().st_size
        self._count = 0
        self._num_bytes = 0
        self._files: dict[str, str] = {}
        self._folders: set[str] = set()
        self._letters = 0

    @property
    def max_entries(self) -> int:
        """How many entries are allowed."""
        return self._limits.max_entries

    def refuse(self, cause: str, entry: str | None = None) -> DataError:
        """Returns the error that refuses the archive for one of its entries."""
        place = None if entry is None else entry[:200]
        remedy = "unpack it with care and name the folder"
        return DataError(cause, path=self._archive, place=place, remedy=remedy)

    def count_entries(self, count: int) -> None:
        """Refuses more entries than are allowed."""
        if count > self._limits.max_entries:
            cause = f"the archive has more than {self._limits.max_entries:,} entries"
            raise self.refuse(cause)

    def require_space(self, num_bytes: int) -> None:
        """Refuses what cannot fit on the disk."""
        require_space(self._folder, num_bytes)

    def plan(self, name: str, size: int, *, is_folder: bool) -> Path | None:
        """Judges an entry before anything of it is read.

        Returns:
            Where its content goes; None where there is nothing to write.
        """
        self._count += 1
        self.count_entries(self._count)
        self._num_bytes += size
        limits = self._limits
        if self._num_bytes > limits.max_bytes:
            cause = f"the archive unpacks to more than {limits.max_bytes:,} bytes"
            raise self.refuse(f"{cause} (--max-unpacked)", name)
        if self._num_bytes > limits.max_ratio * self._packed_bytes + _RATIO_SLACK_BYTES:
            cause = f"the archive unpacks to more than {limits.max_ratio} times its size"
            raise self.refuse(cause, name)
        # Windows' own tools write backslashes.
        plain = name.replace("\\", "/")
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        if plain.startswith("/") or _DRIVE.match(plain) or ".." in parts or "\0" in plain:
            raise self.refuse("the entry leads out of the archive's folder", name)
        if (
            any(len(_encode(part)) > _MAX_NAME_BYTES for part in parts)
            or len(_encode(plain)) > _MAX_PATH_BYTES
            or len(parts) > _MAX_DEPTH
        ):
            raise self.refuse("the entry's name is too long", name)
        path = "/".join(parts)
        if not parts:
            return None
        self._note_place(path, name, is_folder=is_folder)
        if is_folder or any(part.startswith(".") or part == "__MACOSX" for part in parts):
            return None
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def write(self, source: _Reader, target: Path, size: int, name: str) -> None:
        """Copies an entry's content, of the size that the entry has told."""
        left = size
        with open(target, "xb") as file:
            while piece := source.read(_PIECE_BYTES):
                left -= len(piece)
                if left < 0:
                    raise self.refuse("the entry has more bytes than it tells", name)
                file.write(piece)
        if left:
            raise self.refuse("the entry has fewer bytes than it tells", name)

    def _note_place(self, path: str, name: str, *, is_folder: bool) -> None:
        """Refuses a file that stands twice, on any file system, or that is a folder as well."""
        parents = [path[:place] for place, char in enumerate(path) if char == "/"]
        if is_folder:
            parents.append(path)
        else:
            # Other file systems take names for the same that differ in case or Unicode form.
            folded = unicodedata.normalize("NFC", path).casefold()
            if folded in self._files:
                cause = f"the entry stands twice, the other as {self._files[folded]!r}"
                raise self.refuse(cause, name)
            self._files[folded] = path
            self._count_letters(len(folded) + len(path), name)
            if path in self._folders:
                raise self.refuse("the entry is a file and a folder", name)
        for parent in parents:
            if parent not in self._folders:
                folded = unicodedata.normalize("NFC", parent).casefold()
                if self._files.get(folded) == parent:
                    raise self.refuse("the entry is a file and a folder", parent)
                self._folders.add(parent)
                self._count_letters(len(parent), name)

    def _count_letters(self, count: int, name: str) -> None:
        self._letters += count
        if self._letters > _MAX_NAMES_LETTERS:
            cause = f"the names in the archive have more than {_MAX_NAMES_LETTERS:,} letters"
            raise self.refuse(cause, name)


def _unpack_zip(archive: Path, unpacker: _Unpacker) -> None:
    # The list of entries is read at once, so its length is looked at first.
    unpacker.count_entries(_count_zip_entries(archive, unpacker.max_entries))
    with zipfile.ZipFile(archive) as packed:
        entries = packed.infolist()
        unpacker.count_entries(len(entries))
        planned = []
        for entry in entries:
            name = entry.orig_filename
            if entry.flag_bits & 0x41:
                raise DataError(
                    "the archive is encrypted",
                    path=archive,
                    place=name[:200],
                    remedy="unpack it and name the folder",
                )
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise unpacker.refuse("the entry is neither a plain file nor a folder", name)
            is_folder = name.endswith(("/", "\\")) or kind == stat.S_IFDIR
            target = unpacker.plan(name, entry.file_size, is_folder=is_folder)
            if target is not None:
                planned.append((entry, target))
        unpacker.require_space(sum(entry.file_size for entry, _ in planned))
        for entry, target in planned:
            try:
                with packed.open(entry) as source:
                    unpacker.write(source, target, entry.file_size, entry.orig_filename)
            except OSError as error:
                # bz2's own errors have no number.
                if error.errno is not None:
                    raise
                raise unpacker.refuse("the entry is damaged", entry.orig_filename) from None
            except _DAMAGE as error:
                cause = f"the entry is damaged: {str(error)[:200] or type(error).__name__}"
                raise unpacker.refuse(cause, entry.orig_filename) from None


def _count_zip_entries(archive: Path, most: int) -> int:
    """Counts the entries in the list at the end of a zip file; stops above `most`."""
    size = archive.stat().st_size
    with open(archive, "rb") as file:
        tail_bytes = min(size, (1 << 16) + _ZIP_END.size + _ZIP64_END_BYTES)
        file.seek(size - tail_bytes)
        tail = file.read(tail_bytes)
        place = tail.rfind(b"PK\5\6")
        if place < 0 or place + _ZIP_END.size > len(tail):
            raise zipfile.BadZipFile("its list of entries is missing")
        list_bytes = _ZIP_END.unpack_from(tail, place)[5]
        end = size - tail_bytes + place
        wide = place - _ZIP64_END_BYTES
        if wide >= 0 and tail.startswith(b"PK\6\6", wide):
            [list_bytes] = struct.unpack_from("<Q", tail, wide + 40)
            end -= _ZIP64_END_BYTES
        if list_bytes > most * _MAX_ZIP_ENTRY_BYTES:
            raise zipfile.BadZipFile("its list of entries is too large")
        file.seek(max(0, end - list_bytes))
        count = 0
        while count <= most and (head := file.read(_ZIP_ENTRY.size)).startswith(b"PK\1\2"):
            if len(head) < _ZIP_ENTRY.size:
                break
            count += 1
            file.seek(sum(_ZIP_ENTRY.unpack(head)[1:4]), os.SEEK_CUR)
    return count


def _unpack_tar(archive: Path, unpacker: _Unpacker, *, is_packed: bool) -> None:
    with archive.open("rb") as plain, gzip.GzipFile(fileobj=plain) as packed:
        source = BoundedTar(packed if is_packed else plain)
        tar = tarfile.TarFile(fileobj=cast("IO[bytes]", source))
        for member in tar:
            # tarfile keeps every member.
            tar.members = []  # type: ignore[attr-defined]
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise unpacker.refuse("the entry is neither a plain file nor a folder", member.name)
            target = unpacker.plan(member.name, member.size, is_folder=member.isdir())
            source.expect_headers()
            if target is None:
                continue
            content = tar.extractfile(member)
            if content is None:
                raise tarfile.ReadError(f"{member.name!r} has no content")
            unpacker.require_space(member.size)
            source.expect_content()
            with content:
                unpacker.write(content, target, member.size, member.name)
            source.expect_headers()


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
