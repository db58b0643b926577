"""Writes TFLite files: a canvas of bytes in, boxes, classes, scores and their count out.

Network and post-processing are converted apart (`tflite_network`) and joined afterwards
(`tflite_file`), so that quantisation never touches boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from typing_extensions import override

from detflow.artifact import TFLITE_CONTRACT
from detflow.errors import DataError
from detflow.exporting.formats.base import Draft, FormatWriter, Job, Notes
from detflow.exporting.formats.tflite_file import join_models, pack_file
from detflow.exporting.formats.tflite_metadata import METADATA_NAME, build_metadata
from detflow.exporting.formats.tflite_network import (
    Halves,
    Split,
    build_converter,
    convert,
    split_after_head,
    split_before_head,
)
from detflow.exporting.proof.compare import SAME_NETWORK, Gate, Tolerance
from detflow.exporting.proof.twin import Twin
from detflow.geometry import fit_to_canvas
from detflow.inference.formats.tflite import INPUT, OUTPUTS, Tflite, TflitePrecision, to_uint8
from detflow.inference.labels import LABELS_NAME
from detflow.models import preprocess
from detflow.models.base import DenseModel, DetectionModel
from detflow.training.fine_tuning import fine_tune
from detflow.training.step import images_per_step
from detflow.types import Sample

_INT8: Final = Gate(
    Tolerance(score_threshold=0.3, min_iou=0.75, max_score_difference=0.15, min_share=0.9), 0.02
)
_FLOAT16: Final = Gate(
    Tolerance(score_threshold=0.05, min_iou=0.95, max_score_difference=0.01, min_share=0.98), 0.005
)
# What a file's outputs may differ by from the checkpoint's on the canvas of bytes. docs/export.md
# has what honest files need, and what the rest of the proof holds the rounded ones to.
_GATES: Final[dict[TflitePrecision, Gate]] = {
    "float32": SAME_NETWORK,
    "float16": _FLOAT16,
    "dynamic": _INT8,
    "int8": _INT8,
}

# Names of the file's tensors.
_TENSOR_NAMES: Final = {
    name: tensor["tensor"]
    for part in ("inputs", "outputs")
    for name, tensor in TFLITE_CONTRACT[part].items()
}
# Seed of the draws from the training images.
_SEED: Final = 1


@dataclass(frozen=True)
class Effort:
    """How much the rungs of int8's ladder do.

    Attributes:
        images: Images that the first rung measures ranges of activations on.
        more_images: Images that the further rungs measure them on.
        steps: Steps of the fine-tuning.
    """

    images: int = 100
    more_images: int = 500
    steps: int = 300


class Writer(FormatWriter[Tflite]):
    """Writes a file of one precision.

    Args:
        written: The format.
        gate: What the file has to show; None takes the precision's own.
        effort: How much int8's ladder does.
    """

    def __init__(
        self, written: Tflite, gate: Gate | None = None, effort: Effort | None = None
    ) -> None:
        self.own_gate = _GATES[written.precision]
        super().__init__(written, gate)
        self._effort = effort or Effort()

    @override
    def write(self, job: Job) -> Iterator[Draft]:
        if self.format.precision == "int8":
            yield from self._climb(job)
        else:
            yield self._write_once(job)

    def _write_once(self, job: Job) -> Draft:
        """Writes floats, float16 weights, or int8 weights with float activations ("dynamic")."""
        model = _require_dense(job.trained.serving.model)
        halves = _divide(job, model, split_after_head)
        converter = build_converter(halves.network, model.network.variables)
        if self.format.precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if self.format.precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return self._write_joined(job, model, halves, converter)

    def _climb(self, job: Job) -> Iterator[Draft]:
        """Writes int8 weights and activations, and climbs a ladder while the gate refuses them.

        The rungs: ranges measured on a hundred training images; on five hundred; the head in
        floats; weights that were fine-tuned with int8's rounding, with nothing in floats.
        """
        effort, model = self._effort, _require_dense(job.trained.serving.model)
        samples = _draw_training_samples(job, effort.more_images)
        files = [sample.encoded for sample in samples]

        def write(rung: str, model: DenseModel, split: Split, num_images: int) -> Draft:
            used, halves = files[:num_images], _divide(job, model, split)
            converter = build_converter(halves.network, model.network.variables)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: (
                [canvas] for canvas in _build_canvases(used, model.input_size)
            )
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            calibration = {
                "images": len(used),
                "split": job.trained.config.data.train_split,
                "seed": _SEED,
            }
            draft = self._write_joined(job, model, halves, converter)
            return replace(draft, notes={**draft.notes, "rung": rung, "calibration": calibration})

        yield write("calibrated", model, split_after_head, effort.images)
        yield write("more calibration", model, split_after_head, effort.more_images)
        yield write("float heads", model, split_before_head, effort.more_images)

        batches = _draw_training_samples(job, effort.steps * images_per_step(job.trained.config))
        tuned = fine_tune(
            job.trained, batches, _build_canvases(files, model.input_size), effort.steps
        )
        draft = write(
            "quantisation-aware fine-tuning",
            _require_dense(tuned.model),
            split_after_head,
            effort.more_images,
        )
        fine_tuning = {
            "steps": tuned.steps,
            "learning_rate": tuned.learning_rate,
            "images": tuned.images,
            "seconds": round(tuned.seconds, 1),
        }
        yield replace(draft, notes={**draft.notes, "fine_tuning": fine_tuning})

    def _write_joined(self, job: Job, model: DenseModel, halves: Halves, converter: Any) -> Draft:
        """Converts both halves, joins them, writes the file, and describes it.

        Args:
            job: What is worked on.
            model: What is converted.
            halves: Its halves.
            converter: Of the first half, with the options of this precision.
        """
        trained, canvas_size = job.trained, job.trained.serving.model.input_size
        name = f"{trained.run.path.name} {trained.checkpoint_path.name}"

        def join(network: bytes) -> bytes:
            metadata = {METADATA_NAME: build_metadata(name, canvas_size)}
            return join_models(network, halves.converted_tail, _TENSOR_NAMES, metadata)

        twin = None
        if self.format.precision == "float32":
            joined = join(halves.converted_network)
        else:
            joined = join(convert(converter))
            twin = Twin(join(halves.converted_network), model)
        labels = "".join(f"{label}\n" for label in trained.label_map)
        path = job.artifact.path / self.format.entries[0].path
        path.write_bytes(pack_file(joined, LABELS_NAME, labels))
        count = trained.serving.config.max_detections
        shapes = ([1, count, 4], [1, count], [1, count], [1])
        notes: Notes = {
            "input": {
                "name": INPUT,
                "tensor": _TENSOR_NAMES[INPUT],
                "dtype": "uint8",
                "shape": [1, *canvas_size, 3],
            },
            "outputs": [
                {"name": name, "tensor": _TENSOR_NAMES[name], "dtype": "float32", "shape": shape}
                for name, shape in zip(OUTPUTS, shapes, strict=True)
            ],
        }
        return Draft(notes, twin)


def _require_dense(model: DetectionModel) -> DenseModel:
    if not isinstance(model, DenseModel):
        raise TypeError(f"{type(model).__name__} has two stages; see Format.needs_one_stage")
    return model


def _divide(job: Job, model: DenseModel, split: Split) -> Halves:
    """Cuts a model into halves, once for the files of all precisions."""
    halves: Halves = job.shared.get((model, split)) or split(model, job.trained.serving.config)
    job.shared[model, split] = halves
    return halves


def _draw_training_samples(job: Job, limit: int) -> list[Sample]:
    """Draws at most so many samples of the training, in random order.

    The draw depends on the records alone.
    """
    random = np.random.default_rng(_SEED)
    drawn: list[Sample] = []
    # Each sample has the same chance to be drawn, and no more than `limit` are held at a time
    # (Vitter 1985, algorithm R).
    for number, sample in enumerate(job.training_samples()):
        place = number if number < limit else int(random.integers(0, number + 1))
        if place == len(drawn):
            drawn.append(sample)
        elif place < limit:
            drawn[place] = sample
    if not drawn:
        raise DataError("there are no training images to measure the ranges of activations on")
    return [drawn[place] for place in random.permutation(len(drawn))]


def _build_canvases(
    files: Iterable[bytes], canvas_size: tuple[int, int]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yields canvases [1, height, width, 3] as a caller of the file makes them."""
    for file in files:
        pixels = preprocess.decode_jpeg(tf.constant(file)).numpy()
        yield to_uint8(fit_to_canvas(pixels[np.newaxis], canvas_size)[0])
