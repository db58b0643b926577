"""Whether a checkpoint still finds what its state says that it found when it was trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from detflow.errors import ArtifactError
from detflow.exporting.proof.gate import Reference
from detflow.exporting.proof.images import ProofImages
from detflow.inference.trained import TrainedModel
from detflow.runs.states import NUM_FIRST_IMAGES
from detflow.tables import format_metric

# The last bits of a score depend on machine, threads and versions, and each detection that they
# move over a threshold changes AP on a few images a little.
MAX_DIFFERENCE: Final = 0.02


@dataclass(frozen=True)
class RecordedAp:
    """AP of a checkpoint now, and when it was trained, on the same first images.

    Attributes:
        images: How many images; 0 where nothing can be compared.
        now: AP now.
        then: AP as the checkpoint's state has it.
        why_not: Why nothing can be compared; empty where it was.
    """

    images: int
    now: float | None
    then: float | None
    why_not: str = ""


def compare_with_state(
    trained: TrainedModel, proof: ProofImages, reference: Reference
) -> RecordedAp:
    """Compares the checkpoint on the proof's images with what its state has of them.

    Args:
        trained: The checkpoint.
        proof: The images.
        reference: The checkpoint on them.

    Raises:
        ArtifactError: The two are further apart than another machine explains.
    """
    state = trained.state
    then = state.first_images.get("AP")
    if reason := _find_obstacle(trained, proof):
        return RecordedAp(0, None, then, reason)
    images = min(NUM_FIRST_IMAGES, len(reference.outputs))
    now = (reference.first or {}).get("AP")
    if (now is None) != (then is None) or abs((now or 0.0) - (then or 0.0)) > MAX_DIFFERENCE:
        raise ArtifactError(
            f"{reference.name} has AP {format_metric(now)} on the first images of "
            f"{proof.split}, and its state says {format_metric(then)}: it is not what was "
            "evaluated when it was trained",
            path=trained.checkpoint_path,
            remedy="evaluate it; another checkpoint, records or version may have come between",
        )
    return RecordedAp(images, now, then)


def _find_obstacle(trained: TrainedModel, proof: ProofImages) -> str:
    """Returns why the recorded AP is not one of these images; empty where it is."""
    record, serving = trained.state.record, trained.serving.config
    evaluate, data = record.config.evaluate, record.config.data
    if not trained.state.first_images:
        return "the checkpoint was not evaluated when it was saved"
    if proof.kind != "records" or proof.split != data.eval_split or data.overfit:
        return "the proof ran on other images than the checkpoint was evaluated on"
    if proof.fingerprint != record.data_fingerprint:
        return "the records are not those that the checkpoint was evaluated on"
    if (serving.score_threshold, serving.max_detections) != (
        evaluate.score_threshold,
        evaluate.max_detections,
    ):
        return "another threshold or number of detections was asked for"
    return ""
