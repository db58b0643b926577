"""What a run writes down about itself: every loss and every evaluation.

TensorBoard gets both, with pictures and the configuration.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from PIL import Image
from tensorboard.plugins.image.metadata import create_summary_metadata

from detflow.config.reading import format_config
from detflow.config.schema import ExperimentConfig
from detflow.errors import environment_faults
from detflow.runs.run_dir import RunDir
from detflow.runs.states import Metrics
from detflow.training.curves import append_rows, mend_losses, mend_results
from detflow.training.side_by_side import SHOWN_SCORE

# TensorBoard needs no point for every step.
_SUMMARY_STEPS = 20
_PICTURE_QUALITY = 85
_PICTURE_DESCRIPTION = (
    f"Left the truth, right the detections with a score of at least {SHOWN_SCORE}"
)


class Journal:
    """Writes losses.csv, results.csv and TensorBoard's events.

    Opening it cuts off what an interrupted run wrote after the checkpoint that is resumed from, so
    that no step stands twice, and mends what somebody has cut off or removed. TensorBoard cuts by
    itself when it reads the events of the resumed run.

    Args:
        run: The model directory.
        start: Steps that the run has taken.
        loss_names: Terms of the loss: columns of losses.csv, after the step and the total.
        metric_names: Columns of results.csv.
        evaluations: What the checkpoint that is resumed from remembers of each evaluation.

    Attributes:
        notes: What there is to say about the files that were mended.
    """

    def __init__(
        self,
        run: RunDir,
        start: int,
        loss_names: Sequence[str],
        metric_names: Sequence[str],
        evaluations: Sequence[tuple[int, Metrics]] = (),
    ) -> None:
        self._losses_path = run.losses_path
        self._results_path = run.results_path
        self._loss_columns = ("step", "loss", *loss_names, "learning_rate")
        # TensorBoard shows tags with the same beginning together.
        self._loss_tags = ("loss/total", *(f"loss/{name}" for name in loss_names), "learning_rate")
        self._metric_names = tuple(metric_names)
        self._pending: list[tuple[Any, ...]] = []
        self.notes = mend_losses(
            run.losses_path,
            self._loss_columns,
            start,
            lambda steps: _read_scalars(run.tensorboard_dir, self._loss_tags, steps),
        ) + mend_results(run.results_path, ("step", *self._metric_names), evaluations)
        with environment_faults(run.tensorboard_dir):
            self._writer = tf.summary.create_file_writer(os.fspath(run.tensorboard_dir))

    def configured(self, step: int, config: ExperimentConfig) -> None:
        """Shows the configuration that holds from a step on, as text."""
        with self._writer.as_default():
            tf.summary.text("configuration", f"```yaml\n{format_config(config)}```", step=step)

    def step(self, step: int, losses: Sequence[float], learning_rate: float) -> None:
        """Takes in the losses of a step; they reach the disk with `flush`.

        Args:
            step: Counted from 1.
            losses: The total, then its terms.
            learning_rate: Of the step's update.
        """
        row = (step, *losses, learning_rate)
        self._pending.append(row)
        if step % _SUMMARY_STEPS == 0:
            self._write_scalars(dict(zip(self._loss_tags, row[1:], strict=True)), step)

    def evaluated(
        self,
        step: int,
        metrics: Mapping[str, float | None],
        pictures: Iterable[tuple[str, Image.Image]],
    ) -> None:
        """Appends a row to results.csv, and gives metrics and pictures to TensorBoard.

        Args:
            step: Steps taken.
            metrics: What could not be measured is None, and stays empty.
            pictures: With their names.
        """
        append_rows(
            self._results_path, [(step, *(metrics.get(name) for name in self._metric_names))]
        )
        self._write_scalars(
            {_tag(name): value for name, value in metrics.items() if value is not None}, step
        )

        for name, picture in pictures:
            self._write_picture(f"evaluation images/{name}", picture, step)

    def flush(self) -> None:
        """Brings everything to the disk.

        It is called before a checkpoint is published, so that no step before that is missing.
        """
        append_rows(self._losses_path, self._pending)
        self._pending = []
        self._writer.flush()

    def _write_scalars(self, values: Mapping[str, float], step: int) -> None:
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)

    def _write_picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Writes a picture as `tf.summary.image` does, but as a JPEG file.

        A PNG file takes several times the space for a photograph.
        """
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=_PICTURE_QUALITY)
        about = create_summary_metadata(display_name=None, description=_PICTURE_DESCRIPTION)
        with self._writer.as_default():
            tf.summary.write(
                name,
                tf.constant([str(picture.width), str(picture.height), file.getvalue()]),
                step,
                about,
            )


def _tag(metric: str) -> str:
    """Returns where TensorBoard shows a metric: those of single classes apart, as they are many."""
    return f"evaluation of classes/{metric}" if "/" in metric else f"evaluation/{metric}"


def _read_scalars(
    folder: Path, names: Sequence[str], steps: Collection[int]
) -> dict[int, list[float | None]]:
    """Reads the values of these names at each step that has all of them in TensorBoard's events.

    They are float32, as the losses are that were written down.
    """
    found: dict[int, dict[str, float]] = {}
    # The names begin with a time: later processes come later.
    for path in sorted(folder.glob("events.out.tfevents.*")):
        # The last event of a process that was killed may be torn.
        with contextlib.suppress(tf.errors.OpError):
            for event in tf.compat.v1.train.summary_iterator(os.fspath(path)):
                for value in event.summary.value:
                    if value.tag in names and event.step in steps:
                        row = found.setdefault(event.step, {})
                        row[value.tag] = float(tf.make_ndarray(value.tensor))
    return {
        step: [row[name] for name in names]
        for step, row in found.items()
        if row.keys() == set(names)
    }
