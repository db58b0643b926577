"""Proves a file of rounded numbers by its twin in floats, which hides nothing."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detflow.errors import ArtifactError
from detflow.exporting.proof.compare import SAME_NETWORK, Gate
from detflow.exporting.proof.gate import (
    FURTHER_IMAGES,
    Proof,
    Reference,
    build_comparison,
    examine,
)
from detflow.exporting.proof.images import ProofImages
from detflow.exporting.proof.process import Candidate, FreshProcess
from detflow.exporting.proof.references import detect_on_bytes
from detflow.exporting.proof.rounding import require_rounded
from detflow.inference.formats.base import EntryPoint
from detflow.inference.formats.tflite import Tflite
from detflow.inference.trained import TrainedModel
from detflow.models.base import DetectionModel

_FLOATS = Tflite("tflite", "float32")


@dataclass(frozen=True)
class Twin:
    """The same network with its numbers unrounded: what a file of rounded numbers is held to.

    Rounding hides as much as it costs. The twin hides nothing, and from it to the file there is
    nothing but the rounding, number by number.

    Attributes:
        content: A TFLite file in floats.
        model: The model that was converted: the checkpoint's, or one that was tuned after it.
    """

    content: bytes
    model: DetectionModel


def examine_draft(
    candidates: Sequence[Candidate],
    twin: Twin | None,
    gate: Gate,
    fresh: FreshProcess,
    proof: ProofImages,
    reference: Reference,
    trained: TrainedModel,
) -> Proof:
    """Holds what a writer wrote to its gate, and its numbers to their twin's.

    Args:
        candidates: The ways into the format, as from `list_candidates`.
        twin: The same in floats; None where the files' numbers are not rounded.
        gate: What the format has to show.
        fresh: A process of the format's runtime.
        proof: The images, of which the first few are enough for the twin: it loses nothing.
        reference: The checkpoint on them, as the format sees them.
        trained: The checkpoint.
    """
    found = examine(candidates, gate, fresh, proof, reference, trained.label_map)
    if twin is None or found.failure is not None:
        return found
    try:
        _require_same_network(twin, fresh, proof, reference, trained)
        rounding = require_rounded(candidates[0].path, twin.content)
    except ArtifactError as failure:
        return dataclasses.replace(found, failure=failure)
    return dataclasses.replace(found, rounding=rounding)


def _require_same_network(
    twin: Twin,
    fresh: FreshProcess,
    proof: ProofImages,
    reference: Reference,
    trained: TrainedModel,
) -> None:
    """Runs a twin; raises ArtifactError where it does not detect what its model detects."""
    is_tuned = twin.model is not trained.serving.model
    detect = detect_on_bytes(trained, twin.model) if is_tuned else None
    (entry,) = _FLOATS.entries
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, entry.path)
        path.write_bytes(twin.content)
        candidate = Candidate(_FLOATS, EntryPoint("its network in floats", entry.input_name), path)
        comparison = build_comparison(SAME_NETWORK, candidate.name, reference.name)
        fresh.load(candidate)
        pairs = zip(proof.images, reference.outputs, strict=True)
        for image, expected in itertools.islice(pairs, FURTHER_IMAGES):
            wanted = detect(image) if detect else expected
            comparison.add(image.name, wanted, fresh.run(candidate, image))
    comparison.conclude()
