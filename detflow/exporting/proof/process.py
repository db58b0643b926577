"""A fresh process that knows only the runtime of a format, and runs the format on images.

The fresh process imports this module. Nothing that this module imports may therefore import Model
Garden or TensorFlow: that the process ran without them is part of the proof.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from detflow.artifact import ENCODED_INPUT_NAME, INPUT_NAME
from detflow.data.records.example import encode_example
from detflow.errors import ArtifactError, DetflowError
from detflow.exporting.proof.contract import FileFacts, read_facts
from detflow.inference.detector import Outputs
from detflow.inference.formats.base import MODEL_GARDEN, TENSORFLOW, EntryPoint, Format
from detflow.process.platform import die_with
from detflow.types import ImageSize, ObjectAnnotation

_GARDEN: Final = "official"

Input: TypeAlias = npt.NDArray[np.uint8] | Sequence[bytes]
"""A batch of one image as an input of the serving contract takes it."""


@dataclass(frozen=True)
class ProofImage:
    """One image in every shape that the serving contract takes.

    Attributes:
        name: The image's name, for messages.
        pixels: [height, width, 3] uint8, RGB.
        encoded: A JPEG or PNG file that decodes to these pixels.
        objects: The objects on it; None where nobody knows them.
    """

    name: str
    pixels: npt.NDArray[np.uint8]
    encoded: bytes
    objects: tuple[ObjectAnnotation, ...] | None = None

    @property
    def size(self) -> ImageSize:
        """The image's size in pixels."""
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
    """A way into a written format that is to be proved.

    Attributes:
        format: The format.
        entry: The way into it.
        path: The entry's file or folder.
    """

    format: Format
    entry: EntryPoint
    path: Path

    @property
    def name(self) -> str:
        """The entry's name, for messages and the card."""
        return self.entry.name


class _Question(NamedTuple):
    """What is asked of the fresh process: to load a candidate, or to run it on an input."""

    name: str
    content: Candidate | Input


class _Answer(NamedTuple):
    """What it answers.

    A run has outputs and seconds, a loaded file has facts, and a question that failed has a fault.
    """

    outputs: Outputs | None
    seconds: float
    facts: FileFacts | None
    fault: str | None


class FreshProcess:
    """A new Python process that loads formats of one runtime and runs them.

    Making one does not wait for it.

    Args:
        runtime: The runtime that it imports. Model Garden and TensorFlow come in only where they
            are the runtime.

    Attributes:
        last_run_s: Seconds that the last run took in the process.
    """

    def __init__(self, runtime: str) -> None:
        self._runtime = runtime
        self.last_run_s = 0.0
        self._start()

    def _start(self) -> None:
        self._loaded: set[str] = set()
        self._connection, theirs = multiprocessing.Pipe()
        # Only the other process holds its end open, so that its death ends the stream here.
        with theirs:
            descriptor = theirs.fileno()
            # It is no process of multiprocessing, which would first run the user's script again.
            program = (
                f"import sys; sys.path[:] = {sys.path!r}; "
                # Before the runtime is imported, which takes seconds, or minutes on a busy machine.
                f"from {die_with.__module__} import die_with; die_with({os.getpid()}); "
                f"from {__name__} import answer_questions; "
                f"answer_questions({descriptor}, {self._runtime!r})"
            )
            self._process = subprocess.Popen([sys.executable, "-c", program], pass_fds=[descriptor])  # noqa: S603

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

    def load(self, candidate: Candidate) -> FileFacts:
        """Loads a candidate; one that was loaded under its name before is forgotten.

        Returns:
            What its file says of itself.

        Raises:
            ArtifactError: It cannot be loaded there.
        """
        answer = self._ask(_Question(candidate.name, candidate))
        self._loaded.add(candidate.name)
        return answer.facts or FileFacts(None, None)

    def run(self, candidate: Candidate, image: ProofImage) -> Outputs:
        """Runs a candidate on one image, and loads it before where that is not done.

        Raises:
            ArtifactError: It cannot run, or needed a forbidden library to do it.
        """
        if candidate.name not in self._loaded:
            self.load(candidate)
        content = image.as_input(candidate.entry.input_name)
        answer = self._ask(_Question(candidate.name, content))
        self.last_run_s = answer.seconds
        return answer.outputs or {}

    def _ask(self, question: _Question) -> _Answer:
        try:
            self._connection.send(question)
            answer: _Answer = self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            died = ArtifactError(
                f"the process that tried it died with exit code {self._process.wait()}",
                path=question.name,
            )
            # The formats after this one get a new process.
            self._stop()
            self._start()
            raise died from None
        if answer.fault is not None:
            raise ArtifactError(answer.fault, path=question.name)
        return answer


def answer_questions(descriptor: int, runtime: str) -> None:
    """Loads and runs what `FreshProcess` asks for, until the other end of the pipe closes.

    Args:
        descriptor: The file descriptor of this end.
        runtime: The runtime of all candidates.
    """
    connection = Connection(descriptor)
    # Ctrl-C reaches the whole process group; the parent decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    needs_tensorflow = runtime in (TENSORFLOW, MODEL_GARDEN)
    if needs_tensorflow:
        # The import takes seconds, in which the parent builds the network.
        import_module("detflow.inference.tensorflow")

    runners: dict[str, Callable[[Any], Outputs]] = {}
    while True:
        try:
            name, content = connection.recv()
        except EOFError:
            return
        outputs, seconds, facts, fault = None, 0.0, None, None
        try:
            if isinstance(content, Candidate):
                runners[name] = content.format.load(content.path, content.entry)
                facts = read_facts(content.format, content.path, content.entry)
            else:
                start = time.perf_counter()
                outputs = runners[name](content)
                seconds = time.perf_counter() - start
        except DetflowError as error:
            fault = error.cause
        if runtime != MODEL_GARDEN and _GARDEN in sys.modules:
            fault = "it needs Model Garden to run"
        if not needs_tensorflow and TENSORFLOW in sys.modules:
            fault = "it needs TensorFlow to run"
        connection.send(_Answer(outputs, seconds, facts, fault))
