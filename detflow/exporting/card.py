"""The model card `model.json`: what an export is, where it comes from, and how it was proved."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from detflow.artifact import CONTRACT, TFLITE_CONTRACT
from detflow.digests import FileDigest
from detflow.errors import ArtifactError
from detflow.exporting.formats.base import Notes
from detflow.exporting.proof.compare import LIMITS, Gate
from detflow.exporting.proof.gate import Proof, Reference
from detflow.exporting.proof.images import ProofImages
from detflow.exporting.proof.recorded import RecordedAp
from detflow.inference.formats.base import EntryPoint, Format
from detflow.inference.formats.tflite import Tflite
from detflow.inference.trained import TrainedModel
from detflow.runs.learnt import find_learnt_splits
from detflow.version import __version__

FORMAT_VERSION = 4
_PACKAGES = ("tensorflow", "tf-keras", "tf-models-official", "numpy")


@dataclass(frozen=True)
class Rung:
    """One way of writing a format, and its proof."""

    notes: Notes
    proof: Proof


@dataclass(frozen=True)
class FormatResult:
    """A format after it was written and proved.

    Attributes:
        format: The format.
        gate: The gate that it was held to.
        rungs: The ways that were tried, in order; if one passed it is the last.
        failure: Why the format is not published; None if it is.
        seconds: Time that writing, proving and timing it took, on all its rungs.
        p50_ms: Median time of an image through the preferred entry; None if it is not published.
    """

    format: Format
    gate: Gate
    rungs: Sequence[Rung]
    failure: ArtifactError | None
    seconds: float
    p50_ms: float | None = None


@dataclass(frozen=True)
class Measured:
    """What is known of a checkpoint beside its formats.

    Attributes:
        quality: How good it is, as from `quality.measure_quality`.
        data: What it was trained on, as from `training_data.describe_training_data`.
        chosen_by: What made it the best one, as from `training_data.describe_choice`.
        minutes: How long its training took; None where nothing tells.
        recorded: AP of the checkpoint beside the one that its state has.
    """

    quality: Mapping[str, Any]
    data: Mapping[str, Any]
    chosen_by: Mapping[str, Any] | None
    minutes: float | None
    recorded: RecordedAp


def build_card(
    trained: TrainedModel,
    proof: ProofImages,
    reference: Reference,
    measured: Measured,
    results: Sequence[FormatResult],
    layouts: Mapping[str, Sequence[str]],
    files: Mapping[str, FileDigest],
) -> dict[str, Any]:
    """Returns the content of `model.json`.

    Args:
        trained: The exported checkpoint.
        proof: The images that the formats were proved on.
        reference: The checkpoint on these images.
        measured: What else is known of it.
        results: The formats, in the order in which they were written.
        layouts: The models of each server's layout in the folder.
        files: Digests of every other file in the folder.
    """
    serving = trained.serving.config
    return {
        "format_version": FORMAT_VERSION,
        "exported": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "classes": list(trained.label_map),
        "contract": CONTRACT,
        **_describe_tflite(results),
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
        "quality": measured.quality,
        "chosen_by": measured.chosen_by,
        "data": measured.data,
        "minutes": measured.minutes,
        "training": dict(trained.state.run),
        "parity": {
            "images": proof.kind,
            "role": _find_role(trained, proof),
            "source": proof.source,
            "num_images": len(reference.outputs),
            "metrics": reference.metrics,
            "objects": reference.objects,
            "interval": reference.interval,
            "recorded": asdict(measured.recorded),
            "limits": LIMITS,
        },
        "formats": {
            result.format.name: _describe_format(result, reference, files)
            for result in results
            if result.failure is None
        },
        "failed": {
            result.format.name: _describe_failure(result, reference)
            for result in results
            if result.failure is not None
        },
        "layouts": {name: list(models) for name, models in layouts.items()},
        "versions": {
            "python": platform.python_version(),
            "detflow": __version__,
            **{name: version(name) for name in _PACKAGES},
        },
        "files": dict(files),
    }


def _find_role(trained: TrainedModel, proof: ProofImages) -> str | None:
    """Returns "training" where the proof ran on pictures that the checkpoint was trained on.

    It is "held out" for other images of the same records, and None where nobody can tell.
    """
    if proof.kind != "records":
        return None
    learnt = find_learnt_splits(trained.state.record, proof.resolve, proof.fingerprint)
    if not learnt:
        return None
    return "held out" if learnt.isdisjoint(proof.splits) else "training"


def _describe_tflite(results: Sequence[FormatResult]) -> dict[str, Any]:
    """Returns the contract that TFLite files keep, where there are any."""
    has_any = any(
        isinstance(result.format, Tflite) and result.failure is None for result in results
    )
    return {"tflite_contract": TFLITE_CONTRACT} if has_any else {}


def _describe_size(size: tuple[int, int]) -> dict[str, int]:
    return dict(zip(("height", "width"), size, strict=True))


def _describe_format(
    result: FormatResult, reference: Reference, files: Mapping[str, FileDigest]
) -> dict[str, Any]:
    written, passed = result.format, result.rungs[-1]
    return {
        "paths": list(written.paths),
        "bytes": sum(
            digest["bytes"]
            for file, digest in files.items()
            if file.partition("/")[0] in written.paths
        ),
        "runtime": written.runtime,
        "seconds": round(result.seconds, 1),
        "entries": {
            entry.name: _describe_entry(entry, result)
            for entry in written.entries
            if entry.name in passed.proof.agreements
        },
        "refused": dict(passed.proof.refused),
        "gate": asdict(result.gate),
        **({"rounding": asdict(passed.proof.rounding)} if passed.proof.rounding else {}),
        **_describe_metrics(passed.proof, reference),
        **passed.notes,
        **_describe_rungs(result, reference),
    }


def _describe_entry(entry: EntryPoint, result: FormatResult) -> dict[str, Any]:
    described: dict[str, Any] = {"path": entry.path, "input": entry.input_name}
    # Only the preferred entry is timed.
    if result.p50_ms is not None and entry == result.format.entries[0]:
        described["p50_ms"] = round(result.p50_ms, 2)
    return described | asdict(result.rungs[-1].proof.agreements[entry.name])


def _describe_failure(result: FormatResult, reference: Reference) -> dict[str, Any]:
    return {
        "reason": str(result.failure),
        "seconds": round(result.seconds, 1),
        "gate": asdict(result.gate),
        **_describe_rungs(result, reference),
    }


def _describe_rungs(result: FormatResult, reference: Reference) -> dict[str, Any]:
    """Describes all ways that were tried, for a format that has several."""
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
    """Describes AP and AP50, and how far above or below the checkpoint's they are.

    Both are null where they could not be measured.
    """
    metrics, before = proof.metrics, reference.metrics
    if metrics is None or before is None:
        return {"metrics": None, "change": None}
    change = {
        name: None if value is None or before[name] is None else value - (before[name] or 0.0)
        for name, value in metrics.items()
    }
    return {"metrics": dict(metrics), "change": change}
