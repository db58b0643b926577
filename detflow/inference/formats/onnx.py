"""The ONNX file, run by onnxruntime, or by OpenCV's own reader where onnxruntime is missing."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from typing_extensions import override

from detflow.artifact import (
    BOXES_NAME,
    CANVASES_NAME,
    CLASS_NAMES_NODE,
    INPUT_NAME,
    OUTPUT_NAMES,
    SCORES_NAME,
)
from detflow.errors import ArtifactError, EnvironmentFault
from detflow.geometry import Images
from detflow.inference.detector import Outputs, Runner
from detflow.inference.formats.base import EntryPoint, Format
from detflow.inference.labels import read_onnx_labels
from detflow.inference.tensors import Tensor, Tensors
from detflow.label_map import LabelMap
from detflow.process.platform import return_free_pages
from detflow.text import first_line

# After a larger batch onnxruntime gives its memory back: it would keep what the largest one took.
_MAX_KEPT_VALUES = 3 * 2_000_000

OPENCV_SIGNATURE: Final = "OpenCV"
"""Signature of the entry that OpenCV reads the file by."""

_ONNXRUNTIME_SNIPPET = """import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("{path}")
names = json.loads(session.get_modelmeta().custom_metadata_map["{labels}"])
photo = np.asarray(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))
boxes, scores, classes, count = session.run(None, {{"image_tensor": photo[np.newaxis]}})
for i in range(int(count[0])):
    print(names[int(classes[0, i]) - 1], scores[0, i], boxes[0, i])
"""

_OPENCV_SNIPPET = """import ast
import re
from pathlib import Path

import cv2

text = Path("label_map.pbtxt").read_text(encoding="utf-8")
names = [ast.literal_eval(name) for name in re.findall("name: ('.*')", text)]
net = cv2.dnn.readNetFromONNX("{path}")
# OpenCV turns a phone's photo upright by itself.
net.setInput(cv2.cvtColor(cv2.imread("photo.jpg"), cv2.COLOR_BGR2RGB)[None], "image_tensor")
tensors = [{outputs}]
boxes, scores, classes, count = net.forward(tensors)
for i in range(int(count[0])):
    print(names[int(classes[0, i]) - 1], scores[0, i], boxes[0, i])
