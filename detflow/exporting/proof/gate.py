"""The gate before publishing: a format must detect what its checkpoint does, by box and by AP."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from detflow.artifact import ArtifactDir
from detflow.errors import ArtifactError, DataError
from detflow.exporting.proof.compare import Agreement, ExactComparison, Gate, OutputComparison
from detflow.exporting.proof.contract import require_contract
from detflow.exporting.proof.images import ProofImages
from detflow.exporting.proof.matching import MatchedComparison
from detflow.exporting.proof.process import Candidate, FreshProcess, ProofImage
from detflow.exporting.proof.rounding import Rounding
from detflow.inference.detector import Outputs, to_detections
from detflow.inference.formats.base import Format
from detflow.inference.trained import TrainedModel
from detflow.label_map import LabelMap
from detflow.metrics.coco import CocoEvaluation, EvaluatedImage, coco_metrics
from detflow.metrics.intervals import MIN_DRAWS, Interval, find_range
from detflow.runs.states import NUM_FIRST_IMAGES
from detflow.text import count_noun

METRICS: Final = ("AP", "AP50")
"""The metrics that a format is measured by."""

Metrics = Mapping[str, float | None]
"""Values of `METRICS` by name; None for images without objects."""

FURTHER_IMAGES: Final = 32
"""Images that prove further entries of a format: they hold the same network as its first one."""


@dataclass(frozen=True)
class Reference:
    """The checkpoint on the proof's images.

    Attributes:
        name: The checkpoint's name, for messages.
        outputs: The outputs for each image.
        metrics: AP and AP50; None where nobody knows the objects on the images.
        first: The same on the first `NUM_FIRST_IMAGES` images.
        objects: Objects that they are measured on; None where nobody knows them.
        interval: Where AP lies for 90 % of a bootstrap over the images, where that is known.
    """

    name: str
    outputs: Sequence[Outputs]
    metrics: Metrics | None
    first: Metrics | None = None
    objects: int | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class Proof:
    """A format on the proof's images.

    Attributes:
        agreements: The agreement of each entry, up to the first one that fails.
        refused: Why an optional entry does not work, by entry.
        metrics: AP and AP50 of the first entry; None where they could not be measured.
        failure: Why the format may not be published; None if it may.
        rounding: How its numbers are rounded, where they are.
    """

    agreements: Mapping[str, Agreement]
    refused: Mapping[str, str]
    metrics: Metrics | None
    failure: ArtifactError | None
    rounding: Rounding | None = None


def measure_reference(
    detect: Callable[[ProofImage], Outputs], proof: ProofImages, trained: TrainedModel
) -> Reference:
    """Runs the checkpoint on every image.

    Args:
        detect: The checkpoint, as a function of an image.
        proof: The images.
        trained: The checkpoint, for its classes and its name.

    Raises:
        DataError: There is no image.
        ArtifactError: The records are damaged.
    """
    truth = _Truth(trained.label_map, trained.checkpoint_path)
    outputs = []
    for image in proof.images:
        outputs.append(detect(image))
        truth.add(image, outputs[-1])
    if not outputs:
        raise DataError(
            "there is no image to prove the export on",
            path=proof.source,
            remedy="name some with --images",
        )
    first = truth.measure(NUM_FIRST_IMAGES)
    metrics = truth.measure()
    return Reference(trained.checkpoint_path.name, outputs, metrics, first, *truth.measure_range())


def build_comparison(gate: Gate, name: str, reference_name: str) -> OutputComparison:
    """Returns the comparison that a gate asks for; the names are for messages."""
    if gate.tolerance is None:
        return ExactComparison(name, reference_name)
    return MatchedComparison(name, reference_name, gate.tolerance)


def list_candidates(written: Format, artifact: ArtifactDir) -> list[Candidate]:
    """Returns the ways into a format that was written into a folder, the preferred one first."""
    return [Candidate(written, entry, artifact.path / entry.path) for entry in written.entries]


def examine(
    candidates: Sequence[Candidate],
    gate: Gate,
    fresh: FreshProcess,
    proof: ProofImages,
    reference: Reference,
    label_map: LabelMap,
) -> Proof:
    """Runs a format in a fresh process and holds it to its gate.

    Args:
        candidates: The ways into the format, as from `list_candidates`.
        gate: What the format has to show.
        fresh: A process of the format's runtime.
        proof: The images.
        reference: What the checkpoint detects on them.
        label_map: The classes.
    """
    agreements: dict[str, Agreement] = {}
    refused: dict[str, str] = {}
    preferred, *further = candidates
    examination = _Examination(gate, fresh, proof, reference, label_map)
    try:
        agreements[preferred.name] = examination.examine_preferred(preferred)
        for candidate in further:
            try:
                agreements[candidate.name] = examination.examine_further(candidate)
            except ArtifactError as failure:
                if not candidate.entry.is_optional:
                    raise
                refused[candidate.name] = failure.cause
    except ArtifactError as failure:
        return Proof(agreements, refused, examination.metrics, failure)
    return Proof(agreements, refused, examination.metrics, None)


class _Examination:
    """One examination; `metrics` are those of the preferred entry, once they are measured."""

    def __init__(
        self,
        gate: Gate,
        fresh: FreshProcess,
        proof: ProofImages,
        reference: Reference,
        label_map: LabelMap,
    ) -> None:
        self._gate = gate
        self._fresh = fresh
        self._proof = proof
        self._reference = reference
        self._label_map = label_map
        self.metrics: Metrics | None = None

    def examine_preferred(self, candidate: Candidate) -> Agreement:
        """Runs an entry on all images; raises ArtifactError where boxes or AP are too far off."""
        comparison = build_comparison(self._gate, candidate.name, self._reference.name)
        truth = _Truth(self._label_map, candidate.path)
        for image, expected, actual in self._run(candidate, None):
            comparison.add(image.name, expected, actual)
            truth.add(image, actual)
        self.metrics = truth.measure()
        agreement = comparison.conclude()
        _require_evidence(candidate.name, self._gate, agreement, self._reference)
        _require_ap(
            candidate.name, self._gate, self._reference, self.metrics, comparison.worst_image
        )
        return agreement

    def examine_further(self, candidate: Candidate) -> Agreement:
        """Runs an entry on some images; raises ArtifactError where its boxes are too far off."""
        comparison = build_comparison(self._gate, candidate.name, self._reference.name)
        for image, expected, actual in self._run(candidate, FURTHER_IMAGES):
            comparison.add(image.name, expected, actual)
        return comparison.conclude()

    def _run(
        self, candidate: Candidate, limit: int | None
    ) -> Iterator[tuple[ProofImage, Outputs, Outputs]]:
        """Yields images, the checkpoint's outputs and the candidate's."""
        facts = self._fresh.load(candidate)
        require_contract(candidate.format, candidate.entry, facts, self._label_map)
        pairs = zip(self._proof.images, self._reference.outputs, strict=True)
        for image, expected in itertools.islice(pairs, limit):
            yield image, expected, self._fresh.run(candidate, image)


def _require_evidence(name: str, gate: Gate, agreement: Agreement, reference: Reference) -> None:
    """Refuses a proof that compared nothing.

    There has to be a detection to find again, or an AP that can be lost: of a network that detects
    nothing every file is a faithful copy.
    """
    if agreement.num_detections or (reference.metrics or {}).get(METRICS[0]):
        return
    least = (
        ""
        if gate.tolerance is None
        else (f" with a score of {gate.tolerance.score_threshold:g} and more")
    )
    raise ArtifactError(
        f"nothing is proved: the checkpoint detects nothing{least} on the proof's "
        f"{count_noun(agreement.num_images, 'image')}",
        path=name,
        remedy="name images with objects on them, or records: --images; or lower "
        "--score-threshold; a checkpoint that never detects anything has to be trained on",
    )


def _require_ap(
    name: str, gate: Gate, reference: Reference, metrics: Metrics | None, worst_image: str
) -> None:
    """Refuses a format that lost too much AP.

    The AP of images without objects is None; nothing can be lost there.
    """
    before, after = ((measured or {}).get(METRICS[0]) for measured in (reference.metrics, metrics))
    if before is not None and after is not None and before - after > gate.max_ap_drop:
        raise ArtifactError(
            f"AP is {after:.4f}, {before - after:.4f} below {reference.name}'s {before:.4f}; "
            f"allowed are {gate.max_ap_drop:g}; it differs most on image {worst_image}",
            path=name,
        )


class _Truth:
    """Collects detections beside the truth.

    Args:
        label_map: The classes.
        source: The file that detects, for messages.
    """

    def __init__(self, label_map: LabelMap, source: Path) -> None:
        self._label_map = label_map
        self._source = source
        self._images: list[EvaluatedImage] = []

    def add(self, image: ProofImage, outputs: Outputs) -> None:
        """Takes the outputs for one image; an image without truth is passed over."""
        if image.objects is not None:
            detections = to_detections(outputs, self._label_map, self._source)
            self._images.append(EvaluatedImage(image.size, image.objects, detections))

    def measure_range(self) -> tuple[int | None, Interval | None]:
        """Returns the number of objects, and where AP lies; None where there was no truth."""
        if not self._images:
            return None, None
        return find_range(
            CocoEvaluation(self._images, self._label_map).rankings(), self._label_map, MIN_DRAWS
        )

    def measure(self, number: int | None = None) -> Metrics | None:
        """Returns the values of `METRICS` on the first so many images, or on all.

        It is None where there was no truth.
        """
        if not self._images:
            return None
        metrics = coco_metrics(self._images[:number], self._label_map)
        return {name: metrics[name] for name in METRICS}
