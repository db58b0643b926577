"""The model card: `model.json`, which says what an artifact is, where it comes from and how well it was proved."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from detflow.artifact import CONTRACT
from detflow.engine.trained import TrainedModel
from detflow.export.images import ProofImages
from detflow.export.verify import LIMITS, Agreement
from detflow.publish import FileDigest

__all__ = ["FORMAT_VERSION", "build_card"]

FORMAT_VERSION = 1
_PACKAGES = ("detflow", "tensorflow", "tf-keras", "tf-models-official", "numpy")


def build_card(
    trained: TrainedModel, proof: ProofImages, agreements: Mapping[str, Agreement], files: Mapping[str, FileDigest]
) -> dict[str, Any]:
    """Returns the content of `model.json`.

    Args:
        trained: The exported checkpoint.
        proof: What the formats were proved on.
        agreements: By format.
        files: Digests of every other file in the folder.
    """
    serving = trained.serving.config
    return {
        "format_version": FORMAT_VERSION,
        "classes": list(trained.label_map),
        "contract": CONTRACT,
        "thresholds": {
            "score_threshold": serving.score_threshold,
            "nms_iou": serving.nms_iou,
            "max_detections": serving.max_detections,
        },
        "canvas_size": dict(zip(("height", "width"), trained.config.model.input_size, strict=True)),
        "checkpoint": {
            "name": trained.checkpoint_path.name,
            "step": trained.state.step,
            "metrics": dict(trained.state.metrics),
            "files": dict(trained.state.files),
        },
        "training": trained.run.read_provenance(),
        "parity": {
            "images": proof.kind,
            "source": proof.source,
            "limits": LIMITS,
            "formats": {name: asdict(agreement) for name, agreement in agreements.items()},
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "files": dict(files),
    }
