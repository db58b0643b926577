"""What the functions of the front door share: places, workers, progress that is shown or not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypeAlias

from detflow.errors import ConfigError
from detflow.progress import Progress, show_progress
from detflow.storage.location import EXTRAS, Location, Url, parse_location, require_local

if TYPE_CHECKING:
    from detflow.data.workers.processes import OrderedMap

Place: TypeAlias = "str | os.PathLike[str] | Url"
"""A file or folder: a path, or the URL of a prefix in an object store."""


def to_location(place: Place) -> Location:
    """Returns a path or a URL.

    Raises:
        ConfigError: It is a URL that detflow does not read.
    """
    return place if isinstance(place, Url) else parse_location(_write_out(place))


def to_path(place: Place) -> Path:
    """Returns a path.

    Raises:
        ConfigError: It is a URL.
    """
    return require_local(str(place) if isinstance(place, Url) else _write_out(place))


def _write_out(place: str | os.PathLike[str]) -> str:
    text = os.fspath(place)
    if isinstance(place, PurePath) and text.partition(":/")[0] in EXTRAS:
        # pathlib has made one slash of two; it would be a folder named `s3:`.
        raise ConfigError("a Path cannot hold a URL", path=text, remedy="pass the URL as text")
    return text


@contextlib.contextmanager
def progress_shown(shown: bool) -> Iterator[Progress]:
    """Yields a callback that draws bars on stderr, or one that does nothing."""
    if shown:
        with show_progress() as progress:
            yield progress
    else:
        yield lambda what, done, total: None


def open_runner(
    runner: str, ray_address: str | None, dataset: Location, output: Location, jobs: int | None
) -> AbstractContextManager[OrderedMap]:
    """Opens the processes that convert a dataset.

    Args:
        runner: "local", or "ray" for a cluster.
        ray_address: Of the cluster's head; None finds or starts one.
        dataset: The dataset's folder.
        output: The records directory.
        jobs: Number of processes; None chooses.

    Raises:
        ConfigError: There is no such runner, an address goes with none, or a cluster is to read an
            archive.
    """
    if runner not in ("local", "ray"):
        raise ConfigError(f"there is no runner {runner!r}", remedy="choose from local, ray")
    if runner == "local":
        if ray_address is not None:
            raise ConfigError("--ray-address goes with --runner ray")

        from detflow.data.workers.processes import choose_jobs, open_workers

        return open_workers(jobs or choose_jobs(dataset), "detflow.data.making")
    if isinstance(dataset, Path) and dataset.is_file():
        cause = "an archive is unpacked on this machine, where others cannot read it"
        raise ConfigError(cause, path=dataset, remedy="unpack it and name the folder")
    from detflow.data.workers.ray import open_cluster

    output_dir = output.absolute().parent if isinstance(output, Path) else output
    if isinstance(output_dir, Path):
        output_dir.mkdir(parents=True, exist_ok=True)
    shared = [place for place in (dataset, output_dir) if isinstance(place, Path)]
    return open_cluster(ray_address, jobs, [path.resolve() for path in shared])
