"""OpenVINO's IR files, run on the CPU. OpenVINO is an extra of this package."""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from detflow.artifact import INPUT_NAME, OUTPUT_NAMES
from detflow.errors import ArtifactError, EnvironmentFault
from detflow.geometry import Images
from detflow.inference.detector import Outputs, Runner
from detflow.process.quiet import native_stderr_closed
from detflow.text import first_line

__all__ = ["compile_for_cpu", "has_openvino", "load_openvino", "require_openvino"]


def has_openvino() -> bool:
    """Tells whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def require_openvino() -> None:
    """Raises EnvironmentFault where OpenVINO is not installed."""
    if not has_openvino():
        raise EnvironmentFault("OpenVINO is not installed", remedy="pip install detflow[openvino]")


def compile_for_cpu(model: Any, threads: int) -> Any:
    """Compiles a model, or a file's path, in float32 even where the processor has a faster, coarser type.

    Args:
        model: What `openvino.Core.compile_model` takes.
        threads: 0 lets OpenVINO choose.

    Raises:
        RuntimeError: As OpenVINO raises it.
    """
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    return _core().compile_model(
        model, "CPU", options | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
    )


@functools.cache
def _core() -> Any:
    """Returns the one core of this process.

    Its CPU plugin sets the stack that signal handlers run on, and sets the one from before back
    when it goes. Of two plugins, the one that goes last sets back the stack of the first, which is
    gone: the next signal ends the process (seen with 2026.4).
    """
    import openvino

    return openvino.Core()


def load_openvino(path: Path, *, threads: int = 0) -> Runner:
    """Loads a model that keeps the serving contract.

    Args:
        path: The `.xml` file, with its `.bin` beside it.
        threads: 0 lets OpenVINO choose.

    Raises:
        ArtifactError: It is damaged, or not a detector of this contract.
        EnvironmentFault: OpenVINO is not installed.
    """
    require_openvino()
    try:
        # What is no model goes through the readers of all its frontends, TensorFlow's among them,
        # and they all tell so on stderr.
        with native_stderr_closed():
            model = compile_for_cpu(os.fspath(path), threads)
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
        # The next call writes into the same memory.
        return {name: np.array(request.get_tensor(name).data) for name in OUTPUT_NAMES}

    return run
