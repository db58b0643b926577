"""What the checkpoint detects on the proof's images, and whether a format detects the same: box by box, and by AP."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detflow.artifact import ArtifactDir, Format
from detflow.errors import ArtifactError, DataError
from detflow.exporting.formats import Gate
from detflow.exporting.images import ProofImages
from detflow.exporting.verify import (
    Agreement,
    Candidate,
    Comparison,
    ExactComparison,
    FreshProcess,
    MatchedComparison,
    Outputs,
    ProofImage,
)
from detflow.inference.detector import Detector
from detflow.inference.trained import TrainedModel
from detflow.label_map import LabelMap
from detflow.metrics import EvaluatedImage, coco_metrics

__all__ = [
    "METRICS",
    "TIMED_IMAGES",
    "TIMED_RUNS",
    "Proof",
    "Reference",
    "examine",
    "measure_reference",
]

METRICS = ("AP", "AP50")
"""What a format is measured by."""

# A format's further entries hold the same network as its first one; they are proved on so many
# images.
_FURTHER_IMAGES = 32
TIMED_IMAGES = 8
"""Images that the time is measured on."""
TIMED_RUNS = 150
"""Their runs; the median of so many is the same within a few per cent when it is taken again."""
# A slow network gets no more than this.
_TIMED_SECONDS = 3.0


@dataclass(frozen=True)
class Reference:
    """The checkpoint on the proof's images.

    Attributes:
        name: The checkpoint's, for messages.
        outputs: Of each image.
        metrics: AP and AP50; None where nobody knows what is on the images.
    """

    name: str
    outputs: Sequence[Outputs]
    metrics: Mapping[str, float | None] | None


@dataclass(frozen=True)
class Proof:
    """A format on the proof's images.

    Attributes:
        agreements: By entry, as far as they agree.
        refused: By optional entry that does not work, why not.
        p50_ms: Of each entry, the median of what an image took in the fresh process, from pixels or
            files to detections; its first runs, in which a runtime prepares itself, left out.
        metrics: AP and AP50 of the first entry; None where it could not be measured.
        failure: Why the format may not be published; None if it may.
    """

    agreements: Mapping[str, Agreement]
    refused: Mapping[str, str]
    p50_ms: Mapping[str, float]
    metrics: Mapping[str, float | None] | None
    failure: ArtifactError | None


def measure_reference(
    detect: Callable[[ProofImage], Outputs], proof: ProofImages, trained: TrainedModel
) -> Reference:
    """Runs the checkpoint on every image.

    Raises:
        DataError: There is no image.
        ArtifactError: The records are damaged.
    """
    ledger = _Ledger(trained.label_map, trained.checkpoint_path)
    outputs = []
    for image in proof.images:
        outputs.append(detect(image))
        ledger.add(image, outputs[-1])
    if not outputs:
        raise DataError(
            "there is no image to prove the export on",
            path=proof.source,
            remedy="name some with --images",
        )
    return Reference(trained.checkpoint_path.name, outputs, ledger.metrics())


def examine(
    form: Format,
    gate: Gate,
    artifact: ArtifactDir,
    fresh: FreshProcess,
    proof: ProofImages,
    reference: Reference,
    label_map: LabelMap,
) -> Proof:
    """Runs a format in a fresh process and holds it to its gate.

    Args:
        form: What was written.
        gate: What it has to show.
        artifact: Where it was written.
        fresh: Of the format's runtime.
        proof: The images.
        reference: What the checkpoint detects on them.
        label_map: The classes.
    """
    agreements: dict[str, Agreement] = {}
    metrics: Mapping[str, float | None] | None = None
    refused: dict[str, str] = {}
    p50_ms: dict[str, float] = {}
    for number, entry in enumerate(form.entries):
        candidate = Candidate(
            entry.name, artifact.path / entry.path, entry.input_name, entry.signature
        )
        comparison = _comparison(entry.name, gate, reference.name)
        ledger = _Ledger(label_map, candidate.path)
        try:
            fresh.load(candidate)
            pairs = zip(proof.images, reference.outputs, strict=True)
            for image, expected in (
                pairs if number == 0 else itertools.islice(pairs, _FURTHER_IMAGES)
            ):
                actual = fresh.run(candidate, image)
                comparison.add(image.name, expected, actual)
                ledger.add(image, actual)
            p50_ms[entry.name] = _measure_p50(fresh, candidate, proof)
            if number == 0:
                metrics = ledger.metrics()
            agreements[entry.name] = comparison.conclude()
            if number == 0:
                _require_evidence(entry.name, gate, agreements[entry.name], metrics)
                _require_ap(entry.name, gate, reference, metrics, comparison.worst_image)
        except ArtifactError as failure:
            if not entry.is_optional:
                return Proof(agreements, refused, p50_ms, metrics, failure)
            refused[entry.name] = failure.cause
    return Proof(agreements, refused, p50_ms, metrics, None)


def _measure_p50(fresh: FreshProcess, candidate: Candidate, proof: ProofImages) -> float:
    """Returns milliseconds; what was loaded has run before."""
    images = list(itertools.islice(proof.images, TIMED_IMAGES))
    seconds: list[float] = []
    for image in itertools.islice(itertools.cycle(images), TIMED_RUNS):
        fresh.run(candidate, image)
        seconds.append(fresh.last_run_s)
        if sum(seconds) > _TIMED_SECONDS:
            break
    return 1e3 * statistics.median(seconds)


def _comparison(name: str, gate: Gate, reference_name: str) -> Comparison:
    if gate.tolerance is None:
        return ExactComparison(name, reference_name)
    return MatchedComparison(name, reference_name, gate.tolerance)


def _require_evidence(
    name: str, gate: Gate, agreement: Agreement, metrics: Mapping[str, float | None] | None
) -> None:
    """Without detections to find again and without truth nothing has been compared."""
    if gate.tolerance is not None and agreement.share_found is None and metrics is None:
        raise ArtifactError(
            f"nothing is proved: the checkpoint detects nothing with a score of {gate.tolerance.score_threshold:g} and more on the "
            f"proof's {agreement.num_images} images",
            path=name,
            remedy="name images with objects on them, or records: --images",
        )


def _require_ap(
    name: str,
    gate: Gate,
    reference: Reference,
    metrics: Mapping[str, float | None] | None,
    worst_image: str,
) -> None:
    """AP of images without objects is None, and then nothing can be lost."""
    before, after = ((one or {}).get(METRICS[0]) for one in (reference.metrics, metrics))
    if before is not None and after is not None and before - after > gate.max_ap_drop:
        raise ArtifactError(
            f"AP is {after:.4f}, {before - after:.4f} below {reference.name}'s {before:.4f}; allowed are {gate.max_ap_drop:g}; "
            f"it differs most on image {worst_image}",
            path=name,
        )


class _Ledger:
    """Collects detections beside the truth."""

    def __init__(self, label_map: LabelMap, source: Path) -> None:
        self._label_map = label_map
        self._source = source
        self._images: list[EvaluatedImage] = []

    def add(self, image: ProofImage, outputs: Outputs) -> None:
        """Takes the outputs for one image; without truth there is nothing to collect."""
        if image.objects is not None:
            (found,) = Detector(lambda _: outputs, self._label_map, self._source).detect(
                [image.pixels]
            )
            self._images.append(EvaluatedImage(image.size, image.objects, found))

    def metrics(self) -> dict[str, float | None] | None:
        """Returns what `METRICS` names; None where there was no truth."""
        if not self._images:
            return None
        metrics = coco_metrics(self._images, self._label_map)
        return {name: metrics[name] for name in METRICS}
