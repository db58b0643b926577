"""How each format is written and what its gate asks of it. What it consists of and what runs it stands in `artifact.FORMATS`.

Converters are imported when their format is written: a frozen graph does not wait for ONNX, nor a
command line for TensorFlow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from detflow.artifact import FORMATS, ArtifactDir
from detflow.errors import ConfigError
from detflow.exporting.verify import Tolerance
from detflow.inference.openvino import has_openvino, require_openvino

if TYPE_CHECKING:
    from detflow.inference.trained import TrainedModel
    from detflow.types import Sample

__all__ = [
    "DEFAULT_FORMATS",
    "EXPORTS",
    "Export",
    "Gate",
    "Job",
    "Notes",
    "Writer",
    "choose_formats",
    "parse_formats",
]

DEFAULT_FORMATS: Final = "frozen,saved_model"

# Boxes and scores of all anchors at once. The two stages of a Faster R-CNN have a suppression
# between them.
_ONE_STAGE: Final = ("retinanet", "yolo")

Notes = Mapping[str, Any]
"""What a writer has to say of its file, for the card: names, dtypes and order of its tensors, how
it was converted."""


@dataclass(frozen=True)
class Job:
    """What a writer works on.

    Attributes:
        trained: The checkpoint.
        artifact: The folder to write into. Label map and configuration are there.
        training_samples: Reads what the run was trained on, in order, from the start at each call.
    """

    trained: TrainedModel
    artifact: ArtifactDir
    training_samples: Callable[[], Iterator[Sample]]


Writer = Callable[[Job], Iterator[Notes]]
"""Writes a format's files, then yields. Where the gate refuses what was written, it is asked again
and writes something better; it ends where it knows no further way. An ArtifactError says that this
network cannot become the format."""


@dataclass(frozen=True)
class Gate:
    """What a format has to show before it is published.

    Attributes:
        tolerance: How closely its detections must be the checkpoint's; None: as `verify.LIMITS`
            says, entry by entry.
        max_ap_drop: How much of the checkpoint's AP it may lose.
    """

    tolerance: Tolerance | None
    max_ap_drop: float


@dataclass(frozen=True)
class Export:
    """How a format comes about."""

    write: Writer
    gate: Gate


def parse_formats(text: str) -> tuple[str, ...]:
    """Reads `frozen,tflite` or `all`; returns names of `EXPORTS` in its order.

    All is what can be written here: OpenVINO is an extra.

    Raises:
        ConfigError: There is no such format.
        EnvironmentFault: OpenVINO is asked for and not installed.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name != "all" and name not in EXPORTS:
            raise ConfigError(
                f"--formats {text}: there is no format {name!r}",
                remedy=f"choose from {', '.join(EXPORTS)}, or all",
            )
    if "openvino" in names:
        require_openvino()
    return tuple(
        name
        for name in EXPORTS
        if name in names or ("all" in names and (name != "openvino" or has_openvino()))
    )


def choose_formats(text: str, architecture: str) -> tuple[str, ...]:
    """Reads formats as `parse_formats` does; `all` leaves out what an architecture has no form of.

    Args:
        text: Names with commas between, or `all`.
        architecture: As in `ModelConfig.architecture`.

    Raises:
        ConfigError: There is no such format, or not of this architecture.
        EnvironmentFault: OpenVINO is asked for and not installed.
    """
    names = parse_formats(text)
    if architecture in _ONE_STAGE:
        return names
    named = [part.strip() for part in text.split(",")]
    others = [name for name in names if FORMATS[name].runtime == "litert"]
    refused = [name for name in others if name in named]
    if refused:
        raise ConfigError(
            f"--formats {text}: {architecture} has no TFLite form, which takes a network of one stage",
            remedy=f"leave out {', '.join(refused)}",
        )
    return tuple(name for name in names if name not in others)


def _write_frozen(job: Job) -> Iterator[Notes]:
    from detflow.exporting.frozen import write_frozen_graph

    serving, label_map = job.trained.serving, job.trained.label_map
    pixels, files = (job.artifact.path / entry.path for entry in FORMATS["frozen"].entries)
    write_frozen_graph(serving.detect_traced.get_concrete_function(), label_map, pixels)
    write_frozen_graph(serving.detect_encoded_traced.get_concrete_function(), label_map, files)
    yield {}


def _write_saved_model(job: Job) -> Iterator[Notes]:
    from detflow.exporting.saved_model import write_saved_model

    write_saved_model(
        job.trained.serving,
        job.artifact.label_map_path,
        job.artifact.path / FORMATS["saved_model"].paths[0],
    )
    yield {}


def _write_onnx(job: Job) -> Iterator[Notes]:
    from detflow.exporting.onnx import write_onnx

    write_onnx(
        job.trained.serving,
        job.trained.label_map,
        job.artifact.path / FORMATS["onnx"].entries[0].path,
    )
    yield {}


def _write_openvino(job: Job) -> Iterator[Notes]:
    from detflow.exporting.openvino import write_openvino

    write_openvino(
        job.trained.serving,
        job.trained.label_map,
        job.artifact.path / FORMATS["openvino"].entries[0].path,
    )
    yield {}


def _write_tflite(
    name: str, precision: Literal["float32", "float16", "dynamic"], job: Job
) -> Iterator[Notes]:
    from detflow.exporting.tflite import write_float

    yield from write_float(job, name, precision)


def _write_tflite_int8(job: Job) -> Iterator[Notes]:
    from detflow.exporting.tflite import write_int8

    yield from write_int8(job, "tflite_int8")


# TensorFlow computes what TensorFlow computed.
_EXACT: Final = Gate(None, 0.005)
_FLOAT: Final = Gate(
    Tolerance(score_threshold=0.3, min_iou=0.9, max_score_difference=0.05, min_share=0.98), 0.005
)
_INT8: Final = Gate(
    Tolerance(score_threshold=0.3, min_iou=0.75, max_score_difference=0.15, min_share=0.9), 0.02
)

# Another library rounds elsewhere; what is at a threshold falls to one side or the other.
_SAME_NETWORK: Final = Gate(
    Tolerance(score_threshold=0.05, min_iou=0.99, max_score_difference=1e-3, min_share=0.999), 0.005
)

EXPORTS: Final[Mapping[str, Export]] = {
    "frozen": Export(_write_frozen, _EXACT),
    "saved_model": Export(_write_saved_model, _EXACT),
    "tflite": Export(functools.partial(_write_tflite, "tflite", "float32"), _FLOAT),
    "tflite_float16": Export(functools.partial(_write_tflite, "tflite_float16", "float16"), _FLOAT),
    "tflite_dynamic": Export(functools.partial(_write_tflite, "tflite_dynamic", "dynamic"), _INT8),
    "tflite_int8": Export(_write_tflite_int8, _INT8),
    "onnx": Export(_write_onnx, _SAME_NETWORK),
    "openvino": Export(_write_openvino, _SAME_NETWORK),
}
"""Every format that can be exported, in the order in which they are written."""