"""


class Onnx(Format):
    """One file with resize, network and suppression inside; two libraries read it."""

    name = "onnx"
    runtime = "onnxruntime"
    runtime_title = "ONNX Runtime"
    entries = (
        EntryPoint("model.onnx", INPUT_NAME),
        # OpenCV's reader is younger, and its older releases know fixed sizes only.
        EntryPoint("model.onnx", INPUT_NAME, OPENCV_SIGNATURE, is_optional=True),
    )
    suffixes = (".onnx",)
    # Its resize holds many times a batch's pixels, and larger batches are no faster.
    max_batch_pixels = 500_000
    holds_names = True

    @override
    def load(self, path: Path, entry: EntryPoint, *, threads: int = 0) -> Runner:
        if entry.signature == OPENCV_SIGNATURE:
            return load_with_opencv(path, threads=threads)
        return load_onnx(path, threads=threads)

    @override
    def load_bare_network(
        self, path: Path, entry: EntryPoint, canvas_size: tuple[int, int], *, threads: int = 0
    ) -> Callable[[], object]:
        canvas = np.zeros((1, 3, *canvas_size), np.float32)
        network = _cut_network(path)
        if entry.signature == OPENCV_SIGNATURE:
            import cv2

            net = cv2.dnn.readNetFromONNX(np.frombuffer(network, np.uint8))

            def run() -> object:
                net.setInput(canvas, CANVASES_NAME)
                return net.forward([BOXES_NAME, SCORES_NAME])

            return run
        session = _start_session(network, threads)
        return lambda: session.run(None, {CANVASES_NAME: canvas})

    @override
    def read_names(self, path: Path) -> LabelMap | None:
        return read_onnx_labels(path)

    @override
    def read_tensors(self, path: Path, entry: EntryPoint) -> Tensors | None:
        return _read_tensors(path)

    @override
    def snippet(self, entry: EntryPoint) -> str | None:
        outputs = ", ".join(f'"{name}"' for name in OUTPUT_NAMES)
        template = _OPENCV_SNIPPET if entry.signature else _ONNXRUNTIME_SNIPPET
        return template.format(path=entry.path, outputs=outputs, labels=CLASS_NAMES_NODE)


def load_onnx(path: Path, *, threads: int = 0) -> Runner:
    """Loads an ONNX file that keeps the serving contract.

    Args:
        path: The file.
        threads: Threads of one operation; 0 takes one a core.

    Raises:
        ArtifactError: It is damaged, or not a detector of this contract.
    """
    if importlib.util.find_spec("onnxruntime") is not None:
        return load_with_onnxruntime(path, threads=threads)
    return load_with_opencv(path, threads=threads)


def load_with_onnxruntime(path: Path, *, threads: int = 0) -> Runner:
    """Loads an ONNX file in onnxruntime; arguments and errors are those of `load_onnx`."""
    onnxruntime = _import_onnxruntime()
    try:
        session = _start_session(os.fspath(path), threads)
    except Exception as error:  # noqa: BLE001  Its exceptions have no class in common but this.
        raise ArtifactError(
            f"not an ONNX model that onnxruntime loads: {first_line(error)}", path=path
        ) from None
    # Reading a network of 10 MB leaves 16 MB that nobody needs any more.
    return_free_pages()
    inputs, outputs = (
        [value.name for value in values] for values in (session.get_inputs(), session.get_outputs())
    )
    _require_contract(inputs, outputs, path)

    shrinking = onnxruntime.RunOptions()
    shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(images: Images) -> Outputs:
        try:
            values = session.run(
                OUTPUT_NAMES,
                {INPUT_NAME: images},
                shrinking if images.size > _MAX_KEPT_VALUES else None,
            )
        except Exception as error:  # noqa: BLE001
            # Only its words tell that the memory ran out.
            if "bad_alloc" in str(error) or "Failed to allocate memory" in str(error):
                raise EnvironmentFault(
                    f"the memory does not suffice: {first_line(error)}", path=path
                ) from None
            raise ArtifactError(f"the model cannot run: {first_line(error)}", path=path) from None
        return dict(zip(OUTPUT_NAMES, values, strict=True))

    return run


def load_with_opencv(path: Path, *, threads: int = 0) -> Runner:
    """Loads an ONNX file in OpenCV; arguments and errors are those of `load_onnx`.

    OpenCV has one number of threads for the whole process: `threads` sets it.
    """
    import cv2

    if threads:
        cv2.setNumThreads(threads)

    try:
        net = cv2.dnn.readNetFromONNX(os.fspath(path))
        names = list(net.getUnconnectedOutLayersNames())
    except (cv2.error, SystemError) as error:
        raise ArtifactError(
            f"not an ONNX model that OpenCV loads: {first_line(error)}", path=path
        ) from None
    _require_contract([INPUT_NAME], names, path)

    def run(images: Images) -> Outputs:
        try:
            net.setInput(np.ascontiguousarray(images), INPUT_NAME)
            values = net.forward(list(OUTPUT_NAMES))
        except cv2.error as error:
            if error.code == cv2.Error.STS_NO_MEM:
                raise EnvironmentFault(
                    f"the memory does not suffice: {first_line(error)}", path=path
                ) from None
            raise ArtifactError(f"the model cannot run: {first_line(error)}", path=path) from None
        return dict(zip(OUTPUT_NAMES, values, strict=True))

    return run


def _import_onnxruntime() -> Any:
    """Imports onnxruntime, which from 1.29 on tells its maker of each model that it runs.

    It would send the names of file and graph, digests and more from Linux, and leave a file in the
    folder for temporary files. Whoever wants that sets the variable to 0 himself.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _start_session(model: str | bytes, threads: int) -> Any:
    """Returns onnxruntime's session for a file's path or content."""
    onnxruntime = _import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Whatever goes wrong is raised; its log would be a second voice on the terminal.
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _require_contract(inputs: list[str], outputs: list[str], path: Path) -> None:
    if inputs != [INPUT_NAME] or not set(OUTPUT_NAMES) <= set(outputs):
        raise ArtifactError(
            f"not a detector of the serving contract: it takes {', '.join(inputs)} "
            f"and gives {', '.join(outputs)}",
            path=path,
        )


def _read_tensors(path: Path) -> Tensors:
    """Reads the inputs and outputs of a file's graph."""
    import onnx

    graph = onnx.load(os.fspath(path), load_external_data=False).graph
    inputs, outputs = (
        tuple(
            Tensor(
                value.name,
                onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            )
            for value in values
        )
        for values in (graph.input, graph.output)
    )
    return Tensors(inputs, outputs)


def _cut_network(path: Path) -> bytes:
    """Returns an ONNX file of the bare network inside an exported one."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, "network.onnx")
        onnx.utils.extract_model(path, part, [CANVASES_NAME], [BOXES_NAME, SCORES_NAME])
        return part.read_bytes()
