"""Libraries that the light installation lacks, and the extra of this package that brings each."""

from __future__ import annotations

import importlib.util
from typing import Final

from detflow.errors import EnvironmentFault

_LIBRARIES: Final = {
    "av": ("PyAV", "video"),
    "matplotlib": ("Matplotlib", "plots"),
    "official": ("TensorFlow Model Garden", "train"),
    "openvino": ("OpenVINO", "openvino"),
    "tensorflow": ("TensorFlow", "train"),
    "tf2onnx": ("tf2onnx", "train"),
    "tf_keras": ("TensorFlow's Keras", "train"),
}
"""By import name: what a person calls it, and its extra."""


def is_installed(module: str) -> bool:
    """Tells whether a library can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def require_library(module: str, what: str) -> None:
    """Refuses what needs a library that is not installed, before any work is done.

    Args:
        module: The library's import name.
        what: What needs it, as the subject of a sentence in the singular: "training".

    Raises:
        EnvironmentFault: It is not installed; the message has the command that installs it.
    """
    if not is_installed(module):
        raise _build_fault(module, what)


def describe_install(extra: str) -> str:
    """Returns how an extra of this package is installed."""
    return f"pip install '.[{extra}]' in the checkout of detflow"


def translate_missing(error: ImportError) -> EnvironmentFault | None:
    """Returns what to tell of a failed import; None where no extra brings the library."""
    module = (error.name or "").partition(".")[0]
    return _build_fault(module, "this") if module in _LIBRARIES else None


def _build_fault(module: str, what: str) -> EnvironmentFault:
    title, extra = _LIBRARIES[module]
    return EnvironmentFault(
        f"{what} needs {title}, which is not installed",
        remedy=describe_install(extra),
    )
