"""The model directory: every name inside it stands here, and only one trainer may hold it."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from detflow.config.reading import format_config, parse_config
from detflow.digests import read_sealed_object, seal
from detflow.errors import ArtifactError, ConfigError, DataError, Locked, environment_faults
from detflow.label_map import LabelMap, read_label_map
from detflow.process.platform import hold_file
from detflow.publish import publish_file, remove_directory, sweep
from detflow.runs.record import RunRecord
from detflow.storage.cache import find_cached
from detflow.storage.lease import Lease
from detflow.storage.location import Location
from detflow.storage.working_copy import WorkingCopy

STATE_NAME = "state.json"
"""The file that makes a folder a checkpoint."""

_CHECKPOINT = re.compile(r"ckpt-(\d{1,15})")
_PUT_BACK = "put it back, or remove it: the next training writes it again"


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
            self._copy = WorkingCopy(location, path, STATE_NAME, Lease(location))
        self.path = path
        # What decides the weights; see `record.RunRecord`.
        self.record_path = path / "run.json"
        # Two views of the record, for people and other tools.
        self.config_path = path / "config.yaml"
        self.label_map_path = path / "label_map.pbtxt"
        self.losses_path = path / "losses.csv"
        self.results_path = path / "results.csv"
        self.curves_path = path / "results.png"
        # The step whose loss was not a number.
        self.failure_path = path / "failure.json"
        self.tensorboard_dir = path / "tensorboard"
        # TensorFlow's own pointer to the newest checkpoint, for other tools. detflow writes it and
        # never believes it.
        self.checkpoint_pointer_path = path / "checkpoint"
        self._lock_path = path / ".lock"

    def list_figures(self) -> list[Path]:
        """Returns the files that show what a run is and how it went."""
        return [
            self.config_path,
            self.label_map_path,
            self.losses_path,
            self.results_path,
            self.curves_path,
        ]

    def tracker_path(self, name: str) -> Path:
        """Returns where the run keeps what a tracker calls it."""
        return self.path / f"tracker-{name}.json"

    def checkpoint_path(self, step: int) -> Path:
        """Returns where the checkpoint of a step is, or would be."""
        return self.path / f"ckpt-{step}"

    @staticmethod
    def step_of(path: Path) -> int | None:
        """Returns the step that a checkpoint's folder is named after; None for another name."""
        match = _CHECKPOINT.fullmatch(path.name)
        return int(match.group(1)) if match else None

    def checkpoint_steps(self) -> list[int]:
        """Returns the steps that a checkpoint stands for, oldest first, whatever its state."""
        if not self.path.is_dir():
            return []
        steps = (self.step_of(entry) for entry in self.path.iterdir() if entry.is_dir())
        return sorted(step for step in steps if step is not None)

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
        """Renames a damaged checkpoint, so that it is kept but not found; returns its new place."""
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

    def exists(self) -> bool:
        """Tells whether this is a model directory: it has a record, or a checkpoint."""
        return self.record_path.is_file() or bool(self.checkpoint_steps())

    def read_record(self) -> RunRecord | None:
        """Reads run.json; None where there is none.

        Raises:
            ArtifactError: It is damaged, or was changed.
        """
        if not os.path.lexists(self.record_path):
            return None
        return RunRecord.from_json(read_sealed_object(self.record_path), self.record_path)

    def write_record(self, record: RunRecord) -> None:
        """Publishes run.json, then its views; what is there already is left alone."""
        text = json.dumps(seal(record.to_json()), indent=2, sort_keys=True) + "\n"
        for path, content in (
            (self.record_path, text),
            (self.config_path, format_config(record.config)),
            (self.label_map_path, record.label_map.to_pbtxt()),
        ):
            if not path.is_file() or path.read_bytes() != content.encode():
                publish_file(path, content)

    def find_edit(self) -> str | None:
        """Returns what to tell of a config.yaml that was edited by hand: nobody reads it.

        Raises:
            ArtifactError: run.json is damaged, or was changed.
        """
        record = self.read_record()
        if record is None or not self.config_path.is_file():
            return None
        expected = format_config(record.config).encode()
        with open(self.config_path, "rb") as file:
            content = file.read(2 * len(expected))
        if content == expected:
            return None
        # What is no configuration at all is an edit, too.
        with contextlib.suppress(ConfigError, UnicodeDecodeError):
            # An earlier version had fewer settings to write down.
            if len(content) < len(expected) and parse_config(content.decode()) == record.config:
                return None
        return (
            f"{self.config_path} is not the run's configuration and has no effect: checkpoints "
            "hold their own; other settings are options of the commands"
        )

    def require_classes(self, label_map: LabelMap) -> None:
        """Refuses a label map that was put in the place of the run's own.

        Args:
            label_map: The classes that the weights belong to.

        Raises:
            ArtifactError: label_map.pbtxt is there, and does not have these classes in this order.
        """
        if not os.path.lexists(self.label_map_path):
            return
        try:
            found = read_label_map(self.label_map_path)
        except DataError as error:
            raise ArtifactError(
                error.cause, path=self.label_map_path, place=error.place, remedy=_PUT_BACK
            ) from None
        if found != label_map:
            raise ArtifactError(
                f"it names the classes {', '.join(found)}; the outputs of this run are "
                f"{', '.join(label_map)}",
                path=self.label_map_path,
                remedy=_PUT_BACK,
            )

    def share(self) -> None:
        """Brings what is new to the URL, if this directory lies at one. The caller holds the lock.

        Raises:
            Locked: Another process has taken it over.
            EnvironmentFault: The store refuses.
        """
        if self._copy is not None:
            self._copy.upload()

    def _refuse_other_things(self) -> None:
        """Raises ConfigError where the folder holds something, and no run."""
        with environment_faults(self.path):
            if not os.path.lexists(self.path):
                return
            if not self.path.is_dir():
                raise ConfigError(
                    "the model directory exists and is not a folder",
                    path=self.path,
                    remedy="choose another --model-dir",
                )
            others = sorted(
                entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")
            )
            if others and not self.exists():
                raise ConfigError(
                    f"the folder holds other things, such as {others[0]}, and no "
                    f"{self.record_path.name}",
                    path=self.path,
                    remedy="choose another --model-dir",
                )

    def _remove_unfinished(self) -> None:
        """Removes checkpoints whose upload was cut short: they never were."""
        for step in self.checkpoint_steps():
            if not (self.checkpoint_path(step) / STATE_NAME).is_file():
                remove_directory(self.checkpoint_path(step))

    @contextlib.contextmanager
    def locked(self) -> Iterator[RunDir]:
        """Makes the directory, holds its lock, and yields itself.

        What a dead trainer left behind is removed.

        One at a URL is downloaded first, and uploaded when the block ends.

        Raises:
            ConfigError: The folder holds other things than a run; nothing is written.
            Locked: Another process trains here; the message names it.
            EnvironmentFault: The directory cannot be written.
        """
        self._refuse_other_things()
        with environment_faults(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            held = hold_file(self._lock_path)
        if isinstance(held, str):
            raise Locked(
                f"another trainer is at work here: {held or 'an unknown process'}",
                path=self.path,
                remedy="wait for it or stop it",
            )
        try:
            with environment_faults(self._lock_path):
                sweep(self.path)
            if self._copy is None:
                yield self
            else:
                with environment_faults(self.path), self._copy.leased():
                    self._copy.download()
                    self._refuse_other_things()
                    self._remove_unfinished()
                    try:
                        yield self
                    finally:
                        self.share()
        finally:
            held.close()
