"""The model directory: every name inside it stands here, and only one trainer may hold it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detflow.config.reading import format_config, read_config
from detflow.config.schema import ExperimentConfig
from detflow.errors import ArtifactError, Locked, environment_faults
from detflow.publish import publish_file, read_json_object, remove_directory, sweep
from detflow.storage.cache import find_cached
from detflow.storage.location import Location
from detflow.storage.working_copy import WorkingCopy

__all__ = ["STATE_NAME", "RunDir"]

STATE_NAME = "state.json"
"""The file that makes a folder a checkpoint."""

_CHECKPOINT = re.compile(r"ckpt-(\d{1,15})")


class RunDir:
    """Names inside a model directory. Making one touches nothing.

    Args:
        location: The model directory. For one at a URL a local folder stands in, which `locked`
            fills and `share` uploads.

    Attributes:
        path: The local folder.
    """

    def __init__(self, location: Location) -> None:
        if isinstance(location, Path):
            path, self._copy = location, None
        else:
            path = find_cached("runs", location, str(location).encode())
            self._copy = WorkingCopy(location, path, STATE_NAME)
        self.path = path
        self.config_path = path / "config.yaml"
        self.label_map_path = path / "label_map.pbtxt"
        # What else decides the weights: data, machine, versions; and when a change to them was
        # accepted.
        self.provenance_path = path / "run.json"
        self.losses_path = path / "losses.csv"
        self.results_path = path / "results.csv"
        # The step whose loss was not a number.
        self.failure_path = path / "failure.json"
        self.tensorboard_dir = path / "tensorboard"
        # TensorFlow's own pointer to the newest checkpoint, for other tools. detflow writes it and
        # never believes it.
        self.checkpoint_pointer_path = path / "checkpoint"
        self._lock_path = path / ".lock"

    def checkpoint_path(self, step: int) -> Path:
        """Returns where the checkpoint of a step is, or would be."""
        return self.path / f"ckpt-{step}"

    def checkpoint_steps(self) -> list[int]:
        """Returns the steps that a checkpoint stands for, oldest first, whatever its state."""
        if not self.path.is_dir():
            return []
        names = (
            _CHECKPOINT.fullmatch(entry.name) for entry in self.path.iterdir() if entry.is_dir()
        )
        return sorted(int(match.group(1)) for match in names if match)

    def checkpoint_bytes(self, step: int) -> int:
        """Returns what the checkpoint of a step takes on the disk."""
        return sum(
            entry.stat().st_size
            for entry in self.checkpoint_path(step).iterdir()
            if entry.is_file()
        )

    def had_checkpoints(self) -> bool:
        """Tells whether this run ever saved, even if no checkpoint is left."""
        return self.checkpoint_pointer_path.exists() or any(self.path.glob("ckpt-*"))

    def set_aside(self, step: int) -> Path:
        """Renames a damaged checkpoint, so that it is kept but no longer found; returns its new place."""
        source = self.checkpoint_path(step)
        number = 1
        while (target := source.with_name(f"{source.name}.damaged-{number}")).exists():
            number += 1
        with environment_faults(source):
            os.rename(source, target)
        return target

    def remove_checkpoint(self, step: int) -> None:
        """Removes the checkpoint of a step."""
        with environment_faults(self.checkpoint_path(step)):
            remove_directory(self.checkpoint_path(step))

    def read_config(self) -> ExperimentConfig:
        """Reads the resolved configuration that the run was started with."""
        if not self.config_path.is_file():
            raise ArtifactError("not a model directory: config.yaml is missing", path=self.path)
        return read_config(self.config_path)

    def write_config(self, config: ExperimentConfig) -> None:
        """Publishes the resolved configuration."""
        publish_file(self.config_path, format_config(config))

    def read_provenance(self) -> dict[str, Any] | None:
        """Reads run.json; None where the run has none yet."""
        if not self.provenance_path.exists():
            return None
        return read_json_object(self.provenance_path)

    def write_provenance(self, value: dict[str, Any]) -> None:
        """Publishes run.json."""
        publish_file(self.provenance_path, json.dumps(value, indent=2, sort_keys=True) + "\n")

    def share(self) -> None:
        """Brings what is new to the URL, if this directory lies at one. The caller holds the lock.

        Raises:
            Locked: Another process has taken it over.
            EnvironmentFault: The store refuses.
        """
        if self._copy is not None:
            self._copy.upload()

    def _remove_unfinished(self) -> None:
        """Removes checkpoints whose upload was cut short: they never were."""
        for step in self.checkpoint_steps():
            if not (self.checkpoint_path(step) / STATE_NAME).is_file():
                remove_directory(self.checkpoint_path(step))

    @contextlib.contextmanager
    def locked(self) -> Iterator[RunDir]:
        """Makes the directory, holds its lock, removes what a dead trainer left behind, and yields itself.

        One at a URL is downloaded first, and uploaded when the block ends.

        Raises:
            Locked: Another process trains here; the message names it.
            EnvironmentFault: The directory cannot be written.
        """
        with environment_faults(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = (
                    os.pread(descriptor, 400, 0).decode(errors="replace").strip()
                    or "an unknown process"
                )
                raise Locked(
                    f"another trainer is at work here: {holder}",
                    path=self.path,
                    remedy="wait for it or stop it",
                ) from None
            with environment_faults(self._lock_path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                sweep(self.path)
            if self._copy is None:
                yield self
            else:
                with environment_faults(self.path), self._copy.leased():
                    self._copy.download()
                    self._remove_unfinished()
                    try:
                        yield self
                    finally:
                        self.share()
        finally:
            # The file stays: unlinking it would let two trainers lock two files of one name.
            os.close(descriptor)
