"""Fetches published files into a cache: whole or not at all, of bounded size, and the same bytes each time.

What an address gave the first time is pinned in a small JSON file that outlives the download; other
bytes are refused later. An entry of the cache is a folder with a manifest, and is compared with it
before each use.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.client
import json
import os
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from detflow.errors import ArtifactError, ConfigError, EnvironmentFault, environment_faults
from detflow.progress import show_download
from detflow.publish import (
    FileDigest,
    digest_file,
    digest_files,
    publish_directory,
    publish_file,
    read_json_object,
    require_space,
    verify_files,
)
from detflow.storage.cache import cache_directory

__all__ = ["Fetched", "fetch_files", "is_archive", "require_digest", "unpack_file"]

# The largest published detector weighs about a gigabyte; a checkpoint may hold an optimiser's
# moments as well.
_MAX_DOWNLOAD_BYTES = 4 << 30
_MAX_UNPACKED_BYTES = 8 << 30
_MAX_MEMBERS = 1000
_ATTEMPTS = 4
_PAUSE_SECONDS = 1.0
_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 1 << 18
# tarfile reads a header of any size at once; long names and extended attributes need a few
# kilobytes.
_MAX_HEADER_BYTES = 1 << 20
_MANIFEST_NAME = "manifest.json"
_UNPACKED_NAME = "unpacked"
_ARCHIVE_SUFFIXES = (".tar.gz", ".tgz")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclasses.dataclass(frozen=True)
class Fetched:
    """Files at hand.

    Attributes:
        path: The folder that holds them, unpacked.
        digests: Of what was fetched, by address or path, before it was unpacked.
    """

    path: Path
    digests: Mapping[str, FileDigest]


def is_archive(path: Path) -> bool:
    """Tells by the name whether a file is one that is unpacked."""
    return path.name.endswith(_ARCHIVE_SUFFIXES)


def fetch_files(urls: Sequence[str], sha256: str | None = None) -> Fetched:
    """Returns the files of some http(s) addresses, downloaded unless the cache has them.

    Args:
        urls: All go into one folder, each under the last part of its address; a .tar.gz is
            unpacked.
        sha256: What one of them must have, in hexadecimal.

    Raises:
        ConfigError: A server refuses an address, or `sha256` is not what it gives.
        ArtifactError: What is there is damaged, hostile, too large, or not what the address gave
            the first time.
        EnvironmentFault: Network or disk fail.
    """
    entry = _cache_entry(PurePosixPath(unquote(urlsplit(urls[0]).path)).name, "\n".join(urls))
    pin_path = entry.parent / f"{entry.name}.json"
    pinned = _read_digests(pin_path, "urls") if pin_path.exists() else None

    def download(staging: Path) -> dict[str, FileDigest]:
        # Of a process that was killed while it unpacked.
        shutil.rmtree(staging / _UNPACKED_NAME, ignore_errors=True)
        digests = {url: _download(url, staging / _file_name(url)) for url in urls}
        require_digest(digests, sha256)
        _require_pinned(digests, pinned, pin_path)
        # The pin comes first: a process killed here leaves nothing that the next one would trust
        # without it.
        publish_file(pin_path, json.dumps({"urls": digests}, indent=2) + "\n")
        for archive in [path for path in staging.iterdir() if is_archive(path)]:
            _unpack(archive, staging / _UNPACKED_NAME)
            archive.unlink()
        return digests

    # The name of the staging folder is fixed, so that a killed download is continued by the next
    # one.
    fetched = _open_entry(entry, download, resume=entry.name[-12:])
    require_digest(fetched.digests, sha256)
    _require_pinned(fetched.digests, pinned, pin_path)
    return fetched


def require_digest(digests: Mapping[str, FileDigest], sha256: str | None) -> None:
    """Refuses files of which none has the SHA-256 (hexadecimal) that the configuration asks for, if it does.

    Raises:
        ConfigError: The message has what they have.
    """
    if sha256 is not None and sha256.lower() not in {
        digest["sha256"] for digest in digests.values()
    }:
        found = ", ".join(f"{url} has {digest['sha256']}" for url, digest in digests.items())
        raise ConfigError(
            f"the SHA-256 is not {sha256}: {found}",
            remedy="correct train.init_sha256, or distrust the file",
        )


def unpack_file(archive: Path, sha256: str | None = None) -> Fetched:
    """Returns the folder that a local .tar.gz unpacks to, inside the cache.

    Args:
        archive: The file.
        sha256: What it must have, in hexadecimal.

    Raises:
        ConfigError: `sha256` is not what it has.
        ArtifactError: It is damaged, hostile or too large.
        EnvironmentFault: The disk refuses.
    """
    with environment_faults(archive):
        digests = {os.fspath(archive): digest_file(archive)}
    require_digest(digests, sha256)

    def unpack(staging: Path) -> dict[str, FileDigest]:
        _unpack(archive, staging / _UNPACKED_NAME)
        return digests

    return _open_entry(_cache_entry(archive.name, digests[os.fspath(archive)]["sha256"]), unpack)


def _cache_entry(name: str, identity: str) -> Path:
    return (
        cache_directory()
        / "weights"
        / f"{_UNSAFE.sub('-', name)[:80]}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    )


def _open_entry(
    entry: Path, fill: Callable[[Path], dict[str, FileDigest]], resume: str | None = None
) -> Fetched:
    """Returns a folder of the cache as its manifest says it is; where there is none `fill` makes it, in a staging folder."""
    if not entry.exists():
        with publish_directory(entry, resume) as staging:
            digests = fill(staging)
            manifest = {"fetched": digests, "files": digest_files(staging)}
            (staging / _MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n")
    remedy = "remove the folder, it will be fetched again"
    try:
        digests = _read_digests(entry / _MANIFEST_NAME, "fetched")
        verify_files(entry, _read_digests(entry / _MANIFEST_NAME, "files"))
    except ArtifactError as error:
        raise ArtifactError(error.cause, path=error.path, remedy=f"{remedy}: {entry}") from None
    return Fetched(entry, digests)


def _read_digests(path: Path, key: str) -> dict[str, FileDigest]:
    value = read_json_object(path).get(key)
    if isinstance(value, dict) and all(
        isinstance(digest, dict) and set(digest) == {"bytes", "sha256"} for digest in value.values()
    ):
        return value
    raise ArtifactError(f"expected digests under {key!r}", path=path, remedy="remove it")


def _require_pinned(
    digests: Mapping[str, FileDigest], pinned: Mapping[str, FileDigest] | None, pin_path: Path
) -> None:
    for url, digest in digests.items():
        if pinned is not None and pinned.get(url) != digest:
            raise ArtifactError(
                f"{url} is now {digest['bytes']:,} bytes of SHA-256 {digest['sha256']}, not what it was at the first download",
                path=pin_path,
                remedy="if the publisher says so, remove this file and try again",
            )


def _file_name(url: str) -> str:
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if (
        not name
        or name in {_MANIFEST_NAME, _UNPACKED_NAME}
        or _UNSAFE.search(name)
        or name.startswith(".")
    ):
        raise ConfigError(f"the address does not end in a plain file name: {url}")
    return name


@dataclasses.dataclass(frozen=True)
class _Part:
    """What is known of a download that has begun: its validator, an ETag, tells whether the rest still belongs to it."""

    path: Path
    validator_path: Path

    def bytes_to_resume(self) -> tuple[int, str]:
        """Returns how many bytes are there and the validator; (0, "") where nothing can be continued."""
        if not self.path.exists() or not self.validator_path.exists():
            return 0, ""
        return self.path.stat().st_size, self.validator_path.read_text()


def _download(url: str, target: Path) -> FileDigest:
    """Downloads into a folder that is not published yet; a broken connection is taken up again where the server can."""
    part = _Part(target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.etag"))
    if target.exists():
        # Of a killed process that had come this far.
        return digest_file(target)
    failures = reached = 0
    with show_download(target.name) as show, environment_faults(target):
        while True:
            try:
                _continue(url, part, show)
                break
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code not in (408, 416, 429):
                    raise ConfigError(
                        f"the server answers {error.code} {error.reason}: {url}",
                        remedy="correct the address",
                    ) from None
                reason = f"{error.code} {error.reason}"
                if error.code == 416:
                    # What is there is not a beginning of what the server has.
                    part.path.unlink(missing_ok=True)
            except urllib.error.URLError as error:
                reason = str(error.reason)
            except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            size = part.path.stat().st_size if part.path.exists() else 0
            failures, reached = (1, size) if size > reached else (failures + 1, reached)
            if failures == _ATTEMPTS:
                raise EnvironmentFault(
                    f"the download failed, after {_ATTEMPTS} attempts without progress: {reason}: {url}",
                    remedy="try again, or download it by other means and set train.init_from to its path",
                )
            time.sleep(_PAUSE_SECONDS * 2 ** (failures - 1))
        part.validator_path.unlink(missing_ok=True)
        os.rename(part.path, target)
    return digest_file(target)


def _continue(url: str, part: _Part, show: Callable[[int, int | None], None]) -> None:
    """Asks for the rest of a file, or for all of it; returns once the file is complete.

    Raises:
        http.client.IncompleteRead: The connection ended before the file did.
    """
    start, validator = part.bytes_to_resume()
    headers = {"User-Agent": "detflow", "Accept-Encoding": "identity"}
    if start:
        # Should the file have changed, the server sends the whole of the new one (RFC 9110, section
        # 13.1.5).
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    opener = urllib.request.build_opener(_HttpRedirects)
    # The caller admits http and https alone.
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
        if response.status != 206:
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.path.unlink()
            raise http.client.IncompleteRead(b"")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None and length.isdecimal() else None
        if (total or 0) > _MAX_DOWNLOAD_BYTES:
            raise _too_large(url)
        require_space(part.path.parent, (total or 0) - start)
        _keep_validator(part, response.headers.get("ETag"))
        done = start
        with open(part.path, "ab" if start else "wb") as file:
            while piece := response.read(_CHUNK_BYTES):
                done += len(piece)
                if done > _MAX_DOWNLOAD_BYTES:
                    raise _too_large(url)
                file.write(piece)
                show(done, total)
        if total is not None and done != total:
            raise http.client.IncompleteRead(b"", total - done)


def _keep_validator(part: _Part, etag: str | None) -> None:
    # A weak validator does not promise the same bytes.
    if etag and not etag.startswith("W/"):
        part.validator_path.write_text(etag)
    else:
        part.validator_path.unlink(missing_ok=True)


def _too_large(url: str) -> ArtifactError:
    return ArtifactError(f"more than {_MAX_DOWNLOAD_BYTES:,} bytes: {url}")


class _HttpRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects that stay on http or https, and never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Returns the request to follow with."""
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            raise ConfigError(
                f"the server redirects {req.full_url} to {newurl}, which is not followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _GzipFile(gzip.GzipFile):
    """Refuses reads that no honest archive causes, before they take the memory."""

    def read(self, size: int | None = -1) -> bytes:
        """Reads that many bytes of the content."""
        if size is None or not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError("a header is too large")
        return super().read(size)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks plain files and folders; anything else in the archive, or a name that leaves the folder, refuses all of it.

    Contents only, into files made anew: no link is ever made, and owner, mode and time stay ours.
    """
    left, count = _MAX_UNPACKED_BYTES, 0
    folder.mkdir()
    try:
        with _GzipFile(archive, "rb") as packed, tarfile.open(fileobj=packed, mode="r:") as tar:
            for member in tar:
                count += 1
                left -= member.size
                cause = None
                if count > _MAX_MEMBERS:
                    cause = f"the archive has more than {_MAX_MEMBERS:,} members"
                elif left < 0:
                    cause = f"the archive unpacks to more than {_MAX_UNPACKED_BYTES:,} bytes"
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
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "xb") as file:
                    _copy_member(tar, member, file.write)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise ArtifactError(
            "the archive names one file twice, or a file as a folder", path=archive
        ) from None
    except (tarfile.TarError, EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
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
