"""The bare network inside an exported file: what a runtime spends without decoding, resizing and suppression."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detflow.artifact import BOXES_NAME, CANVASES_NAME, OPENCV_SIGNATURE, SCORES_NAME

__all__ = ["load_bare_network"]

Canvas = npt.NDArray[np.float32]


def load_bare_network(
    path: Path, signature: str, threads: int, canvas_size: tuple[int, int]
) -> Callable[[], object]:
    """Loads the part of a file that lies between the normalised canvas and the boxes and scores of all anchors.

    A TFLite file takes a canvas as it stands, and its suppression cannot be taken off: of these the
    whole file is run.

    Args:
        path: The file or folder, as an `artifact.Entry` names it.
        signature: The entry's.
        threads: 0 takes one a core.
        canvas_size: (height, width) in pixels.

    Returns:
        Runs it once, on a black canvas.
    """
    canvas = np.zeros((1, 3, *canvas_size), np.float32)
    if path.suffix == ".onnx":
        return (
            _opencv_network(path, canvas)
            if signature == OPENCV_SIGNATURE
            else _onnxruntime_network(path, threads, canvas)
        )
    if path.suffix == ".xml":
        return _openvino_network(path, threads, canvas)
    if path.suffix == ".tflite":
        return _tflite_network(path, threads)
    from detflow.inference.tensorflow import load_bare_network as load_tensorflow_network

    return load_tensorflow_network(path, canvas_size)


def _cut_onnx(path: Path) -> bytes:
    """Returns the file of the network alone."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, "network.onnx")
        onnx.utils.extract_model(path, part, [CANVASES_NAME], [BOXES_NAME, SCORES_NAME])
        return part.read_bytes()


def _onnxruntime_network(path: Path, threads: int, canvas: Canvas) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        _cut_onnx(path), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {CANVASES_NAME: canvas})


def _opencv_network(path: Path, canvas: Canvas) -> Callable[[], object]:
    import cv2

    net = cv2.dnn.readNetFromONNX(np.frombuffer(_cut_onnx(path), np.uint8))

    def run() -> object:
        net.setInput(canvas, CANVASES_NAME)
        return net.forward([BOXES_NAME, SCORES_NAME])

    return run


def _openvino_network(path: Path, threads: int, canvas: Canvas) -> Callable[[], object]:
    import openvino

    from detflow.inference.openvino import compile_for_cpu

    model = openvino.Core().read_model(os.fspath(path))
    tensors = {
        name: output
        for node in model.get_ops()
        for output in node.outputs()
        for name in output.get_names()
    }
    canvases = tensors[CANVASES_NAME]
    part = openvino.opset13.parameter(canvas.shape, np.float32)
    for target in canvases.get_target_inputs():
        target.replace_source_output(part.output(0))
    network = openvino.Model([tensors[BOXES_NAME], tensors[SCORES_NAME]], [part], "network")
    request = compile_for_cpu(network, threads).create_infer_request()
    return lambda: request.infer([canvas])


def _tflite_network(path: Path, threads: int) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=os.fspath(path), num_threads=threads or os.cpu_count())
    signature = interpreter.get_signature_runner()
    ((name, details),) = signature.get_input_details().items()
    canvas = np.zeros(details["shape"], details["dtype"])
    return lambda: signature(**{name: canvas})
