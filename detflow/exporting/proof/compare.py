"""How closely a format's outputs have to be its checkpoint's, and whether they are, entry by entry.

`matching` compares what other libraries compute, detection by detection.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from detflow.artifact import OUTPUT_NAMES
from detflow.errors import ArtifactError
from detflow.inference.detector import Outputs

# Largest absolute difference from the checkpoint where one image's outputs are compared entry by
# entry, padding included. Detections whose scores are no further apart than the limit may stand in
# another order. A disagreement is told of the first output here that has one, because a lost
# detection shifts everything after it.
LIMITS: Final[dict[str, float]] = {
    "num_detections": 0.0,
    "detection_classes": 0.0,
    "detection_scores": 1e-4,
    "detection_boxes": 1e-4,
}


@dataclass(frozen=True)
class Tolerance:
    """How closely a format has to agree that computes in other numbers than TensorFlow's.

    Attributes:
        score_threshold: Least score of the detections that the other one has to have too.
        min_iou: Least IoU with the detection of the same class that counts as it; each counts once.
        max_score_difference: Most that the two scores may differ by.
        min_share: Least share of the checkpoint's detections that has to be found again, and of the
            format's own that the checkpoint has to have too.
        max_count_change: Most that the number of all detections, whatever their scores, may differ
            by over all images, as a share of the checkpoint's; None where rounding moves more than
            that over the threshold of the file itself.
    """

    score_threshold: float
    min_iou: float
    max_score_difference: float
    min_share: float
    max_count_change: float | None = None


@dataclass(frozen=True)
class Gate:
    """What a format has to show before it is published.

    Attributes:
        tolerance: How closely its detections must be the checkpoint's; None compares entry by
            entry within `LIMITS`.
        max_ap_drop: How much of the checkpoint's AP it may lose.
    """

    tolerance: Tolerance | None
    max_ap_drop: float


EXACT: Final = Gate(None, 0.005)
"""The gate of formats that TensorFlow runs: it computes there what it computed here."""

SAME_NETWORK: Final = Gate(
    Tolerance(
        score_threshold=0.05,
        min_iou=0.99,
        max_score_difference=1e-3,
        min_share=0.999,
        max_count_change=0.01,
    ),
    0.005,
)
"""The gate of formats that another library runs on the same pixels: it rounds elsewhere, so a
detection at a threshold falls to one side or to the other."""


@dataclass(frozen=True)
class Agreement:
    """How well a format agrees with its checkpoint.

    Attributes:
        num_images: Images compared.
        num_detections: Detections of the checkpoint on them; where there is a tolerance, those that
            had to be found again.
        max_differences: Largest absolute difference of each output; empty where detections are
            matched.
        share_found: Share of the detections that were found again; 1 where outputs are compared
            entry by entry, None where there was no detection to find.
        share_known: Share of the format's own detections that the checkpoint has too, likewise.
        count_change: How many more detections of any score the format has, as a share of the
            checkpoint's; None where that has none.
    """

    num_images: int
    num_detections: int
    max_differences: Mapping[str, float]
    share_found: float | None = 1.0
    share_known: float | None = 1.0
    count_change: float | None = 0.0


class OutputComparison(ABC):
    """Compares a format with its checkpoint, image by image.

    Args:
        name: The format's entry, for messages.
        reference_name: The checkpoint's name, for messages.
    """

    def __init__(self, name: str, reference_name: str) -> None:
        self._name = name
        self._reference_name = reference_name

    @abstractmethod
    def add(self, image_name: str, expected: Outputs, actual: Outputs) -> None:
        """Takes the outputs of the checkpoint and of the format for one image.

        Raises:
            ArtifactError: The format's outputs mean nothing, and no other image can mend that.
        """

    @abstractmethod
    def conclude(self) -> Agreement:
        """Returns the agreement over all images.

        Raises:
            ArtifactError: It is not close enough; the message has the output, the worst image and
                the difference.
        """

    @property
    @abstractmethod
    def worst_image(self) -> str:
        """The image on which the format differs most."""


def compare_outputs(expected: Outputs, actual: Outputs) -> dict[str, float]:
    """Returns the largest absolute difference of each output.

    It is infinite for an output that is missing, not finite, or of another shape or dtype.
    """
    return {name: _max_difference(expected[name], actual.get(name)) for name in OUTPUT_NAMES}


class Row(NamedTuple):
    """A detection; `box` is [ymin, xmin, ymax, xmax], normalised by the image."""

    class_id: int
    score: float
    box: npt.NDArray[np.float64]

    def __str__(self) -> str:
        sides = ", ".join(f"{side:.3f}" for side in self.box)
        return f"class {self.class_id} of score {self.score:.2f} at [{sides}]"


def read_rows(outputs: Outputs) -> list[Row]:
    """Returns the detections of one image."""
    count = int(outputs["num_detections"][0])
    classes, scores, boxes = (
        outputs[name][0][:count].astype(np.float64)
        for name in ("detection_classes", "detection_scores", "detection_boxes")
    )
    return [
        Row(int(class_id), float(score), box)
        for class_id, score, box in zip(classes, scores, boxes, strict=True)
    ]


class ExactComparison(OutputComparison):
    """Compares entry by entry, within `LIMITS`; the order of two equal scores does not count."""

    def __init__(self, name: str, reference_name: str) -> None:
        super().__init__(name, reference_name)
        self._num_detections = 0
        self._differences: list[tuple[str, dict[str, float]]] = []

    @override
    def add(self, image_name: str, expected: Outputs, actual: Outputs) -> None:
        self._num_detections += int(expected["num_detections"].sum())
        differences = compare_outputs(expected, actual)
        if _may_be_reordered(differences):
            differences = compare_outputs(expected, _reorder(actual, expected))
        self._differences.append((image_name, differences))

    @property
    @override
    def worst_image(self) -> str:
        return max(self._differences, key=lambda pair: pair[1]["detection_scores"])[0]

    @override
    def conclude(self) -> Agreement:
        largest: dict[str, float] = {}
        for output, limit in LIMITS.items():
            image_name, differences = max(self._differences, key=lambda pair: pair[1][output])
            largest[output] = differences[output]
            if largest[output] > limit:
                amount = (
                    "it is missing, not finite or of another shape"
                    if math.isinf(largest[output])
                    else f"a difference of {largest[output]:.3g}"
                )
                raise ArtifactError(
                    f"{output} is not as {self._reference_name} gives it on image {image_name}: "
                    f"{amount}, allowed is {limit:g}",
                    path=self._name,
                )
        max_differences = {output: largest[output] for output in OUTPUT_NAMES}
        return Agreement(len(self._differences), self._num_detections, max_differences)


def _max_difference(
    expected: npt.NDArray[np.float32], actual: npt.NDArray[np.float32] | None
) -> float:
    if actual is None or actual.shape != expected.shape or actual.dtype != expected.dtype:
        return math.inf
    largest = float(np.max(np.abs(actual.astype(np.float64) - expected), initial=0.0))
    return largest if math.isfinite(largest) else math.inf


def _may_be_reordered(differences: Mapping[str, float]) -> bool:
    """Tells whether outputs may disagree in their order only.

    Sorted scores agree whichever of two equal ones comes first.
    """
    disagrees = any(differences[output] > limit for output, limit in LIMITS.items())
    sorts_alike = all(
        differences[output] <= LIMITS[output] for output in ("num_detections", "detection_scores")
    )
    return disagrees and sorts_alike and all(map(math.isfinite, differences.values()))


def _reorder(actual: Outputs, expected: Outputs) -> Outputs:
    """Puts detections of nearly equal scores into the checkpoint's order.

    A network that has hardly learnt gives scores that differ in their last bit alone, and that bit
    depends on the runtime. Where the detections are not the same ones, `actual` is returned as it
    is.
    """
    free = dict(enumerate(read_rows(actual)))
    order = []
    for wanted in read_rows(expected):
        distances = {
            place: float(np.abs(row.box - wanted.box).max())
            for place, row in free.items()
            if row.class_id == wanted.class_id
            and abs(row.score - wanted.score) <= LIMITS["detection_scores"]
        }
        if not distances:
            return actual
        nearest = min(distances, key=distances.__getitem__)
        order.append(nearest)
        del free[nearest]
    # The padding comes after the detections.
    places = [*order, *range(len(order), actual["detection_scores"].shape[1])]
    return {
        **actual,
        **{name: actual[name][:, places] for name in OUTPUT_NAMES if name != "num_detections"},
    }
