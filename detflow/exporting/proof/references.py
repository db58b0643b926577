"""The checkpoint on the proof's images, as each format sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from detflow.exporting.proof.gate import Reference, measure_reference
from detflow.exporting.proof.images import ProofImages
from detflow.exporting.proof.process import ProofImage
from detflow.geometry import Images, boxes_to_image, fit_to_canvas
from detflow.inference.detector import Outputs
from detflow.inference.formats.base import Canvas, Format
from detflow.inference.formats.tflite import to_uint8
from detflow.inference.serving import ServingModel
from detflow.inference.tensorflow import eager_outputs
from detflow.inference.trained import TrainedModel
from detflow.models import preprocess
from detflow.models.base import DetectionModel

# The fits of TensorFlow and of NumPy differ by 1e-4 of a grey level on photos.
_SAME_LEVEL: Final = 0.01


def measure_references(
    trained: TrainedModel, proof: ProofImages, formats: Sequence[Format]
) -> Mapping[Canvas, Reference]:
    """Runs the checkpoint on the proof's images, on each kind of canvas that a format takes.

    A format whose canvas is the first one, in whole grey levels, has to detect what the checkpoint
    detects on that very canvas: the rounding is the caller's and no fault of the file, and without
    it nothing but the file's own numbers is left to differ. The AP that all of it costs is measured
    against the checkpoint on the images as they are, and held to the gate.

    Returns:
        References by canvas: `all`, and `first` where a format asks for it.

    Raises:
        DataError: There is no image.
        ArtifactError: The records are damaged.
    """
    reference = measure_reference(detect_as_it_is(trained), proof, trained)
    references: dict[Canvas, Reference] = {"all": reference}
    if any(written.canvas == "first" for written in formats):
        first = detect_on_bytes(trained, trained.serving.model)
        outputs = [first(image) for image in proof.images]
        references["first"] = dataclasses.replace(reference, outputs=outputs)
    return references


def detect_as_it_is(trained: TrainedModel) -> Callable[[ProofImage], Outputs]:
    """Returns a checkpoint as a function of an image."""
    detect = load_eager(trained)
    return lambda image: detect(image.pixels[np.newaxis])


def detect_on_bytes(
    trained: TrainedModel, model: DetectionModel
) -> Callable[[ProofImage], Outputs]:
    """Returns a model as a function of an image that is fitted into whole grey levels before it.

    Args:
        trained: The checkpoint, for its thresholds and its name.
        model: Its model, or one that was tuned after it.
    """
    serving = ServingModel(model, trained.serving.config, model.canvas_sizes[:1])
    detect = load_eager(trained, serving)

    def run(image: ProofImage) -> Outputs:
        # TensorFlow fits the image here, and NumPy where the file is run: a fault of one shows.
        pixels = image.pixels[np.newaxis]
        canvases, ratio = preprocess.fit_to_canvas(pixels, model.input_size)
        theirs, _ = fit_to_canvas(pixels, model.input_size)
        outputs = detect(round_alike(canvases.numpy(), theirs))
        boxes = boxes_to_image(outputs["detection_boxes"], ratio.numpy())
        return {**outputs, "detection_boxes": boxes}

    return run


def round_alike(
    canvases: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """Rounds canvases as another fit of the same images rounds its own, as far as the two agree.

    A resize by a simple ratio, 416 to 288 pixels for example, puts one value of a thousand on the
    middle between two grey levels. There the last bit decides, which no two libraries share, and
    some hundred levels of a canvas move the scores of a network as much as a small fault does.

    Args:
        canvases: [N, height, width, 3], in grey levels.
        theirs: The same by the other fit.

    Returns:
        `theirs` rounded where both are the same grey level but for a hundredth, else `canvases`
        rounded: a difference that is no last bit stays.
    """
    agree = np.abs(canvases - theirs) <= _SAME_LEVEL
    return np.where(agree, to_uint8(theirs), to_uint8(canvases))


def load_eager(
    trained: TrainedModel, serving: ServingModel | None = None
) -> Callable[[Images], Outputs]:
    """Returns a checkpoint as a function of images of one size.

    Args:
        trained: The checkpoint.
        serving: What serves it in another way than its own.
    """
    detect = (serving or trained.serving).detect_traced
    return eager_outputs(detect, trained.checkpoint_path, has_variables=True)
