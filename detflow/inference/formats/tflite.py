"""TFLite files, run by LiteRT.

Their input is one canvas, and their outputs are those of TFLite_Detection_PostProcess, an operation
that mobile libraries know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from detflow.artifact import INPUT_NAME, OUTPUT_NAMES
from detflow.errors import ArtifactError
from detflow.geometry import Images, boxes_to_image, fit_to_canvas
from detflow.inference.detector import Outputs, Runner
from detflow.inference.formats.base import EntryPoint, Format
from detflow.inference.labels import read_tflite_labels
from detflow.label_map import LabelMap
from detflow.process.quiet import native_stderr_closed
from detflow.text import first_line

TflitePrecision: TypeAlias = Literal["float32", "float16", "dynamic", "int8"]
"""Numbers of a file: floats; float16 weights; int8 weights and float activations ("dynamic"); int8
weights and activations."""

INPUT: Final = "image"
"""The input in the file's signature: a canvas, uint8 [1, height, width, 3], RGB."""

OUTPUTS: Final = ("boxes", "classes", "scores", "count")
"""The outputs in the file's signature, in the order of the operation TFLite_Detection_PostProcess,
all float32: boxes [1, K, 4], [ymin, xmin, ymax, xmax] normalised by the canvas; classes [1, K],
counted from 0; scores [1, K]; count [1]."""

_SNIPPET = """import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

detect = Interpreter("{path}").get_signature_runner()
_, height, width, _ = detect.get_input_details()["image"]["shape"]
photo = Image.open("photo.jpg").convert("RGB")
scale = min(height / photo.height, width / photo.width)
size = (round(photo.width * scale), round(photo.height * scale))
canvas = Image.new("RGB", (width, height), (124, 116, 104))
canvas.paste(photo.resize(size, Image.Resampling.BILINEAR))
found = detect(image=np.asarray(canvas)[np.newaxis])
boxes, scores, classes = found["boxes"], found["scores"], found["classes"]
print(int(found["count"][0]), boxes[0, 0], scores[0, 0], int(classes[0, 0]) + 1)
"""


class Tflite(Format):
    """A TFLite file of one precision.

    Args:
        name: The format's name; the file is called `model.tflite` or `model_PRECISION.tflite`.
        precision: The numbers that it computes in.
    """

    runtime = "litert"
    runtime_title = "LiteRT"
    suffixes = (".tflite",)
    needs_one_stage = True
    canvas = "first"

    def __init__(self, name: str, precision: TflitePrecision) -> None:
        self.name = name
        self.precision: TflitePrecision = precision
        self.entries = (EntryPoint(f"model{name.removeprefix('tflite')}.tflite", INPUT_NAME),)

    @override
    def load(self, path: Path, entry: EntryPoint, *, threads: int = 0) -> Runner:
        return load_tflite(path, threads=threads)

    @override
    def load_bare_network(
        self, path: Path, entry: EntryPoint, canvas_size: tuple[int, int], *, threads: int = 0
    ) -> Callable[[], object]:
        # The file takes a canvas as it stands, and its suppression cannot be taken off: all of it
        # is run.
        signature = _start_interpreter(threads, model_path=os.fspath(path))
        ((name, details),) = signature.get_input_details().items()
        canvas = np.zeros(details["shape"], details["dtype"])
        return lambda: signature(**{name: canvas})

    @override
    def read_names(self, path: Path) -> LabelMap | None:
        return read_tflite_labels(path)

    @override
    def snippet(self, entry: EntryPoint) -> str | None:
        return _SNIPPET.format(path=entry.path)


def load_tflite(path: Path, *, threads: int = 0) -> Runner:
    """Loads a TFLite detector with the outputs of TFLite_Detection_PostProcess.

    Args:
        path: The file.
        threads: Threads of one operation; 0 takes one a core.

    Returns:
        A runner that keeps the serving contract: it takes images of any size, and fits each into
        the canvas.

    Raises:
        ArtifactError: It is damaged, or not such a detector.
    """
    try:
        content = path.read_bytes()
        with native_stderr_closed():
            signature = _start_interpreter(threads, model_content=content)
        (_, height, width, _) = _read_shape(signature.get_input_details(), INPUT, np.uint8, 4)
        for name, rank in zip(OUTPUTS, (3, 2, 2, 1), strict=True):
            _read_shape(signature.get_output_details(), name, np.float32, rank)
    except (OSError, RuntimeError, ValueError) as error:
        raise ArtifactError(f"not a TFLite detector: {first_line(error)}", path=path) from None

    def run(images: Images) -> Outputs:
        canvases, ratio = fit_to_canvas(images, (height, width))
        answers = []
        for canvas in to_uint8(canvases):
            try:
                answers.append(signature(**{INPUT: canvas[np.newaxis]}))
            except (RuntimeError, ValueError) as error:
                raise ArtifactError(
                    f"the model cannot run: {first_line(error)}", path=path
                ) from None
        boxes, classes, scores, count = (
            np.concatenate([answer[name] for answer in answers]) for name in OUTPUTS
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
    """Rounds canvases to the whole grey levels that a TFLite file takes."""
    return np.clip(np.round(canvases), 0.0, 255.0).astype(np.uint8)


def _start_interpreter(threads: int, **model: str | bytes) -> Any:
    """Returns the function that runs the one signature of a file, given by its path or content."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(**model, num_threads=threads or os.cpu_count())
    interpreter.allocate_tensors()
    return interpreter.get_signature_runner()


def _read_shape(details: dict[str, Any], name: str, dtype: type, rank: int) -> Sequence[int]:
    """Returns a tensor's shape; raises ValueError where its dtype or rank is another."""
    if name not in details:
        raise ValueError(f"its signature has no {name}, only {', '.join(details)}")
    shape = [int(side) for side in details[name]["shape"]]
    if details[name]["dtype"] is not dtype or len(shape) != rank:
        raise ValueError(f"{name} is {np.dtype(details[name]['dtype'])} {shape}")
    return shape
