"""The gate of every format: in a fresh process it must detect what the checkpoint detected, or nothing is published.

Nothing in here may import Model Garden: the fresh process imports this module, and that it ran
without `official` is part of the proof.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detflow.artifact import ENCODED_INPUT_NAME, INPUT_NAME, OUTPUT_NAMES, Runtime
from detflow.data.records.example import encode_example
from detflow.errors import ArtifactError, DetflowError
from detflow.types import ImageSize, ObjectAnnotation

__all__ = [
    "LIMITS",
    "Agreement",
    "Candidate",
    "Comparison",
    "ExactComparison",
    "FreshProcess",
    "MatchedComparison",
    "ProofImage",
    "Tolerance",
    "compare_outputs",
]

Input = npt.NDArray[np.uint8] | Sequence[bytes]
Outputs = Mapping[str, npt.NDArray[np.float32]]

# Largest absolute difference from the checkpoint. One image's outputs are compared entry by entry,
# padding included; detections whose scores are no further apart than the limit may stand in another
# order. The order of the outputs here is the order in which a disagreement is told, since a lost
# detection shifts everything after it.
LIMITS: Final[dict[str, float]] = {
    "num_detections": 0.0,
    "detection_classes": 0.0,
    "detection_scores": 1e-4,
    "detection_boxes": 1e-4,
}


# What must not come in with a format: Model Garden never, and TensorFlow only where it is the
# runtime.
_GARDEN: Final = "official"
_TENSORFLOW: Final = "tensorflow"


@dataclass(frozen=True)
class Tolerance:
    """How closely a format that computes in other numbers than TensorFlow's has to agree with the checkpoint.

    Attributes:
        score_threshold: Detections of the checkpoint from this score on have to be found again.
        min_iou: Found again is what a detection of the same class overlaps by at least this IoU,
            each counting once,
        max_score_difference: with a score that differs by at most this.
        min_share: The share of them that has to be found again.
    """

    score_threshold: float
    min_iou: float
    max_score_difference: float
    min_share: float


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
    """

    num_images: int
    num_detections: int
    max_differences: Mapping[str, float]
    share_found: float | None = 1.0


@dataclass(frozen=True)
class ProofImage:
    """One image in every shape that the serving contract takes.

    Attributes:
        name: For messages.
        pixels: [height, width, 3] uint8, RGB.
        encoded: A JPEG or PNG file that decodes to these pixels.
        objects: What there is to detect; None where nobody knows.
    """

    name: str
    pixels: npt.NDArray[np.uint8]
    encoded: bytes
    objects: tuple[ObjectAnnotation, ...] | None = None

    @property
    def size(self) -> ImageSize:
        """In pixels."""
        height, width = self.pixels.shape[:2]
        return ImageSize(width, height)

    def as_input(self, input_name: str) -> Input:
        """Returns a batch of this image alone for one of the serving contract's inputs."""
        if input_name == INPUT_NAME:
            return self.pixels[np.newaxis]
        if input_name == ENCODED_INPUT_NAME:
            return [self.encoded]
        return [encode_example({"image/encoded": (bytes, [self.encoded])})]


@dataclass(frozen=True)
class Candidate:
    """A way into a format that is to be proved.

    Attributes:
        name: For messages and the card.
        path: Its file or folder.
        input_name: The input of the serving contract that it takes.
        signature: As in `artifact.Entry`.
    """

    name: str
    path: Path
    input_name: str
    signature: str = ""


