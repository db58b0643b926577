"""The gate of every format: in a fresh process it must detect what the checkpoint detected, or nothing is published.

Nothing in here may import Model Garden: the fresh process imports this module, and that it ran without `official` is part of
the proof.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detflow.artifact import ENCODED_INPUT_NAME, INPUT_NAME, OUTPUT_NAMES
from detflow.dataset.example import encode_example
from detflow.errors import ArtifactError, DetflowError

__all__ = ["LIMITS", "Agreement", "Candidate", "FreshProcess", "ProofImage", "compare_outputs", "prove"]

Input = npt.NDArray[np.uint8] | Sequence[bytes]
Outputs = Mapping[str, npt.NDArray[np.float32]]

# Largest absolute difference from the checkpoint. One image's outputs are compared entry by entry, padding included; the order of
# the outputs here is the order in which a disagreement is told, since a lost detection shifts everything after it.
LIMITS: Final[dict[str, float]] = {
    "num_detections": 0.0,
    "detection_classes": 0.0,
    "detection_scores": 1e-4,
    "detection_boxes": 1e-4,
}


@dataclass(frozen=True)
class Agreement:
    """How well a format agrees with its checkpoint.

    Attributes:
        num_images: Images compared.
        num_detections: Detections of the checkpoint on them.
        max_differences: Largest absolute difference of each output.
    """

    num_images: int
    num_detections: int
    max_differences: Mapping[str, float]


@dataclass(frozen=True)
class ProofImage:
    """One image in every shape that the serving contract takes.

    Attributes:
        name: For messages.
        pixels: [height, width, 3] uint8, RGB.
        encoded: A JPEG or PNG file that decodes to these pixels.
    """

    name: str
    pixels: npt.NDArray[np.uint8]
    encoded: bytes

    def as_input(self, input_name: str) -> Input:
        """Returns a batch of this image alone for one of the serving contract's inputs."""
        if input_name == INPUT_NAME:
            return self.pixels[np.newaxis]
        if input_name == ENCODED_INPUT_NAME:
            return [self.encoded]
        return [encode_example({"image/encoded": (bytes, [self.encoded])})]


@dataclass(frozen=True)
class Candidate:
    """A format that is to be proved.

    Attributes:
        name: For messages and the card.
        path: Its file or folder.
        input_name: The input of the serving contract that it takes.
    """

    name: str
    path: Path
    input_name: str


class FreshProcess:
    """A new Python process that loads formats and runs them, without Model Garden. Starting it does not wait for it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        # Held by the other process alone, so that its death shows here as the end of the stream.
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.join()
        self._process.close()

    def load(self, candidate: Candidate) -> None:
        """Loads a format (see `models.load_runner`).

        Raises:
            ArtifactError: It cannot be loaded there.
        """
        self._ask(candidate.name, candidate)

    def run(self, candidate: Candidate, image: ProofImage) -> Outputs:
        """Runs a loaded format on one image.

        Raises:
            ArtifactError: It cannot run, or needed Model Garden to do it.
        """
        outputs: Outputs = self._ask(candidate.name, image.as_input(candidate.input_name))
        return outputs

    def _ask(self, name: str, question: Candidate | Input) -> Any:
        try:
            self._connection.send((name, question))
            answer, error = self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            raise ArtifactError(f"the process that tried it died with exit code {self._process.exitcode}", path=name) from None
        if error is not None:
            raise ArtifactError(error, path=name)
        return answer


def compare_outputs(expected: Outputs, actual: Outputs) -> dict[str, float]:
    """Returns the largest absolute difference of each output; infinity for one that is missing, not finite, or of another shape."""
    return {name: _max_difference(expected[name], actual.get(name)) for name in OUTPUT_NAMES}


def prove(
    reference: Callable[[ProofImage], Outputs],
    candidates: Mapping[str, Callable[[ProofImage], Outputs]],
    images: Iterable[ProofImage],
    *,
    reference_name: str,
) -> dict[str, Agreement]:
    """Compares formats with the checkpoint, image by image.

    Args:
        reference: The checkpoint.
        candidates: The formats, by name.
        images: Read once.
        reference_name: The checkpoint's, for messages.

    Returns:
        The agreement of each format, by name.

    Raises:
        ArtifactError: A format differs by more than `LIMITS`; the message has the output, the worst image and the difference.
    """
    seen: dict[str, list[tuple[str, dict[str, float]]]] = {name: [] for name in candidates}
    num_detections = 0
    for image in images:
        expected = reference(image)
        num_detections += int(expected["num_detections"].sum())
        for name, run in candidates.items():
            seen[name].append((image.name, compare_outputs(expected, run(image))))
    for name, differences in seen.items():
        _require_agreement(name, differences, reference_name)
    return {
        name: Agreement(len(found), num_detections, {output: max(d[output] for _, d in found) for output in OUTPUT_NAMES})
        for name, found in seen.items()
    }


def _require_agreement(name: str, differences: Sequence[tuple[str, Mapping[str, float]]], reference_name: str) -> None:
    for output, limit in LIMITS.items():
        image, worst = max(((image, found[output]) for image, found in differences), key=lambda pair: pair[1])
        if worst > limit:
            amount = "it is missing, not finite or of another shape" if math.isinf(worst) else f"a difference of {worst:.3g}"
            raise ArtifactError(
                f"{output} is not as {reference_name} gives it on image {image}: {amount}, allowed is {limit:g}",
                path=name,
                remedy="nothing was published",
            )


def _max_difference(expected: npt.NDArray[np.float32], actual: npt.NDArray[np.float32] | None) -> float:
    if actual is None or actual.shape != expected.shape or actual.dtype != expected.dtype:
        return math.inf
    worst = float(np.max(np.abs(actual.astype(np.float64) - expected), initial=0.0))
    return worst if math.isfinite(worst) else math.inf


def _serve(connection: Connection) -> None:
    """Answers questions (name, format to load or input to run) with (answer, error) until the other end closes."""
    # Ctrl-C reaches the whole process group; the parent decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from detflow.models import load_runner

    runners: dict[str, Callable[[Input], Outputs]] = {}
    while True:
        try:
            name, question = connection.recv()
        except EOFError:
            return
        answer, error = None, None
        try:
            if isinstance(question, Candidate):
                runners[name] = load_runner(question.path, question.input_name)
            else:
                answer = runners[name](question)
        except DetflowError as fault:
            error = fault.cause
        if "official" in sys.modules:
            error = "it needs Model Garden to run"
        connection.send((answer, error))
