"""OpenVINO's IR, two files that OpenVINO runs on the CPU. OpenVINO is an extra of this package."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
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
from detflow.errors import ArtifactError
from detflow.geometry import Images
from detflow.inference.detector import Outputs, Runner
from detflow.inference.formats.base import EntryPoint, Format
from detflow.inference.labels import parse_json_labels
from detflow.inference.tensors import Tensor, Tensors
from detflow.label_map import LabelMap
from detflow.process.quiet import native_stderr_closed
from detflow.text import first_line

NAMES_KEY: Final = ("model_info", CLASS_NAMES_NODE)
"""Place of the class names in an IR file: a JSON list."""

_SNIPPET = """import json

import numpy as np
import openvino
from PIL import Image, ImageOps

model = openvino.Core().read_model("{path}")
names = json.loads(model.get_rt_info({names}).astype(str))
# Some processors would compute in bfloat16; the export was proved in float32.
model = openvino.compile_model(model, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
photo = np.asarray(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))
found = model({{"image_tensor": photo[np.newaxis]}})
for i in range(int(found["num_detections"][0])):
    name = names[int(found["detection_classes"][0, i]) - 1]
    print(name, found["detection_scores"][0, i], found["detection_boxes"][0, i])
"""


class OpenVino(Format):
    """The ONNX file's graph as OpenVINO's own files."""

    name = "openvino"
    runtime = "openvino"
    runtime_title = "OpenVINO"
    entries = (EntryPoint("openvino/model.xml", INPUT_NAME),)
    suffixes = (".xml",)
    holds_names = True
    extra = "openvino"

    @override
    def is_installed(self) -> bool:
        return has_openvino()

    @override
    def load(self, path: Path, entry: EntryPoint, *, threads: int = 0) -> Runner:
        self.require_installed()
        return load_openvino(path, threads=threads)

    @override
    def load_bare_network(
        self, path: Path, entry: EntryPoint, canvas_size: tuple[int, int], *, threads: int = 0
    ) -> Callable[[], object]:
        import openvino

        canvas = np.zeros((1, 3, *canvas_size), np.float32)
        model = openvino.Core().read_model(os.fspath(path))
        tensors = {
            name: output
            for node in model.get_ops()
            for output in node.outputs()
            for name in output.get_names()
        }
        part = openvino.opset13.parameter(canvas.shape, np.float32)
        for target in tensors[CANVASES_NAME].get_target_inputs():
            target.replace_source_output(part.output(0))
        network = openvino.Model([tensors[BOXES_NAME], tensors[SCORES_NAME]], [part], "network")
        request = _compile_for_cpu(network, threads).create_infer_request()
        return lambda: request.infer([canvas])

    @override
    def read_names(self, path: Path) -> LabelMap | None:
        model = _core().read_model(os.fspath(path))
        if not model.has_rt_info(list(NAMES_KEY)):
            return None
        return parse_json_labels(model.get_rt_info(list(NAMES_KEY)).astype(str), path)

    @override
    def read_tensors(self, path: Path, entry: EntryPoint) -> Tensors | None:
        model = _core().read_model(os.fspath(path))
        inputs, outputs = (
            tuple(
                Tensor(port.get_any_name(), port.get_element_type().to_dtype().name)
                for port in ports
            )
            for ports in (model.inputs, model.outputs)
        )
        return Tensors(inputs, outputs)

    @override
    def snippet(self, entry: EntryPoint) -> str | None:
        return _SNIPPET.format(path=entry.path, names=json.dumps(NAMES_KEY))


def has_openvino() -> bool:
    """Tells whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def load_openvino(path: Path, *, threads: int = 0) -> Runner:
    """Loads a model that keeps the serving contract.

    Args:
        path: The `.xml` file, with its `.bin` beside it.
        threads: Threads of one operation; 0 lets OpenVINO choose.

    Raises:
        ArtifactError: It is damaged, or not a detector of this contract.
    """
    try:
        # A file that is no model goes through the readers of all of OpenVINO's frontends,
        # TensorFlow's among them, and each of them complains on stderr.
        with native_stderr_closed():
            model = _compile_for_cpu(os.fspath(path), threads)
        request = model.create_infer_request()
        names = [value.get_any_name() for value in model.inputs]
        for name in OUTPUT_NAMES:
            model.output(name)
    except RuntimeError as error:
        raise ArtifactError(
            f"not a detector that OpenVINO loads: {first_line(error)}", path=path
        ) from None
    if names != [INPUT_NAME]:
        raise ArtifactError(
            f"not a detector of the serving contract: it takes {', '.join(names)}", path=path
        )

    def run(images: Images) -> Outputs:
        try:
            request.infer({INPUT_NAME: images})
        except RuntimeError as error:
            raise ArtifactError(f"the model cannot run: {first_line(error)}", path=path) from None
        # The arrays are copied, because the next call writes into the same memory.
        return {name: np.array(request.get_tensor(name).data) for name in OUTPUT_NAMES}

    return run


def _compile_for_cpu(model: Any, threads: int) -> Any:
    """Compiles a model, or a file's path, in float32 even where a faster, coarser type exists.

    Args:
        model: What `openvino.Core.compile_model` takes.
        threads: 0 lets OpenVINO choose.

    Raises:
        RuntimeError: OpenVINO refuses the model.
    """
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    return _core().compile_model(model, "CPU", options)


@functools.cache
def _core() -> Any:
    """Returns the one core of this process.

    OpenVINO's CPU plugin sets the stack that signal handlers run on, and restores the former one
    when it is unloaded. Of two plugins, the one that is unloaded last restores the stack of the
    first, which no longer exists: the next signal then ends the process (seen with 2026.4).
    """
    import openvino

    return openvino.Core()
