"""Train and deploy object detectors from a folder of images and annotations.

The names in `__all__` are the whole public interface; docs/api.md describes them. Every module
below this one is private and may change without notice. A name is loaded when it is first used, so
that `import detflow` costs nothing: NumPy comes with the first function, TensorFlow with the first
one that trains, exports, or runs a model that nothing lighter can run.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from detflow.version import __version__

__all__ = [
    "Action",
    "ArtifactError",
    "Box",
    "ConfigError",
    "DataError",
    "Detection",
    "Detections",
    "Detector",
    "DetflowError",
    "EnvironmentFault",
    "ExperimentConfig",
    "LabelMap",
    "Locked",
    "Sample",
    "__version__",
    "check",
    "compare",
    "convert",
    "diff",
    "evaluate",
    "export",
    "fetch_weights",
    "init",
    "list_weights",
    "load_detector",
    "make_records",
    "predict",
    "push",
    "read_samples",
    "train",
]

if TYPE_CHECKING:
    from detflow.api.comparison import compare
    from detflow.api.data import check, convert, init, make_records, read_samples
    from detflow.api.difference import diff
    from detflow.api.model import evaluate, export, load_detector, predict
    from detflow.api.publishing import push
    from detflow.api.training import train
    from detflow.api.weights import fetch_weights, list_weights
    from detflow.config.schema import ExperimentConfig
    from detflow.errors import (
        ArtifactError,
        ConfigError,
        DataError,
        DetflowError,
        EnvironmentFault,
        Locked,
    )
    from detflow.inference.detections import Detections
    from detflow.inference.detector import Detector
    from detflow.label_map import LabelMap
    from detflow.training.loop import Action
    from detflow.types import Box, Detection, Sample

_HOMES = {
    "detflow.api.comparison": ("compare",),
    "detflow.api.difference": ("diff",),
    "detflow.api.data": ("check", "convert", "init", "make_records", "read_samples"),
    "detflow.api.model": ("evaluate", "export", "load_detector", "predict"),
    "detflow.api.training": ("train",),
    "detflow.api.publishing": ("push",),
    "detflow.api.weights": ("fetch_weights", "list_weights"),
    "detflow.config.schema": ("ExperimentConfig",),
    "detflow.errors": (
        "ArtifactError",
        "ConfigError",
        "DataError",
        "DetflowError",
        "EnvironmentFault",
        "Locked",
    ),
    "detflow.inference.detections": ("Detections",),
    "detflow.inference.detector": ("Detector",),
    "detflow.label_map": ("LabelMap",),
    "detflow.training.loop": ("Action",),
    "detflow.types": ("Box", "Detection", "Sample"),
}


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first asked for."""
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__]
    )


def __dir__() -> list[str]:
    """Returns the public names, loaded or not."""
    return __all__
