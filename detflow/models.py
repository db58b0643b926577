"""Whatever a person names as a model → something that detects. TensorFlow is imported only for what nothing else runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from detflow.artifact import INPUT_NAME, ArtifactDir
from detflow.errors import ArtifactError
from detflow.runtime.detector import Detector, Images, Outputs, Runner
from detflow.runtime.onnx import load_onnx
from detflow.runtime.tflite import load_tflite
from detflow.types import read_label_map

__all__ = ["load_detector", "load_runner"]

# The formats of an exported folder from the one that is preferred on: without TensorFlow, and fast.
_PREFERRED: Final = ("onnx_path", "frozen_graph_path")
# What runs without TensorFlow, by its suffix.
_LIGHT_RUNTIMES: Final[dict[str, Callable[[Path], Runner]]] = {".onnx": load_onnx, ".tflite": load_tflite}


def load_detector(path: Path) -> Detector:
    """Makes a detector from whatever the path is.

    Args:
        path: An exported folder (the fastest of its formats that needs no TensorFlow runs, else its frozen graph); one of its files
            (`*.onnx`, `*.pb`) with `label_map.pbtxt` beside it; a SavedModel folder (label map inside `assets/` or beside it); a
            model directory (its best checkpoint); or a checkpoint folder.

    Raises:
        ArtifactError: It is none of these, or it is damaged.
    """
    if not path.exists():
        raise ArtifactError("no such file or folder", path=path)
    artifact = ArtifactDir(path)
    if artifact.exists():
        artifact.verify()
        files = [getattr(artifact, name) for name in _PREFERRED]
        file = next((file for file in files if file.is_file()), artifact.saved_model_path)
        return _artifact_detector(file, artifact.label_map_path)
    if path.suffix in _LIGHT_RUNTIMES or _is_graph_file(path):
        return _artifact_detector(path, path.parent / artifact.label_map_path.name)
    saved_model = path.parent if path.name == "saved_model.pb" else path
    if (saved_model / "saved_model.pb").is_file():
        beside = [saved_model / "assets" / artifact.label_map_path.name, saved_model.parent / artifact.label_map_path.name]
        return _artifact_detector(saved_model, next((place for place in beside if place.is_file()), beside[1]))
    from detflow.engine.detector import load_checkpoint_detector

    return load_checkpoint_detector(path)


def load_runner(path: Path, input_name: str = INPUT_NAME) -> Callable[[Images | Sequence[bytes]], Outputs]:
    """Loads a file or SavedModel of any exported format for one of the serving contract's inputs; see `artifact.CONTRACT`.

    Returns:
        From [N, height, width, 3] uint8, or N byte strings where that is what the input takes, to the outputs.

    Raises:
        ArtifactError: It is damaged, or has no such input.
    """
    light: Any = _LIGHT_RUNTIMES.get(path.suffix)
    if light is not None:
        if input_name != INPUT_NAME:
            raise ArtifactError(f"not a detection graph with input {input_name}", path=path)
        return light(path)  # type: ignore[no-any-return]
    from detflow.engine.detector import load_runner as load_tensorflow_runner

    return load_tensorflow_runner(path, input_name)


def _artifact_detector(path: Path, label_map_path: Path) -> Detector:
    label_map = read_label_map(label_map_path)
    return Detector(load_runner(path), label_map, path)


def _is_graph_file(path: Path) -> bool:
    return path.is_file() and path.suffix == ".pb" and path.name != "saved_model.pb"