class FreshProcess:
    """A new Python process that loads formats of one runtime and runs them. Starting it does not wait for it.

    Args:
        runtime: What it imports. Model Garden never comes in, and TensorFlow only as a runtime.

    Attributes:
        last_run_s: Seconds that the last run took there.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.last_run_s = 0.0
        self._start()

    def _start(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        # Held by the other process alone, so that its death shows here as the end of the stream.
        with theirs:
            descriptor = theirs.fileno()
            # Not a process of multiprocessing: that would first run the script that this one was
            # started with.
            program = f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as v; v._serve({descriptor}, {self._runtime!r})"
            self._process = subprocess.Popen([sys.executable, "-c", program], pass_fds=[descriptor])  # noqa: S603  Our own.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.wait()

    def load(self, candidate: Candidate) -> None:
        """Loads a format (see `models.load_runner`); what was loaded under its name before is forgotten.

        Raises:
            ArtifactError: It cannot be loaded there.
        """
        self._ask(candidate.name, candidate)

    def run(self, candidate: Candidate, image: ProofImage) -> Outputs:
        """Runs a loaded format on one image.

        Raises:
            ArtifactError: It cannot run, or needed Model Garden to do it.
        """
        outputs, self.last_run_s = self._ask(candidate.name, image.as_input(candidate.input_name))
        return outputs  # type: ignore[no-any-return]

    def _ask(self, name: str, question: Candidate | Input) -> Any:
        try:
            self._connection.send((name, question))
            answer, error = self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            died = ArtifactError(
                f"the process that tried it died with exit code {self._process.wait()}", path=name
            )
            # The other formats get a new one.
            self._stop()
            self._start()
            raise died from None
        if error is not None:
            raise ArtifactError(error, path=name)
        return answer


def compare_outputs(expected: Outputs, actual: Outputs) -> dict[str, float]:
    """Returns the largest absolute difference of each output; infinity for one that is missing, not finite, or of another shape."""
    return {name: _max_difference(expected[name], actual.get(name)) for name in OUTPUT_NAMES}


class Comparison(ABC):
    """Compares a format with its checkpoint, image by image.

    Args:
        name: The format's entry, for messages.
        reference_name: The checkpoint's, for messages.
    """

    def __init__(self, name: str, reference_name: str) -> None:
        self._name = name
        self._reference_name = reference_name

    @abstractmethod
    def add(self, image_name: str, expected: Outputs, actual: Outputs) -> None:
        """Takes the outputs of the checkpoint and of the format for one image."""

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


class ExactComparison(Comparison):
    """Entry by entry, within `LIMITS`; which of two equal scores comes first does not count."""

    def __init__(self, name: str, reference_name: str) -> None:
        super().__init__(name, reference_name)
        self._num_detections = 0
        self._seen: list[tuple[str, dict[str, float]]] = []

    def add(self, image_name: str, expected: Outputs, actual: Outputs) -> None:
        """See `Comparison`."""
        self._num_detections += int(expected["num_detections"].sum())
        differences = compare_outputs(expected, actual)
        if _may_be_reordered(differences):
            differences = compare_outputs(expected, _in_order_of(expected, actual))
        self._seen.append((image_name, differences))

    @property
    def worst_image(self) -> str:
        """See `Comparison`."""
        return max(self._seen, key=lambda pair: pair[1]["detection_scores"])[0]

    def conclude(self) -> Agreement:
        """See `Comparison`."""
        for output, limit in LIMITS.items():
            image, worst = max(
                ((image, found[output]) for image, found in self._seen), key=lambda pair: pair[1]
            )
            if worst > limit:
                amount = (
                    "it is missing, not finite or of another shape"
                    if math.isinf(worst)
                    else f"a difference of {worst:.3g}"
                )
                raise ArtifactError(
                    f"{output} is not as {self._reference_name} gives it on image {image}: {amount}, allowed is {limit:g}",
                    path=self._name,
                )
        differences = {
            output: max(found[output] for _, found in self._seen) for output in OUTPUT_NAMES
        }
        return Agreement(len(self._seen), self._num_detections, differences)


class _Matched(NamedTuple):
    """One image: how many detections had to be found again, and descriptions of those that were not."""

    image_name: str
    num_wanted: int
    lost: list[str]


class MatchedComparison(Comparison):
    """Detection by detection, within a tolerance."""

    def __init__(self, name: str, reference_name: str, tolerance: Tolerance) -> None:
        super().__init__(name, reference_name)
        self._tolerance = tolerance
        self._seen: list[_Matched] = []

    def add(self, image_name: str, expected: Outputs, actual: Outputs) -> None:
        """See `Comparison`.

        Raises:
            ArtifactError: An output is missing, not finite, or of another dtype or number of
                dimensions.
        """
        for output in OUTPUT_NAMES:
            values = actual.get(output)
            wanted = expected[output]
            if (
                values is None
                or values.dtype != wanted.dtype
                or values.ndim != wanted.ndim
                or not np.isfinite(values).all()
            ):
                raise ArtifactError(
                    f"{output} is not as {self._reference_name} gives it on image {image_name}: it is missing, not finite or of "
                    "another type",
                    path=self._name,
                )
        wanted_ones, found_ones = (_rows(outputs) for outputs in (expected, actual))
        # A box outside of the image has no area after clipping: it overlaps nothing, and there is
        # nothing to show of it.
        wanted_ones = [
            one
            for one in wanted_ones
            if one[1] >= self._tolerance.score_threshold and (one[2][2:] > one[2][:2]).all()
        ]
        lost = _lost(wanted_ones, found_ones, self._tolerance)
        self._seen.append(_Matched(image_name, len(wanted_ones), lost))

    @property
    def worst_image(self) -> str:
        """See `Comparison`."""
        return self._worst.image_name

    @property
    def _worst(self) -> _Matched:
        return max(self._seen, key=lambda one: len(one.lost))

    def conclude(self) -> Agreement:
        """See `Comparison`."""
        limits, worst = self._tolerance, self._worst
        wanted = sum(one.num_wanted for one in self._seen)
        share = 1.0 - sum(len(one.lost) for one in self._seen) / max(wanted, 1)
        if share < limits.min_share:
            raise ArtifactError(
                f"{share:.1%} of {self._reference_name}'s {wanted:,} detections with a score of {limits.score_threshold:g} and "
                f"more are found again (IoU {limits.min_iou:g}, score within {limits.max_score_difference:g}), asked are "
                f"{limits.min_share:.1%}; worst is image {worst.image_name}: lost {len(worst.lost)} of "
                f"{worst.num_wanted}, such as {worst.lost[0]}",
                path=self._name,
            )
        return Agreement(len(self._seen), wanted, {}, share if wanted else None)


Row = tuple[int, float, npt.NDArray[np.float64]]


def _rows(outputs: Outputs) -> list[Row]:
    """Returns (class id, score, box) of each detection of one image."""
    count = int(outputs["num_detections"][0])
    columns = (
        outputs[name][0][:count].astype(np.float64)
        for name in ("detection_classes", "detection_scores", "detection_boxes")
    )
    return [
        (int(class_id), float(score), box) for class_id, score, box in zip(*columns, strict=True)
    ]


def _may_be_reordered(differences: Mapping[str, float]) -> bool:
    """Tells whether outputs disagree in what stands at a place only: sorted scores agree whichever of a tie comes first."""
    disagrees = any(differences[output] > limit for output, limit in LIMITS.items())
    sorts_alike = all(
        differences[output] <= LIMITS[output] for output in ("num_detections", "detection_scores")
    )
    return (
        disagrees
        and sorts_alike
        and all(math.isfinite(difference) for difference in differences.values())
    )


def _in_order_of(expected: Outputs, actual: Outputs) -> Outputs:
    """Puts detections of nearly equal scores into the checkpoint's order; returns `actual` itself where they are not the same ones.

    A network that has hardly learnt gives scores that differ in their last bit alone, and that bit
    is the runtime's.
    """
    free = dict(enumerate(_rows(actual)))
    order = []
    for class_id, score, box in _rows(expected):
        distances = {
            place: float(np.abs(other_box - box).max())
            for place, (other_class, other_score, other_box) in free.items()
            if other_class == class_id and abs(other_score - score) <= LIMITS["detection_scores"]
        }
        if not distances:
            return actual
        nearest = min(distances, key=distances.__getitem__)
        order.append(nearest)
        del free[nearest]
    # After them comes padding.
    places = [*order, *range(len(order), actual["detection_scores"].shape[1])]
    return {
        **actual,
        **{name: actual[name][:, places] for name in OUTPUT_NAMES if name != "num_detections"},
    }


def _lost(wanted: Sequence[Row], found: Sequence[Row], tolerance: Tolerance) -> list[str]:
    """Describes the wanted detections without a counterpart; from the highest score on each takes the one that fits it best."""
    free = list(found)
    lost = []
    for one in wanted:
        fits = [_fit(one, other, tolerance) for other in free]
        best = max(fits, default=0.0)
        if best > 0.0:
            del free[fits.index(best)]
        else:
            class_id, score, box = one
            lost.append(
                f"class {class_id} of score {score:.2f} at [{', '.join(f'{side:.3f}' for side in box)}]"
            )
    return lost


def _fit(wanted: Row, found: Row, tolerance: Tolerance) -> float:
    """Returns the IoU of two detections that may stand for each other, and 0 for others."""
    if wanted[0] != found[0] or abs(wanted[1] - found[1]) > tolerance.max_score_difference:
        return 0.0
    overlap = _iou(wanted[2], found[2])
    return overlap if overlap >= tolerance.min_iou else 0.0


def _iou(box: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    sides = np.maximum(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0.0)
    intersection = float(sides.prod())
    union = float((box[2:] - box[:2]).prod() + (other[2:] - other[:2]).prod()) - intersection
    return intersection / union if union > 0.0 else 0.0


def _max_difference(
    expected: npt.NDArray[np.float32], actual: npt.NDArray[np.float32] | None
) -> float:
    if actual is None or actual.shape != expected.shape or actual.dtype != expected.dtype:
        return math.inf
    worst = float(np.max(np.abs(actual.astype(np.float64) - expected), initial=0.0))
    return worst if math.isfinite(worst) else math.inf


def _serve(descriptor: int, runtime: Runtime) -> None:
    """Answers questions (name, format to load or input to run) with (answer, error) until the other end closes."""
    connection = Connection(descriptor)
    # Ctrl-C reaches the whole process group; the parent decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from detflow.inference.load import load_runner

    if runtime == _TENSORFLOW:
        # Takes seconds, while the parent builds the network.
        import_module("detflow.inference.tensorflow")

    runners: dict[str, Callable[[Input], Outputs]] = {}
    while True:
        try:
            name, question = connection.recv()
        except EOFError:
            return
        answer, error = None, None
        try:
            if isinstance(question, Candidate):
                runners[name] = load_runner(question.path, question.input_name, question.signature)
            else:
                start = time.perf_counter()
                answer = runners[name](question), time.perf_counter() - start
        except DetflowError as fault:
            error = fault.cause
        if _GARDEN in sys.modules:
            error = "it needs Model Garden to run"
        if runtime != _TENSORFLOW and _TENSORFLOW in sys.modules:
            error = "it needs TensorFlow to run"
        connection.send((answer, error))
