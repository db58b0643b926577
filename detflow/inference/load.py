"""Whatever a person names as a model → something that detects. TensorFlow is imported only for what nothing else runs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from detflow.artifact import FORMATS, INPUT_NAME, OPENCV_SIGNATURE, ArtifactDir
from detflow.errors import ArtifactError, environment_faults
from detflow.geometry import Images
from detflow.inference.detector import Detector, Outputs, Runner
from detflow.inference.labels import read_onnx_labels, read_tflite_labels
from detflow.inference.onnx import load_onnx, load_with_opencv
from detflow.inference.openvino import has_openvino, load_openvino
from detflow.inference.tflite import load_tflite
from detflow.runs.run_dir import STATE_NAME
from detflow.storage.folders import open_folder
from detflow.storage.location import Location, Url
from detflow.types import LabelMap, read_label_map

# The formats of an exported folder from the one that is preferred on: without TensorFlow, and fast.
# OpenVINO's may lie where no OpenVINO is installed.
_PREFERRED: Final = (
    "onnx",
    "tflite",
    "tflite_float16",
    "tflite_int8",
    "tflite_dynamic",
    "openvino",
    "frozen",
    "saved_model",
)
# What runs without TensorFlow, by its suffix and the entry's signature.
_LIGHT_RUNTIMES: Final[dict[tuple[str, str], Callable[..., Runner]]] = {
    (".onnx", ""): load_onnx,
    (".onnx", OPENCV_SIGNATURE): load_with_opencv,
    (".tflite", ""): load_tflite,
    (".xml", ""): load_openvino,
}


@contextlib.contextmanager
def local_model(model: Location) -> Iterator[Path]:
    """Yields where a model lies on this machine: an exported folder, a model directory, or a checkpoint inside one.

    Args:
        model: A path, which is yielded as it is; or a URL, whose files are here as long as the
            block lasts.

    Raises:
        ArtifactError: There is nothing at the URL.
        EnvironmentFault: The store or the disk refuses.
    """
    if not isinstance(model, Url):
        yield model
        return
    is_checkpoint = open_folder(model).digest(STATE_NAME) is not None
    root = open_folder(model.parent if is_checkpoint else model)
    with tempfile.TemporaryDirectory(prefix="detflow-") as folder, environment_faults(folder):
        path = Path(folder) / root.name
        for name, outside, _ in root.walk(lambda name: name.startswith(".")):
            # A checkpoint needs what lies beside it, but not the others.
            if outside is None and (
                not is_checkpoint or "/" not in name or name.startswith(f"{model.name}/")
            ):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                root.fetch(name, path / name)
        if not path.exists():
            raise ArtifactError("there is nothing", path=str(model))
        yield path / model.name if is_checkpoint else path


def load_detector(path: Path, *, threads: int = 0) -> Detector:
    """Makes a detector from whatever the path is.

    Args:
        path: An exported folder (the fastest of its formats that needs no TensorFlow runs, else its
            frozen graph); one of its files (`*.onnx`, `*.tflite`, `*.xml`, `*.pb`) with
            `label_map.pbtxt` beside it or beside its folder, which all but OpenVINO's can do
            without, since they hold the class names; a SavedModel folder (label map inside
            `assets/` or beside it); a model directory (its best checkpoint); or a checkpoint
            folder.
        threads: As in `load_runner`; a model directory and its checkpoints take one a core.

    Raises:
        ArtifactError: It is none of these, or it is damaged.
    """
    if not path.exists():
        raise ArtifactError("no such file or folder", path=path)
    artifact = ArtifactDir(path)
    if artifact.exists():
        artifact.verify()
        return load_verified(artifact, threads=threads)
    name = artifact.label_map_path.name
    if (path.suffix, "") in _LIGHT_RUNTIMES or _is_graph_file(path):
        beside = _first_file(path.parent / name, path.parent.parent / name)
        return Detector(load_runner(path, threads=threads), _read_labels(path, beside), path)
    saved_model = path.parent if path.name == "saved_model.pb" else path
    if (saved_model / "saved_model.pb").is_file():
        label_map = read_label_map(
            _first_file(saved_model / "assets" / name, saved_model.parent / name)
        )
        return Detector(load_runner(saved_model, threads=threads), label_map, saved_model)
    from detflow.inference.tensorflow import load_checkpoint_detector

    return load_checkpoint_detector(path)


def load_verified(artifact: ArtifactDir, *, threads: int = 0) -> Detector:
    """Makes a detector of an exported folder after `ArtifactDir.verify`, which reads every file.

    Args:
        artifact: The folder; the fastest of its formats runs.
        threads: Threads of one operation; 0 takes one for each core.

    Raises:
        ArtifactError: No format in it can be run, or one is damaged in spite of its digest.
    """
    files = [artifact.path / FORMATS[name].entries[0].path for name in _PREFERRED]
    file = next(
        (file for file in files if file.exists() and (file.suffix != ".xml" or has_openvino())),
        None,
    )
    if file is None:
        raise ArtifactError("the exported folder holds no format that detflow runs", path=artifact.path)
    return Detector(
        load_runner(file, threads=threads), read_label_map(artifact.label_map_path), file
    )


def load_runner(
    path: Path, input_name: str = INPUT_NAME, signature: str = "", *, threads: int = 0
) -> Callable[[Images | Sequence[bytes]], Outputs]:
    """Loads a file or SavedModel of any exported format.

    Args:
        path: The file or folder.
        input_name: One of the serving contract's inputs; see `artifact.CONTRACT`.
        signature: As in `artifact.Entry`; that of a SavedModel follows from the input.
        threads: Of one operation; 0 takes one a core. TensorFlow's are fixed when it first runs.

    Returns:
        From [N, height, width, 3] uint8, or N byte strings where that is what the input takes, to
        the outputs.

    Raises:
        ArtifactError: It is damaged, or has no such input.
    """
    light: Any = _LIGHT_RUNTIMES.get((path.suffix, signature))
    if light is not None:
        if input_name != INPUT_NAME:
            raise ArtifactError(f"not a detection graph with input {input_name}", path=path)
        return light(path, threads=threads)  # type: ignore[no-any-return]
    from detflow.inference.tensorflow import load_runner as load_tensorflow_runner

    return load_tensorflow_runner(path, input_name, threads=threads)


def _read_labels(path: Path, beside: Path) -> LabelMap:
    """Reads the label map, or where that is missing the class names inside the file itself."""
    if beside.is_file() or path.suffix == ".xml":
        return read_label_map(beside)
    if path.suffix == ".onnx":
        return read_onnx_labels(path)
    if path.suffix == ".tflite":
        return read_tflite_labels(path)
    from detflow.inference.tensorflow import read_graph_labels

    return read_graph_labels(path)


def _first_file(*places: Path) -> Path:
    """Returns the first that is there; the first of all where none is."""
    return next((place for place in places if place.is_file()), places[0])


def _is_graph_file(path: Path) -> bool:
    return path.is_file() and path.suffix == ".pb" and path.name != "saved_model.pb"
