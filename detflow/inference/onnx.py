"""ONNX files, run by onnxruntime, or by OpenCV's own reader where onnxruntime is not installed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from detflow.artifact import INPUT_NAME, OUTPUT_NAMES
from detflow.errors import ArtifactError, EnvironmentFault
from detflow.geometry import Images
from detflow.inference.detector import Outputs, Runner
from detflow.text import first_line

__all__ = ["load_onnx", "load_with_onnxruntime", "load_with_opencv"]


def load_onnx(path: Path, *, threads: int = 0) -> Runner:
    """Loads an ONNX file that keeps the serving contract.

    Args:
        path: The file.
        threads: Of one operation; 0 takes one a core.

    Raises:
        ArtifactError: It is damaged, or not a detector of this contract.
    """
    if importlib.util.find_spec("onnxruntime") is not None:
        return load_with_onnxruntime(path, threads=threads)
    return load_with_opencv(path, threads=threads)


def load_with_onnxruntime(path: Path, *, threads: int = 0) -> Runner:
    """Loads an ONNX file in onnxruntime; arguments and errors are those of `load_onnx`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Whatever goes wrong is raised; its log would be a second voice on the terminal.
    options.log_severity_level = 4
    try:
        session: Any = onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001  Its exceptions have no class in common but this.
        raise ArtifactError(
            f"not an ONNX model that onnxruntime loads: {first_line(error)}", path=path
        ) from None
    inputs, outputs = (
        [value.name for value in values] for values in (session.get_inputs(), session.get_outputs())
    )
    _require_contract(inputs, outputs, path)

    def run(images: Images) -> Outputs:
        try:
            values = session.run(OUTPUT_NAMES, {INPUT_NAME: images})
        except Exception as error:  # noqa: BLE001
            # It tells of memory in words only.
            if "bad_alloc" in str(error) or "Failed to allocate memory" in str(error):
                raise EnvironmentFault(
                    f"the memory does not suffice: {first_line(error)}", path=path
                ) from None
            raise ArtifactError(f"the model cannot run: {first_line(error)}", path=path) from None
        return dict(zip(OUTPUT_NAMES, values, strict=True))

    return run


def load_with_opencv(path: Path, *, threads: int = 0) -> Runner:
    """Loads an ONNX file in OpenCV; arguments and errors are those of `load_onnx`. The threads are those of all OpenCV."""
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


def _require_contract(inputs: list[str], outputs: list[str], path: Path) -> None:
    if inputs != [INPUT_NAME] or not set(OUTPUT_NAMES) <= set(outputs):
        raise ArtifactError(
            f"not a detector of the serving contract: it takes {', '.join(inputs)} and gives {', '.join(outputs)}",
            path=path,
        )
