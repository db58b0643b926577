"""What is sabotaged: a trained checkpoint on its way into a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from detflow.artifact import ArtifactDir
from detflow.exporting.formats.base import Job
from detflow.exporting.proof.gate import Reference
from detflow.exporting.proof.images import (
    NUM_MEASURED_IMAGES,
    ProofImages,
    find_proof_images,
    read_training_samples,
)
from detflow.exporting.proof.references import measure_references
from detflow.inference.formats.base import Canvas, Format
from detflow.inference.serving import ServingModel
from detflow.inference.trained import TrainedModel, load_trained_model


@dataclass(frozen=True)
class Subject:
    """A checkpoint, and what it detects on the images of its proof.

    Attributes:
        trained: The checkpoint.
        other: Another checkpoint of its run, whose weights are a sabotage.
        proof: The images.
        references: The checkpoint on them.
    """

    trained: TrainedModel
    other: Path
    proof: ProofImages
    references: Mapping[Canvas, Reference]


@dataclass(frozen=True)
class Scene:
    """One conversion.

    Attributes:
        subject: What is converted.
        job: The honest job.
        random: The source of everything random; one seed gives the same sabotage.
    """

    subject: Subject
    job: Job
    random: np.random.Generator

    @property
    def variables(self) -> list[tf.Variable]:
        """All variables of the network."""
        variables: list[tf.Variable] = self.job.trained.serving.model.network.variables
        return variables

    def retrace(self, **changes: float) -> Job:
        """Returns the job with functions that are traced anew, and settings that are changed."""
        serving = self.job.trained.serving
        again = ServingModel(serving.model, serving.config.model_copy(update=changes))
        return replace(self.job, trained=replace(self.job.trained, serving=again))


def load_subject(model_dir: Path, formats: tuple[Format, ...]) -> Subject:
    """Loads the best checkpoint of a model directory, and runs it on its proof's images.

    Args:
        model_dir: The model directory.
        formats: The formats that it is going to become.
    """
    trained = load_trained_model(model_dir)
    others = [path for path in trained.run.path.glob("ckpt-*") if path != trained.checkpoint_path]
    proof = find_proof_images(
        None,
        None,
        trained.config.data,
        NUM_MEASURED_IMAGES,
        trained.label_map,
        trained.serving.model.canvas_sizes,
    )
    references = measure_references(trained, proof, formats)
    if not others:
        raise SystemExit(f"{model_dir} has one checkpoint: no other one can be taken for it")
    return Subject(trained, min(others), proof, references)


@contextmanager
def open_scene(subject: Subject, seed: list[int]) -> Iterator[Scene]:
    """Yields a scene in a folder of its own; the network is put back as it was."""
    trained = subject.trained
    before = [variable.numpy() for variable in trained.serving.model.network.variables]
    with tempfile.TemporaryDirectory() as folder:
        artifact = ArtifactDir(Path(folder))
        artifact.label_map_path.write_text(trained.label_map.to_pbtxt(), encoding="utf-8")
        data, label_map = trained.config.data, trained.label_map
        job = Job(trained, artifact, lambda: read_training_samples(None, data, label_map))
        scene = Scene(subject, job, np.random.default_rng(seed))
        yield scene
        for variable, value in zip(scene.variables, before, strict=True):
            variable.assign(value)
