"""What shows that a file is still what was written: SHA-256 of files, JSON that seals itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from detflow.errors import ArtifactError

_MAX_JSON_BYTES = 64 << 20
_PLAIN_NAME = re.compile(r"[^/\\\0]+(/[^/\\\0]+)*")

DIGEST_KEY = "digest"
"""Where a sealed JSON object has the SHA-256 of all its other entries."""


class FileDigest(TypedDict):
    """What a manifest says of one file: its size in bytes and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


def digest_file(path: Path) -> FileDigest:
    """Returns a file's size and SHA-256, read in pieces."""
    digest = hashlib.sha256()
    size = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    return {"bytes": size, "sha256": digest.hexdigest()}


def digest_files(root: Path) -> dict[str, FileDigest]:
    """Returns the digest of every file below `root`, sorted by name.

    A name is the path relative to `root`, with forward slashes.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): digest_file(path) for path in files}


def is_plain_name(name: str) -> bool:
    """Tells whether a relative path stays below its folder; it does not look at links."""
    return _PLAIN_NAME.fullmatch(name) is not None and not {".", ".."}.intersection(name.split("/"))


def verify_files(root: Path, expected: Mapping[str, FileDigest]) -> None:
    """Compares files with their manifest.

    Args:
        root: The folder that the names are relative to. A name that leads out of it is refused.
        expected: What `digest_files` returned when the manifest was written.

    Raises:
        ArtifactError: A file is missing or differs; the message says how.
    """
    for name, digest in expected.items():
        path = root / name
        if not is_plain_name(name) or path.is_symlink():
            raise ArtifactError(
                f"the manifest names {name!r}, which is not a plain file inside the folder",
                path=root,
            )
        if not path.is_file():
            raise ArtifactError("the file is missing, the manifest lists it", path=path)
        size = path.stat().st_size
        if size != digest["bytes"]:
            raise ArtifactError(
                f"the file has {size:,} bytes, its manifest says {digest['bytes']:,}", path=path
            )
        if digest_file(path)["sha256"] != digest["sha256"]:
            raise ArtifactError("the content differs from the manifest's SHA-256", path=path)


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads a manifest, which detflow wrote or somebody claims that it wrote.

    Raises:
        ArtifactError: The file is missing, a link, larger than 64 MiB, or not a JSON object.
    """
    if path.is_symlink() or not path.is_file():
        raise ArtifactError("the file is missing", path=path)
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ArtifactError(f"the file is larger than {_MAX_JSON_BYTES:,} bytes", path=path)
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"not valid JSON: {error}", path=path) from None
    if not isinstance(value, dict):
        raise ArtifactError("expected a JSON object", path=path)
    return value


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a JSON object with a digest of itself, so that no entry can change unnoticed.

    The digest is of the values, not of how they are laid out: whoever formats the file anew breaks
    nothing.
    """
    value = {name: entry for name, entry in content.items() if name != DIGEST_KEY}
    return {**value, DIGEST_KEY: _digest_values(value)}


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Tells whether an object that was read has the digest that `seal` gave it."""
    try:
        return bool(content.get(DIGEST_KEY) == seal(content)[DIGEST_KEY])
    except RecursionError:
        # What can just be read, nested as deep as that, cannot be written again.
        return False


def read_sealed_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object that `seal` made.

    Raises:
        ArtifactError: As from `read_json_object`, or an entry was changed, added or removed.
    """
    content = read_json_object(path)
    require_sealed(content, path)
    return content


def require_sealed(content: Mapping[str, Any], path: Path, remedy: str | None = None) -> None:
    """Raises ArtifactError where an object is not as `seal` left it.

    Args:
        content: The object.
        path: The file that it was read from.
        remedy: What the user can do.
    """
    if DIGEST_KEY not in content:
        raise ArtifactError(
            f"there is no {DIGEST_KEY} of its content: another program or version wrote it, or it "
            "is damaged",
            path=path,
            remedy=remedy,
        )
    if not is_sealed(content):
        raise ArtifactError(
            f"its content is not what was written: its {DIGEST_KEY} differs",
            path=path,
            remedy=remedy,
        )


def _digest_values(value: Mapping[str, Any]) -> str:
    # As it will be read: tuples become lists, and keys text.
    read = json.loads(json.dumps(value))
    text = json.dumps(read, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
