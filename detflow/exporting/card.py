"""The model card: `model.json`, which says what an artifact is, where it comes from and how well it was proved."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from detflow.artifact import CONTRACT, FORMATS
from detflow.errors import ArtifactError
from detflow.exporting.formats import Gate, Notes
from detflow.exporting.images import ProofImages
from detflow.exporting.proof import Proof, Reference
from detflow.exporting.verify import LIMITS
from detflow.inference.trained import TrainedModel
from detflow.publish import FileDigest

__all__ = ["FORMAT_VERSION", "FormatResult", "Rung", "build_card"]

FORMAT_VERSION = 2
_PACKAGES = ("detflow", "tensorflow", "tf-keras", "tf-models-official", "numpy")


@dataclass(frozen=True)
class Rung:
    """One way of writing a format, and what came of it."""

    notes: Notes
    proof: Proof


@dataclass(frozen=True)
class FormatResult:
    """What came of a format.

    Attributes:
        gate: What it was held to.
        rungs: The ways that were tried, in order; where one passed it is the last.
        failure: Why it is not published; None where it is.
        seconds: What writing and proving it took, on all its rungs.
    """

    gate: Gate
    rungs: Sequence[Rung]
    failure: ArtifactError | None
    seconds: float


def build_card(
    trained: TrainedModel,
    proof: ProofImages,
    reference: Reference,
    results: Mapping[str, FormatResult],
    files: Mapping[str, FileDigest],
) -> dict[str, Any]:
    """Returns the content of `model.json`.

    Args:
        trained: The exported checkpoint.
        proof: What the formats were proved on.
        reference: The checkpoint on it.
        results: By format.
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
        "canvas_size": _describe_size(trained.config.model.input_size),
        "more_canvas_sizes": [
            _describe_size(size) for size in trained.config.model.more_input_sizes
        ],
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
            "num_images": len(reference.outputs),
            "metrics": reference.metrics,
            "limits": LIMITS,
        },
        "formats": {
            name: _describe_format(name, result, reference, files)
            for name, result in results.items()
            if result.failure is None
        },
        "failed": {
            name: _describe_failure(result, reference)
            for name, result in results.items()
            if result.failure is not None
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
        "files": dict(files),
    }


def _describe_size(size: tuple[int, int]) -> dict[str, int]:
    return dict(zip(("height", "width"), size, strict=True))


def _describe_format(
    name: str, result: FormatResult, reference: Reference, files: Mapping[str, FileDigest]
) -> dict[str, Any]:
    form, passed = FORMATS[name], result.rungs[-1]
    return {
        "paths": list(form.paths),
        "bytes": sum(
            digest["bytes"]
            for file, digest in files.items()
            if file.partition("/")[0] in form.paths
        ),
        "runtime": form.runtime,
        "seconds": round(result.seconds, 1),
        "entries": {
            entry.name: {
                "path": entry.path,
                "input": entry.input_name,
                "p50_ms": round(passed.proof.p50_ms[entry.name], 2),
                **asdict(passed.proof.agreements[entry.name]),
            }
            for entry in form.entries
            if entry.name in passed.proof.agreements
        },
        "refused": dict(passed.proof.refused),
        "gate": asdict(result.gate),
        **_describe_metrics(passed.proof, reference),
        **passed.notes,
        **_describe_rungs(result, reference),
    }


def _describe_failure(result: FormatResult, reference: Reference) -> dict[str, Any]:
    return {
        "reason": str(result.failure),
        "seconds": round(result.seconds, 1),
        "gate": asdict(result.gate),
        **_describe_rungs(result, reference),
    }


def _describe_rungs(result: FormatResult, reference: Reference) -> dict[str, Any]:
    """What was tried on the way, where there was more than one way."""
    rungs = [
        {
            **rung.notes,
            **_describe_metrics(rung.proof, reference),
            "failure": str(rung.proof.failure) if rung.proof.failure else None,
        }
        for rung in result.rungs
    ]
    return {"rungs": rungs} if any("rung" in rung.notes for rung in result.rungs) else {}


def _describe_metrics(proof: Proof, reference: Reference) -> dict[str, Any]:
    """AP and AP50, and how much of the checkpoint's they are below or above; null where it could not be measured."""
    metrics, before = proof.metrics, reference.metrics
    if metrics is None or before is None:
        return {"metrics": None, "change": None}
    change = {
        name: None if value is None or before[name] is None else value - (before[name] or 0.0)
        for name, value in metrics.items()
    }
    return {"metrics": dict(metrics), "change": change}
