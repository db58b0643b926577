"""A detector from whatever a person names as a model.

TensorFlow is imported only for what no other runtime runs.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from detflow.artifact import LABEL_MAP_NAME, ArtifactDir, read_canvas_sizes
from detflow.digests import DIGEST_KEY, read_json_object
from detflow.errors import ArtifactError, environment_faults
from detflow.inference.detector import Detector
from detflow.inference.formats import FORMATS
from detflow.inference.formats.base import TENSORFLOW
from detflow.label_map import read_label_map
from detflow.process.libraries import require_library
from detflow.storage.folders import open_folder
from detflow.storage.kinds import describe_mistake
from detflow.storage.location import Location, Url


@contextlib.contextmanager
def local_model(model: Location) -> Iterator[Path]:
    """Yields where a model lies on this machine.

    Args:
        model: An exported folder, a model directory, or a checkpoint inside one. A path is yielded
            as it is; the files of a URL are here as long as the block lasts.

    Raises:
        ArtifactError: There is nothing at the URL.
        EnvironmentFault: The store or the disk refuses.
    """
    if not isinstance(model, Url):
        yield model
        return
    from detflow.runs.run_dir import STATE_NAME

    is_checkpoint = open_folder(model).digest(STATE_NAME) is not None
    root = open_folder(model.parent if is_checkpoint else model)
    with tempfile.TemporaryDirectory(prefix="detflow-") as folder, environment_faults(folder):
        path = Path(folder) / root.name
        for name, outside, _ in root.walk(lambda name: name.startswith(".")):
            # A checkpoint needs the files beside its folder, but no other checkpoint.
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
        path: An exported folder, whose files are compared with its manifest first; a file or folder
            of one format, such as `model.onnx` or `saved_model`, with `label_map.pbtxt` beside it
            or beside its folder where no class names are inside (in an exported folder the file
            must be one that the manifest lists); a model directory, whose best checkpoint is meant;
            or a checkpoint's folder.
        threads: Threads of one operation; 0 takes one a core, as a model directory and its
            checkpoints always do.

    Raises:
        ArtifactError: It is none of these, or it is damaged.
        EnvironmentFault: Its runtime is not installed.
    """
    if not path.exists():
        raise ArtifactError("no such file or folder", path=path)
    artifact = ArtifactDir(path)
    if artifact.exists():
        artifact.verify()
        return load_verified(artifact, threads=threads)
    for candidate in FORMATS:
        file = candidate.find(path)
        if file is not None:
            canvas_sizes: tuple[tuple[int, int], ...] = ()
            if export := _find_export(file):
                export.verify_part(file)
                canvas_sizes = read_canvas_sizes(export.read_card())
            run = candidate.load(file, candidate.entries[0], threads=threads)
            return Detector(
                run, candidate.read_labels(file), file, canvas_sizes, candidate.max_batch_pixels
            )
    if not _is_of_a_run(path):
        cause, remedy = describe_mistake(path, "model")
        raise ArtifactError(cause, path=path, remedy=remedy)
    require_library(TENSORFLOW, "a model directory or checkpoint")
    from detflow.inference.tensorflow import load_checkpoint_detector

    return load_checkpoint_detector(path)


def load_verified(artifact: ArtifactDir, *, threads: int = 0) -> Detector:
    """Makes a detector of an exported folder after `ArtifactDir.verify`, which reads every file.

    Args:
        artifact: The folder. The first of `inference.formats.FORMATS` that its manifest lists, and
            whose runtime is installed, runs.
        threads: Threads of one operation; 0 takes one a core.

    Raises:
        ArtifactError: No format in it can be run, or one is damaged in spite of its digest.
    """
    card = artifact.read_card()
    for candidate in FORMATS:
        entry = candidate.entries[0]
        file = artifact.path / entry.path
        if artifact.lists(card, entry.path) and candidate.is_installed():
            run = candidate.load(file, entry, threads=threads)
            label_map = read_label_map(artifact.label_map_path)
            if candidate.read_names(file) not in (None, label_map):
                raise ArtifactError(
                    f"{entry.path} holds other class names than {LABEL_MAP_NAME}",
                    path=artifact.path,
                    remedy="export again",
                )
            return Detector(
                run, label_map, file, read_canvas_sizes(card), candidate.max_batch_pixels
            )
    for candidate in FORMATS:
        if artifact.lists(card, candidate.entries[0].path):
            candidate.require_installed()
    raise ArtifactError("the exported folder holds no format that detflow runs", path=artifact.path)


def _is_of_a_run(path: Path) -> bool:
    """Tells whether a path is a model directory or a checkpoint, or is called like one."""
    # They know the configuration, whose schema takes 10 MB and a tenth of a second that no exported
    # file needs.
    from detflow.runs.run_dir import RunDir
    from detflow.runs.states import is_checkpoint

    return RunDir(path).exists() or is_checkpoint(path) or RunDir.step_of(path) is not None


def _find_export(file: Path) -> ArtifactDir | None:
    """Returns the exported folder that a model file or folder lies in; None where it is alone.

    Other programs have a `model.json` too.
    """
    artifact = ArtifactDir(file.absolute().parent)
    if not artifact.exists():
        return None
    content = read_json_object(artifact.manifest_path)
    return artifact if {"files", DIGEST_KEY} & content.keys() else None
