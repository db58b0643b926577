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

from detflow.artifact import INPUT_NAME, OUTPUT_NAMES, TFLITE_CONTRACT
from detflow.errors import ArtifactError
from detflow.geometry import Images, boxes_to_image, fit_to_canvas
from detflow.inference.detector import Outputs, Runner
from detflow.inference.formats.base import EntryPoint, Format
from detflow.inference.labels import read_tflite_labels
from detflow.inference.tensors import Tensor, Tensors
from detflow.label_map import LabelMap
from detflow.process.quiet import native_stderr_closed
from detflow.text import first_line

TflitePrecision: TypeAlias = Literal["float32", "float16", "dynamic", "int8"]
"""Numbers of a file: floats; float16 weights; int8 weights and float activations ("dynamic"); int8
weights and activations."""

(INPUT,) = TFLITE_CONTRACT["inputs"]
"""The input in the file's signature: a canvas, uint8 [1, height, width, 3], RGB."""

OUTPUTS: Final = tuple(TFLITE_CONTRACT["outputs"])
"""The outputs in the file's signature, in the order of the operation TFLite_Detection_PostProcess:
boxes, classes, scores, count."""

_SNIPPET = """import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

names = zipfile.ZipFile("{path}").read("labels.txt").decode().split("\\n")
detect = Interpreter("{path}").get_signature_runner()
_, height, width, _ = detect.get_input_details()["image"]["shape"]
photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
fitted = ImageOps.contain(photo, (width, height), Image.Resampling.BILINEAR)
canvas = Image.new("RGB", (width, height), (124, 116, 104))
canvas.paste(fitted)
found = detect(image=np.asarray(canvas)[np.newaxis])
boxes = found["boxes"][0] * ([height / fitted.height, width / fitted.width] * 2)
for i in range(int(found["count"][0])):
    print(names[int(found["classes"][0, i])], found["scores"][0, i], boxes[i].clip(0, 1))
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
    holds_names = True
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
    def read_tensors(self, path: Path, entry: EntryPoint) -> Tensors | None:
        return _read_tensors(path)

    @override
    def expected_tensors(self, entry: EntryPoint) -> Tensors:
        inputs, outputs = (
            tuple(
                Tensor(_join_names(name, tensor["tensor"]), tensor["dtype"])
                for name, tensor in TFLITE_CONTRACT[part].items()
            )
            for part in ("inputs", "outputs")
        )
        return Tensors(inputs, outputs)

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


def _read_tensors(path: Path) -> Tensors:
    """Reads the inputs and outputs of a file, in the order in which readers by number find them."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=os.fspath(path))
    signature = interpreter.get_signature_runner()
    inputs, outputs = (
        tuple(
            Tensor(
                _join_names(names.get(tensor["index"], ""), tensor["name"]),
                np.dtype(tensor["dtype"]).name,
            )
            for tensor in tensors
        )
        for names, tensors in (
            (_number_names(signature.get_input_details()), interpreter.get_input_details()),
            (_number_names(signature.get_output_details()), interpreter.get_output_details()),
        )
    )
    return Tensors(inputs, outputs)


def _number_names(details: dict[str, Any]) -> dict[int, str]:
    """Returns the names in a signature by the numbers of their tensors."""
    return {tensor["index"]: name for name, tensor in details.items()}


def _join_names(name: str, tensor: str) -> str:
    """Names a tensor by its name in the signature and its own."""
    return f"{name} ({tensor})"


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
