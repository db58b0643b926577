"""A model directory, a checkpoint or an exported artifact → detections.

Evaluation, prediction and the export's proof all go through here. Artifacts are run without importing Model Garden.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from detflow.artifact import INPUT_NAME, OUTPUT_NAMES, ArtifactDir
from detflow.errors import ArtifactError, EnvironmentFault
from detflow.types import Box, Detection, LabelMap, read_label_map

__all__ = ["Detector", "Outputs", "eager_outputs", "load_detector", "load_runner"]

# Images of one size that follow each other go through the network together, as long as their pixels, which are resized as
# floats, stay below 100 MB.
_MAX_BATCH = 8
_MAX_BATCH_PIXELS = 8_000_000

Images = npt.NDArray[np.uint8]
Outputs = Mapping[str, npt.NDArray[np.float32]]


class Detector:
    """Detects objects in images.

    Args:
        run: From [N, height, width, 3] uint8 to the outputs of the serving contract.
        label_map: The classes.
        source: What the detector was made from, for messages.
    """

    def __init__(self, run: Callable[[Images], Outputs], label_map: LabelMap, source: Path) -> None:
        self.run = run
        self.label_map = label_map
        self.source = source

    def detect(self, images: Iterable[Images]) -> Iterator[list[Detection]]:
        """Yields the detections of each image [height, width, 3] uint8 RGB, from the highest score to the lowest.

        Raises:
            ArtifactError: The model cannot run, or does not keep the serving contract.
            EnvironmentFault: The memory does not suffice.
        """
        for (height, width, *_), group in itertools.groupby(images, key=lambda image: image.shape):
            for batch in _batches(group, max(1, min(_MAX_BATCH, _MAX_BATCH_PIXELS // (height * width)))):
                outputs = self._run_checked(np.stack(batch))
                for row in range(len(batch)):
                    yield self._detections({name: values[row] for name, values in outputs.items()})

    def _run_checked(self, images: Images) -> Outputs:
        try:
            return self.run(images)
        except tf.errors.ResourceExhaustedError as error:
            raise EnvironmentFault(f"the memory does not suffice: {_first_line(error)}", path=self.source) from None
        except tf.errors.OpError as error:
            raise ArtifactError(f"the model cannot run: {_first_line(error)}", path=self.source) from None

    def _detections(self, outputs: Outputs) -> list[Detection]:
        try:
            count = int(outputs["num_detections"])
            # Another tool's graph may overshoot the image by a rounding.
            boxes = np.clip(outputs["detection_boxes"][:count], 0.0, 1.0).tolist()
            scores, classes = outputs["detection_scores"][:count].tolist(), outputs["detection_classes"][:count].tolist()
            return [
                Detection(self.label_map.name_of(int(class_id)), int(class_id), score, Box(ymin, xmin, ymax, xmax))
                for (ymin, xmin, ymax, xmax), score, class_id in zip(boxes, scores, classes, strict=True)
                # A box outside of the image, which clipping left without area, is nothing to show.
                if ymin < ymax and xmin < xmax
            ]
        except (KeyError, ValueError, TypeError) as error:
            reason = f"there is no class {error}" if isinstance(error, KeyError) else _first_line(error)
            raise ArtifactError(f"the outputs are not as the serving contract says: {reason}", path=self.source) from None


def load_detector(path: Path) -> Detector:
    """Makes a detector from whatever the path is.

    Args:
        path: An exported folder (its frozen graph runs), a frozen graph `*.pb` with `label_map.pbtxt` beside it, a SavedModel
            folder (label map inside `assets/` or beside it), a model directory (its best checkpoint), or a checkpoint folder.

    Raises:
        ArtifactError: It is none of these, or it is damaged.
    """
    if not path.exists():
        raise ArtifactError("no such file or folder", path=path)
    artifact = ArtifactDir(path)
    if artifact.exists():
        artifact.verify()
        return _artifact_detector(artifact.frozen_graph_path, artifact.label_map_path)
    if _is_graph_file(path):
        return _artifact_detector(path, path.parent / artifact.label_map_path.name)
    saved_model = path.parent if path.name == "saved_model.pb" else path
    if (saved_model / "saved_model.pb").is_file():
        beside = [saved_model / "assets" / artifact.label_map_path.name, saved_model.parent / artifact.label_map_path.name]
        return _artifact_detector(saved_model, next((place for place in beside if place.is_file()), beside[1]))
    # Building a network for a checkpoint needs Model Garden, which takes seconds to import.
    from detflow.engine.trained import load_trained_model

    trained = load_trained_model(path)
    return Detector(eager_outputs(trained.serving.detect_traced), trained.label_map, trained.checkpoint_path)


def load_runner(path: Path, input_name: str) -> Callable[[Images | Sequence[bytes]], Outputs]:
    """Loads a frozen graph or a SavedModel for one of the serving contract's inputs; see `artifact.CONTRACT`.

    Returns:
        From [N, height, width, 3] uint8, or N byte strings where that is what the input takes, to the outputs.

    Raises:
        ArtifactError: It is damaged, or has no such input.
    """
    try:
        return _graph_runner(path, input_name) if _is_graph_file(path) else _saved_model_runner(path, input_name)
    except (tf.errors.OpError, ValueError, KeyError, OSError) as error:
        raise ArtifactError(f"not a detection graph with input {input_name}: {_first_line(error)}", path=path) from None
    except Exception as error:
        # protobuf's DecodeError is another class in each of its implementations.
        if type(error).__name__ != "DecodeError":
            raise
        raise ArtifactError(f"not a graph: {_first_line(error)}", path=path) from None


def eager_outputs(function: Callable[[tf.Tensor], Mapping[str, tf.Tensor]]) -> Callable[[Images | Sequence[bytes]], Outputs]:
    """Wraps a TensorFlow function of the serving contract: arrays or byte strings in, arrays out."""
    return lambda values: {name: value.numpy() for name, value in function(tf.constant(values)).items()}


def _is_graph_file(path: Path) -> bool:
    return path.is_file() and path.suffix == ".pb" and path.name != "saved_model.pb"


def _artifact_detector(path: Path, label_map_path: Path) -> Detector:
    label_map = read_label_map(label_map_path)
    return Detector(load_runner(path, INPUT_NAME), label_map, path)


def _graph_runner(path: Path, input_name: str) -> Callable[[Images | Sequence[bytes]], Outputs]:
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(path.read_bytes())
    function = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    return eager_outputs(function.prune(f"{input_name}:0", {name: f"{name}:0" for name in OUTPUT_NAMES}))


def _saved_model_runner(path: Path, input_name: str) -> Callable[[Images | Sequence[bytes]], Outputs]:
    loaded = tf.saved_model.load(os.fspath(path))
    by_input = {tuple(serve.structured_input_signature[1]): serve for serve in loaded.signatures.values()}
    serve = by_input[(input_name,)]

    # The signature does not own its variables; whoever calls it keeps the object that does.
    def run(values: tf.Tensor, owner: object = loaded) -> Mapping[str, tf.Tensor]:
        return serve(**{input_name: values})  # type: ignore[no-any-return]

    return eager_outputs(run)


def _batches(items: Iterable[Images], size: int) -> Iterator[list[Images]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
