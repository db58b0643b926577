"""TFLite files, run by LiteRT. Their input is one canvas, and their outputs are those of TFLite_Detection_PostProcess."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detflow.artifact import OUTPUT_NAMES
from detflow.errors import ArtifactError
from detflow.geometry import Images, boxes_to_image, fit_to_canvas
from detflow.inference.detector import Outputs, Runner
from detflow.process.quiet import native_stderr_closed
from detflow.text import first_line

__all__ = ["INPUT", "OUTPUTS", "load_tflite", "to_uint8"]

INPUT: Final = "image"
"""The input in the file's signature: a canvas, uint8 [1, height, width, 3], RGB."""

OUTPUTS: Final = ("boxes", "classes", "scores", "count")
"""The outputs in the file's signature, in the order of the operation TFLite_Detection_PostProcess,
all float32: boxes [1, K, 4], [ymin, xmin, ymax, xmax] normalised by the canvas; classes [1, K],
counted from 0; scores [1, K]; count [1]."""


def load_tflite(path: Path, *, threads: int = 0) -> Runner:
    """Loads a TFLite detector that takes a canvas and gives what TFLite_Detection_PostProcess gives.

    Args:
        path: The file.
        threads: Of one operation; 0 takes one a core.

    Returns:
        A runner that keeps the serving contract: it takes images of any size, and fits each into
        the canvas.

    Raises:
        ArtifactError: It is damaged, or not such a detector.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        content = path.read_bytes()
        with native_stderr_closed():
            interpreter: Any = Interpreter(
                model_content=content, num_threads=threads or os.cpu_count()
            )
            interpreter.allocate_tensors()
        signature: Any = interpreter.get_signature_runner()
        (_, height, width, _) = _shape(signature.get_input_details(), INPUT, np.uint8, 4)
        for name, rank in zip(OUTPUTS, (3, 2, 2, 1), strict=True):
            _shape(signature.get_output_details(), name, np.float32, rank)
    except (OSError, RuntimeError, ValueError) as error:
        raise ArtifactError(f"not a TFLite detector: {first_line(error)}", path=path) from None

    def run(images: Images) -> Outputs:
        canvases, ratio = fit_to_canvas(images, (height, width))
        found = []
        for canvas in to_uint8(canvases):
            try:
                found.append(signature(**{INPUT: canvas[np.newaxis]}))
            except (RuntimeError, ValueError) as error:
                raise ArtifactError(
                    f"the model cannot run: {first_line(error)}", path=path
                ) from None
        boxes, classes, scores, count = (
            np.concatenate([one[name] for one in found]) for name in OUTPUTS
        )
        return dict(
            zip(
                OUTPUT_NAMES,
                (boxes_to_image(boxes, ratio), scores, classes + np.float32(1.0), count),
                strict=True,
            )
        )

    return run


def to_uint8(canvases: npt.NDArray[np.float32]) -> Images:
    """Rounds canvases to what a TFLite file takes."""
    return np.clip(np.round(canvases), 0.0, 255.0).astype(np.uint8)


def _shape(details: dict[str, Any], name: str, dtype: type, rank: int) -> Sequence[int]:
    if name not in details:
        raise ValueError(f"its signature has no {name}, only {', '.join(details)}")
    shape = [int(side) for side in details[name]["shape"]]
    if details[name]["dtype"] is not dtype or len(shape) != rank:
        raise ValueError(f"{name} is {np.dtype(details[name]['dtype'])} {shape}")
    return shape
