"""Fetches published files into a cache: whole or not at all, and the same bytes each time.

What an address gave the first time is pinned in a small JSON file that outlives the download; other
bytes are refused later. An entry of the cache is a folder with a manifest, and is compared with it
before each use.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from detflow.digests import FileDigest, digest_file, digest_files, read_json_object, verify_files
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault, environment_faults
from detflow.progress import show_download
from detflow.publish import publish_directory, publish_file, require_space
from detflow.storage.cache import cache_directory
from detflow.storage.unpacking import unpack

_CHUNK_BYTES = 1 << 18
MANIFEST_NAME = "manifest.json"
"""The file that tells what a folder of the cache holds."""

_UNPACKED_NAME = "unpacked"
_ARCHIVE_SUFFIXES = (".tar.gz", ".tgz")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclasses.dataclass(frozen=True, slots=True)
class DownloadLimits:
    """How much is fetched, and how patiently.

    Attributes:
        max_bytes: Largest size of a file. The largest published detector weighs about a gigabyte;
            a checkpoint may hold the moments of an optimiser as well.
        max_unpacked_bytes: Largest size of what an archive unpacks to.
        max_members: Largest number of files and folders in an archive.
        max_attempts: Number of attempts in a row that may get no further.
        pause_seconds: Pause after the first of them; each further one is twice as long.
        timeout_seconds: Longest silence of the server.
    """

    max_bytes: int = 4 << 30
    max_unpacked_bytes: int = 8 << 30
    max_members: int = 1000
    max_attempts: int = 4
    pause_seconds: float = 1.0
    timeout_seconds: float = 30.0


@dataclasses.dataclass(frozen=True)
class Fetched:
    """Fetched files.

    Attributes:
        path: The folder that holds them, unpacked.
        digests: Digests of what was fetched, by address or path, before it was unpacked.
    """

    path: Path
    digests: Mapping[str, FileDigest]


def is_archive(path: Path) -> bool:
    """Tells by the name whether a file is one that is unpacked."""
    return path.name.endswith(_ARCHIVE_SUFFIXES)


def fetch_files(
    urls: Sequence[str], sha256: str | None = None, limits: DownloadLimits = DownloadLimits()
) -> Fetched:
    """Returns the files of some http(s) addresses, downloaded unless the cache has them.

    Args:
        urls: All go into one folder, each under the last part of its address; a .tar.gz is
            unpacked.
        sha256: What one of them must have, in hexadecimal.
        limits: How much is fetched, and how patiently.

    Raises:
        ConfigError: A server refuses an address, or `sha256` is not what it gives.
        ArtifactError: What is there is damaged, hostile, too large, or not what the address gave
            the first time.
        EnvironmentFault: Network or disk fail.
    """
    entry = _entry_of(urls)
    pin_path = entry.parent / f"{entry.name}.json"
    pinned = _read_digests(pin_path, "urls") if pin_path.exists() else None

    def download(staging: Path) -> dict[str, FileDigest]:
        # A process that was killed while it unpacked has left it.
        shutil.rmtree(staging / _UNPACKED_NAME, ignore_errors=True)
        digests = {url: _download(url, staging / _file_name(url), limits) for url in urls}
        require_digest(digests, sha256)
        _require_pinned(digests, pinned, pin_path)
        # The pin comes first: a process killed here leaves nothing that the next one would trust
        # without it.
        publish_file(pin_path, json.dumps({"urls": digests}, indent=2) + "\n")
        for archive in [path for path in staging.iterdir() if is_archive(path)]:
            _unpack(archive, staging, limits)
            archive.unlink()
        return digests

    # The name of the staging folder is fixed, so that a killed download is continued by the next
    # one.
    fetched = _open_entry(entry, download, resume=entry.name[-12:])
    require_digest(fetched.digests, sha256)
    _require_pinned(fetched.digests, pinned, pin_path)
    return fetched


def is_fetched(urls: Sequence[str]) -> bool:
    """Tells whether the cache has the files of some addresses, as `fetch_files` puts them there.

    Raises:
        EnvironmentFault: The cache cannot be read.
    """
    path = _entry_of(urls) / MANIFEST_NAME
    with environment_faults(path):
        return path.is_file()


def require_digest(digests: Mapping[str, FileDigest], sha256: str | None) -> None:
    """Refuses files of which none has the SHA-256 that the configuration asks for.

    Args:
        digests: Digests of the files.
        sha256: In hexadecimal; None asks for nothing.

    Raises:
        ConfigError: None of them has it. The message says what they have.
    """
    if sha256 is not None and sha256.lower() not in {
        digest["sha256"] for digest in digests.values()
    }:
        found = ", ".join(f"{url} has {digest['sha256']}" for url, digest in digests.items())
        raise ConfigError(
            f"the SHA-256 is not {sha256}: {found}",
            remedy="distrust the file, or correct train.init_sha256 if that asked for it",
        )


def unpack_file(
    archive: Path, sha256: str | None = None, limits: DownloadLimits = DownloadLimits()
) -> Fetched:
    """Returns the folder that a local .tar.gz unpacks to, inside the cache.

    Args:
        archive: The file.
        sha256: What it must have, in hexadecimal.
        limits: How much is unpacked.

    Raises:
        ConfigError: `sha256` is not what it has.
        ArtifactError: It is damaged, hostile or too large.
        EnvironmentFault: The disk refuses.
    """
    with environment_faults(archive):
        digests = {os.fspath(archive): digest_file(archive)}
    require_digest(digests, sha256)

    def fill(staging: Path) -> dict[str, FileDigest]:
        _unpack(archive, staging, limits)
        return digests

    return _open_entry(_cache_entry(archive.name, digests[os.fspath(archive)]["sha256"]), fill)


def _unpack(archive: Path, staging: Path, limits: DownloadLimits) -> None:
    unpack(
        archive,
        staging / _UNPACKED_NAME,
        max_members=limits.max_members,
        max_bytes=limits.max_unpacked_bytes,
    )


def _entry_of(urls: Sequence[str]) -> Path:
    return _cache_entry(PurePosixPath(unquote(urlsplit(urls[0]).path)).name, "\n".join(urls))


def _cache_entry(name: str, identity: str) -> Path:
    return (
        cache_directory()
        / "weights"
        / f"{_UNSAFE.sub('-', name)[:80]}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    )


def _open_entry(
    entry: Path, fill: Callable[[Path], dict[str, FileDigest]], resume: str | None = None
) -> Fetched:
    """Returns a folder of the cache, compared with its manifest.

    Args:
        entry: The folder.
        fill: Makes it in a staging folder where it does not exist yet.
        resume: As in `publish_directory`.
    """
    if not entry.exists():
        with publish_directory(entry, resume) as staging:
            digests = fill(staging)
            manifest = {"fetched": digests, "files": digest_files(staging)}
            (staging / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n")
    remedy = "remove the folder, it will be fetched again"
    try:
        digests = _read_digests(entry / MANIFEST_NAME, "fetched")
        verify_files(entry, _read_digests(entry / MANIFEST_NAME, "files"))
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
                f"{url} is now {digest['bytes']:,} bytes of SHA-256 {digest['sha256']}, "
                "not what it was at the first download",
                path=pin_path,
                remedy="if the publisher says so, remove this file and try again",
            )


def _file_name(url: str) -> str:
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if (
        not name
        or name in {MANIFEST_NAME, _UNPACKED_NAME}
        or _UNSAFE.search(name)
        or name.startswith(".")
    ):
        raise ConfigError(f"the address does not end in a plain file name: {url}")
    return name


@dataclasses.dataclass(frozen=True)
class _Part:
    """A download that has begun.

    Attributes:
        path: What is there of the file.
        validator_path: Its validator, an ETag, which tells whether the rest still belongs to it.
    """

    path: Path
    validator_path: Path

    def bytes_to_resume(self) -> tuple[int, str]:
        """Returns how many bytes are there, and the validator.

        It is (0, "") where nothing can be continued.
        """
        if not self.path.exists() or not self.validator_path.exists():
            return 0, ""
        return self.path.stat().st_size, self.validator_path.read_text()


def _download(url: str, target: Path, limits: DownloadLimits) -> FileDigest:
    """Downloads into a folder that is not published yet.

    A broken connection is taken up again where the server can.
    """
    part = _Part(target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.etag"))
    if target.exists():
        # A process that was killed later had downloaded it.
        return digest_file(target)
    failures = reached = 0
    with show_download(target.name) as show, environment_faults(target):
        while True:
            try:
                _continue(url, part, limits, show)
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
            if failures == limits.max_attempts:
                raise EnvironmentFault(
                    f"the download failed, after {limits.max_attempts} attempts without progress: "
                    f"{reason}: {url}",
                    remedy="try again, or download it by other means and set train.init_from to "
                    "its path",
                )
            time.sleep(limits.pause_seconds * 2 ** (failures - 1))
        part.validator_path.unlink(missing_ok=True)
        os.rename(part.path, target)
    return digest_file(target)


def _continue(
    url: str, part: _Part, limits: DownloadLimits, show: Callable[[int, int | None], None]
) -> None:
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
    with opener.open(request, timeout=limits.timeout_seconds) as response:
        if response.status != 206:
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.path.unlink()
            raise http.client.IncompleteRead(b"")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None and length.isdecimal() else None
        if (total or 0) > limits.max_bytes:
            raise _too_large(url, limits)
        require_space(part.path.parent, (total or 0) - start)
        _keep_validator(part, response.headers.get("ETag"))
        done = start
        with open(part.path, "ab" if start else "wb") as file:
            while piece := response.read(_CHUNK_BYTES):
                done += len(piece)
                if done > limits.max_bytes:
                    raise _too_large(url, limits)
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


def _too_large(url: str, limits: DownloadLimits) -> ArtifactError:
    return ArtifactError(f"more than {limits.max_bytes:,} bytes: {url}")


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
