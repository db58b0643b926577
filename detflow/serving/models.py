"""The model that serves, and the next one.

A new export is verified, loaded beside the old one, and takes over between two requests.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from detflow.artifact import ArtifactDir
from detflow.digests import digest_file
from detflow.errors import ArtifactError, DetflowError
from detflow.label_map import LabelMap
from detflow.serving.limits import Refusal
from detflow.serving.metrics import Metrics
from detflow.text import first_line
from detflow.types import Detection

_log = logging.getLogger(__name__)

_MAX_ATTEMPTS = 3
_TRIAL_SHAPE = (120, 160, 3)


class DetectorLike(Protocol):
    """What the server needs of a detector; `inference.detector.Detector` has it."""

    label_map: LabelMap
    canvas_sizes: Sequence[tuple[int, int]]

    def detect(self, images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[list[Detection]]:
        """Yields the detections of each image [height, width, 3] uint8, RGB."""


@dataclass(frozen=True, eq=False, slots=True)
class ServedModel:
    """A loaded export.

    Attributes:
        detector: Ready to run.
        version: The time of the export in seconds since 1970: a newer export has a larger version,
            as TF Serving expects.
        sha256: The SHA-256 of its model.json, which has the digests of all other files.
        card: The content of its model.json.
    """

    detector: DetectorLike
    version: str
    sha256: str
    card: Mapping[str, Any]


class ArtifactSource:
    """A folder where exports are published, one after the other.

    Args:
        path: The folder.
        load_detector: Makes a detector of the folder, whose files have been verified; see
            `load_export`.
    """

    def __init__(self, path: Path, load_detector: Callable[[Path], DetectorLike]) -> None:
        self.path = path
        self._load_detector = load_detector
        self._verified: tuple[Hashable, dict[str, Any]] | None = None

    def identity(self) -> Hashable:
        """Returns what changes whenever a file of the folder does.

        It has names, sizes, times of change and inodes, so that asking often costs little.
        """
        found = []
        for directory, _, names in os.walk(self.path):
            for name in names:
                try:
                    status = os.stat(os.path.join(directory, name), follow_symlinks=False)
                except FileNotFoundError:
                    # The folder is being replaced, so the next call finds another identity.
                    continue
                found.append((directory, name, status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(sorted(found))

    def verify(self) -> dict[str, Any]:
        """Compares every file with the manifest, and returns the manifest.

        This reads all files once: as long as none of them changes, the next call returns the same.

        Raises:
            ArtifactError: The folder is no export, or is damaged.
        """
        identity = self.identity()
        if self._verified is None or self._verified[0] != identity:
            self._verified = None
            self._verified = identity, ArtifactDir(self.path).verify()
        return self._verified[1]

    def load(self) -> ServedModel:
        """Verifies and loads the export; starts again if it is replaced meanwhile.

        Raises:
            ArtifactError: The folder is no export, is damaged, or is replaced again and again.
        """
        for _ in range(_MAX_ATTEMPTS):
            before = self.identity()
            try:
                model = self._load_once()
            except DetflowError:
                if self.identity() == before:
                    raise
                continue
            if self.identity() == before:
                return model
        raise ArtifactError(
            f"the export was replaced {_MAX_ATTEMPTS} times while it was being loaded",
            path=self.path,
        )

    def _load_once(self) -> ServedModel:
        manifest_path = ArtifactDir(self.path).manifest_path
        card = self.verify()
        ArtifactDir(self.path).require_entries(card, "classes")
        exported = manifest_path.stat().st_mtime
        digest = digest_file(manifest_path)["sha256"]
        detector = self._load_detector(self.path)
        if list(detector.label_map) != card["classes"]:
            raise ArtifactError(
                f"the model names {len(detector.label_map)} classes and model.json "
                f"{len(card['classes'])}, which are not the same",
                path=self.path,
            )
        _try(detector, self.path)
        return ServedModel(detector, str(int(exported)), digest, card)


def load_export(path: Path, threads: int = 0) -> DetectorLike:
    """Loads the format of a verified export that runs fastest; imports its runtime."""
    from detflow.inference.load import load_verified

    return load_verified(ArtifactDir(path), threads=threads)


def _try(detector: DetectorLike, path: Path) -> None:
    """Runs one picture through a detector that is to serve.

    Raises:
        ArtifactError: It cannot be run, or finds a class that has no name.
    """
    noise = np.random.default_rng(0).integers(0, 256, _TRIAL_SHAPE, np.uint8)
    try:
        list(detector.detect([noise]))
    except DetflowError:
        raise
    except Exception as error:
        raise ArtifactError(
            f"the model fails on the first picture: {first_line(error)}", path=path
        ) from error


class ModelStore:
    """Holds the model that serves and looks for a newer one.

    Args:
        source: Where models come from.
        name: What clients call it.
        metrics: Where loads are counted.
        poll_s: How often to look.

    Attributes:
        fault: Why the newest export does not serve, without paths; None where it does.
        loading: Whether a thread is loading a model. The thread goes on when `run` is cancelled.
    """

    def __init__(
        self, source: ArtifactSource, name: str, metrics: Metrics, poll_s: float = 2.0
    ) -> None:
        self.source = source
        self.name = name
        self.fault: str | None = None
        self.loading = False
        self._metrics = metrics
        self._poll_s = poll_s
        self._current: ServedModel | None = None
        self._loaded = asyncio.Event()
        self._error: Exception | None = None
        self._thread = ThreadPoolExecutor(1, "load")

    @property
    def current(self) -> ServedModel:
        """The model that serves.

        Raises:
            Refusal: None has been loaded yet.
        """
        if self._current is None:
            raise Refusal.unavailable("the model is being loaded")
        return self._current

    async def wait_loaded(self) -> ServedModel:
        """Returns the first model.

        Raises:
            Exception: Whatever went wrong while it was loaded.
        """
        await self._loaded.wait()
        if self._error is not None:
            raise self._error
        return self.current

    async def run(self) -> None:
        """Loads the model, then a newer one whenever it appears, until it is cancelled.

        Where the first one cannot be loaded, it ends.
        """
        try:
            served = await self._in_thread(self.source.identity)
            await self._load()
            self._loaded.set()
            if self._current is None:
                return
            seen = served
            while True:
                await asyncio.sleep(self._poll_s)
                found = await self._in_thread(self.source.identity)
                # A folder that somebody is still copying changes from one look to the next, and is
                # left alone until it does not.
                if found == seen and found != served:
                    served = found
                    await self._load()
                seen = found
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _load(self) -> None:
        self.loading = True
        try:
            model = await self._in_thread(self.source.load)
        except Exception as error:  # noqa: BLE001  Whatever fails, the old export goes on serving.
            self.loading = False
            self._error = error
            self.fault = error.cause if isinstance(error, DetflowError) else type(error).__name__
            self._metrics.loads.labels("refused").inc()
            if self._current is not None:
                defect = None if isinstance(error, DetflowError) else error
                _log.error(
                    "the new export is refused, the old one goes on serving: %s",
                    error,
                    exc_info=defect,
                )
            return
        self.loading = False
        renewed = self._current is not None
        self._current, self.fault = model, None
        self._metrics.loads.labels("loaded").inc()
        self._metrics.model.info(
            {"name": self.name, "version": model.version, "sha256": model.sha256}
        )
        if renewed:
            _log.warning(
                "a new export serves: %s",
                json.dumps({"version": model.version, "sha256": model.sha256}),
            )

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
