"""The front door's functions for models: train, judge, export, detect."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from detflow.api.common import Place, progress_shown, to_location, to_path
from detflow.data.images.cost import DEFAULT_MAX_BYTES
from detflow.errors import ConfigError
from detflow.inference.results import DEFAULT_SCORE_THRESHOLD
from detflow.prediction.limits import DEFAULT_MAX_FRAMES
from detflow.process.libraries import require_library
from detflow.storage.kinds import describe_mistake
from detflow.storage.location import Location, is_url

if TYPE_CHECKING:
    from detflow.config.schema import ExperimentConfig
    from detflow.distributed.topology import Topology
    from detflow.evaluation.analysis import Analysis
    from detflow.inference.detector import Detector
    from detflow.prediction.run import Predictions
    from detflow.training.loop import Action

Config: TypeAlias = "ExperimentConfig | Mapping[str, Any] | str | os.PathLike[str]"
"""A configuration: the object, its sections as dicts, or the path of a YAML file."""


FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "data.records": "--records",
        "train.time_budget": "--time-budget",
        "data.overfit": "--overfit",
    }
)
"""The options that stand for a setting."""


@dataclass(frozen=True)
class Training:
    """How a training ended.

    Attributes:
        model_dir: The model directory.
        step: The step of the last checkpoint; 0 where the training was stopped before its first.
        best_checkpoint: The checkpoint whose metric was best; None where nothing was evaluated.
        metrics: The metrics of that checkpoint on the evaluation split, by name, such as "AP50".
            None stands for what cannot be measured.
        stopped_by: The number of the signal that ended the training early; None where it ran to its
            end. Another call with the same arguments goes on.
    """

    model_dir: Location
    step: int
    best_checkpoint: Location | None
    metrics: Mapping[str, float | None]
    stopped_by: int | None


@dataclass(frozen=True)
class Export:
    """A published export.

    Attributes:
        path: The exported folder.
        card: The content of its model.json, which describes the model and how it was proved.
    """

    path: Location
    card: Mapping[str, Any]

    @property
    def files(self) -> dict[str, Location]:
        """The file or folder of each published format, by the format's name."""
        return {
            name: self.path / published["paths"][0]
            for name, published in self.card["formats"].items()
        }

    @property
    def failed(self) -> dict[str, str]:
        """Why a format was not published, by its name; empty where all formats passed."""
        return {name: found["reason"] for name, found in self.card["failed"].items()}


def train(
    config: Config,
    *,
    records: Place | None = None,
    model_dir: Place | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    time_budget: str | float | None = None,
    overfit: int | None = None,
    accept_changes: bool = False,
    actions: Sequence[Action] = (),
    progress: bool = False,
) -> Training:
    """Trains a detector in this process; called again, it resumes.

    The newest good checkpoint of the model directory is continued, to the same weights as if
    nothing had happened. In the main thread the first SIGINT or SIGTERM saves and stops, and a
    second one stops at once.

    Args:
        config: The configuration: the object that `init` returns, a dict of its sections, or the
            path of a YAML file.
        records: The records directory, instead of the configuration's `data.records`.
        model_dir: The folder for checkpoints and logs; a path or a URL. Where the configuration is
            a file, the default is runs/ and the file's name.
        overrides: Settings that replace the configuration's: {"train.steps": 600}, or
            ["train.steps=600"].
        time_budget: Train for this long instead of `train.steps`: seconds, or a text such as "12m".
            Evaluations count.
        overfit: Train on this many images only, to see whether the path can learn.
        accept_changes: Whether to resume although data, configuration or machine differ; the
            changes are recorded.
        actions: What else is to happen after each step; see `Action`.
        progress: Whether to show the training's progress on stderr.

    Returns:
        The best checkpoint, its metrics, and how the training ended.

    Raises:
        ConfigError: The configuration is wrong, or the run was started differently.
        DataError: There is nothing to train on, or an image cannot be decoded.
        ArtifactError: Records or checkpoints are damaged, or the loss is no longer finite.
        EnvironmentFault: The machine refuses: disk, permission or memory.
        Locked: Another process trains in the same model directory.
    """
    began = time.monotonic()
    require_library("tensorflow", "training")
    settings = read_settings(
        config, records=records, overrides=overrides, time_budget=time_budget, overfit=overfit
    )
    location = choose_model_dir(config, model_dir)
    return train_here(
        settings,
        location,
        accept_changes=accept_changes,
        actions=actions,
        silent=not progress,
        began=began,
    )


def evaluate(
    model: Place,
    records: Place,
    *,
    split: str = "test",
    output: Place | None = None,
    score_threshold: float | None = None,
    progress: bool = False,
) -> Analysis:
    """Judges a model on a split: COCO and VOC metrics, and what each kind of error costs.

    Objects that VOC marks as difficult count neither as hits nor as misses.

    Args:
        model: A model directory (its best checkpoint), a checkpoint, or an exported folder or file;
            a path or a URL.
        records: A folder that `make_records` wrote; a path or a URL.
        split: The split to judge on; "train+val" joins two.
        output: A folder to publish evaluation.html, plots and numbers to; an evaluation that stands
            there is replaced.
        score_threshold: The threshold for precision, confusion and errors. None takes the one with
            the best F1.
        progress: Whether to draw a progress bar on stderr, where that is a terminal.

    Returns:
        The analysis: `metrics` by name, such as "AP" and "AP50", `class_metrics` by class name, and
        curves, confusion and errors.

    Raises:
        ConfigError: There is no such split, the model has other classes, or `output` holds other
            things.
        DataError: The split has no images.
        ArtifactError: Model or records are damaged.
        EnvironmentFault: The disk refuses.
    """
    from detflow.evaluation.run import evaluate_model

    with progress_shown(progress) as shown:
        return evaluate_model(
            to_location(model),
            to_location(records),
            split,
            output=None if output is None else to_location(output),
            score_threshold=score_threshold,
            progress=shown,
        )


def export(
    checkpoint: Place,
    output: Place,
    *,
    formats: str | Sequence[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    split: str | None = None,
    score_threshold: float | None = None,
    max_detections: int | None = None,
    max_ap_drop: float | None = None,
    layouts: Sequence[str] = (),
) -> Export:
    """Exports a checkpoint, and publishes each format only after it was proved in a fresh process.

    Args:
        checkpoint: A model directory (its best checkpoint) or a checkpoint; a path or a URL.
        output: The folder to publish; a path or a URL. An export that stands there is replaced.
        formats: Names of formats, such as ["frozen", "onnx"], or "all". None takes the
            frozen graph and the SavedModel.
        images: A folder of images, or of records, that the proof runs on. None takes the run's own
            records.
        split: The split of the records. None takes the one that the run was evaluated on.
        score_threshold: Detections with a lower score are dropped inside the export. None takes the
            run's own threshold.
        max_detections: The most detections of one image. None takes the run's own number.
        max_ap_drop: How much of the checkpoint's AP a format may lose. None takes 0.005, and 0.02
            for int8.
        layouts: Servers whose versioned folders are added: "triton", "tfserving".

    Returns:
        The published folder, the files of its formats, its card, and which formats failed.

    Raises:
        ConfigError: There is no such format, or `output` is something else than an export.
        DataError: There is no image to prove the export on.
        ArtifactError: The checkpoint is damaged, or no format passed.
        EnvironmentFault: The disk refuses.
    """
    from detflow.exporting.choice import DEFAULT_FORMATS
    from detflow.exporting.run import export_model

    names = DEFAULT_FORMATS if formats is None else formats
    location = to_location(output)
    card = export_model(
        str(to_location(checkpoint)),
        location,
        formats=names if isinstance(names, str) else ",".join(names),
        images=None if images is None else to_path(images),
        split=split,
        score_threshold=score_threshold,
        max_detections=max_detections,
        max_ap_drop=max_ap_drop,
        layouts=layouts,
    )
    return Export(location, card)


def predict(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    model: Place,
    output: str | os.PathLike[str] | None = None,
    *,
    score_threshold: float = DEFAULT_SCORE_THRESHOLD,
    overlays: bool = True,
    overlay_videos: bool = False,
    formats: Collection[str] = ("coco",),
    every: int = 1,
    max_memory_mb: int = DEFAULT_MAX_BYTES >> 20,
    max_frames: int = DEFAULT_MAX_FRAMES,
    keep: bool = True,
    progress: bool = False,
) -> Predictions:
    """Detects objects in the images and videos of files, folders and patterns.

    Whether a file is an image or a video is seen from its content. Files that cannot be read, or
    not to their end, are named in the result. For images in memory use `load_detector`.

    Args:
        sources: A file, a folder, a pattern such as "photos/**/*.jpg"; or several of them.
        model: A model as `load_detector` takes it.
        output: A folder to publish predictions.json, overlays and further files to; predictions
            that stand there are replaced. None writes nothing.
        score_threshold: Detections with a lower score are left out.
        overlays: Whether to write pictures with the detections drawn over them.
        overlay_videos: Whether to write each video as an MP4 with the detections drawn.
        formats: Further files to write: "coco", "csv", "voc", "yolo".
        every: 1 takes each frame of a video, 2 every second one.
        max_memory_mb: Files are passed over that take more MiB while they are read and detected on.
            The model comes on top, and up to 256 MiB for a batch of small pictures.
        max_frames: Most frames that are taken of one video; what lies behind is named in the
            result.
        keep: Whether the result has the detections of each image. Without them, memory does not
            grow with the number of images, all of which are in `output`.
        progress: Whether to draw a progress bar on stderr, where that is a terminal.

    Returns:
        The detections of each image and frame, and the files that could not be read.

    Raises:
        ConfigError: `output` holds other things than predictions.
        DataError: There is no image, or none can be read.
        ArtifactError: The model is damaged.
        EnvironmentFault: The disk refuses.
    """
    from detflow.prediction.run import predict as predict_files

    several = [sources] if isinstance(sources, str | os.PathLike) else sources
    with progress_shown(progress) as shown:
        return predict_files(
            [os.fspath(source) for source in several],
            to_location(model),
            None if output is None else to_path(output),
            score_threshold=score_threshold,
            overlays=overlays,
            overlay_videos=overlay_videos,
            formats=tuple(formats),
            every=every,
            max_bytes=max_memory_mb << 20,
            max_frames=max_frames,
            keep=keep,
            progress=shown,
        )


def load_detector(model: Place, *, threads: int = 0) -> Detector:
    """Loads a model that detects objects in images.

    Args:
        model: An exported folder, of which the fastest format runs; one of its files (model.onnx,
            …); a SavedModel; a model directory (its best checkpoint) or a checkpoint. The URL of a
            folder works too. Of exports only frozen graphs and SavedModels need TensorFlow.
        threads: Threads of one operation; 0 takes one for each core.

    Returns:
        The detector; see `Detector.predict`.

    Raises:
        ArtifactError: It is none of these, or it is damaged.
        EnvironmentFault: The store refuses, or a library is missing.
    """
    from detflow.inference.load import load_detector as load_local_detector
    from detflow.inference.load import local_model

    # Once a model is loaded, its files are no longer needed.
    with local_model(to_location(model)) as path:
        return load_local_detector(path, threads=threads)


def read_settings(
    config: Config,
    *,
    records: Place | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    time_budget: str | float | None = None,
    overfit: int | None = None,
) -> ExperimentConfig:
    """Reads a configuration and the settings that replace some of its own; arguments as in `train`.

    Raises:
        ConfigError: Anything is not as the schema says.
    """
    from detflow.config.reading import format_config, parse_config, read_config
    from detflow.config.schema import ExperimentConfig

    if isinstance(config, str | os.PathLike):
        settings = list_overrides(records, overrides, time_budget, overfit)
        return read_config(require_file(Path(config)), settings, FLAGS)
    text = (
        format_config(config)
        if isinstance(config, ExperimentConfig)
        else json.dumps(config, default=str)
    )
    return parse_config(text, list_overrides(records, overrides, time_budget, overfit))


def require_file(path: Path) -> Path:
    """Returns the path of a configuration; says what a folder is, and what to do.

    Raises:
        ConfigError: It is a folder.
    """
    if path.is_dir():
        cause, remedy = describe_mistake(path, "configuration")
        raise ConfigError(cause, path=path, remedy=remedy)
    return path


def list_overrides(
    records: Place | None,
    overrides: Mapping[str, Any] | Sequence[str],
    time_budget: str | float | None,
    overfit: int | None,
) -> tuple[str, ...]:
    """Returns `key=value` of each setting that replaces one of the configuration's."""
    named = {
        "data.records": None if records is None else str(to_location(records)),
        "train.time_budget": time_budget,
        "data.overfit": overfit,
    }
    listed = [f"{key}={json.dumps(value)}" for key, value in named.items() if value is not None]
    if isinstance(overrides, Mapping):
        listed += [f"{key}={json.dumps(value, default=str)}" for key, value in overrides.items()]
    else:
        listed += overrides
    return tuple(listed)


def choose_model_dir(config: Config, model_dir: Place | None) -> Location:
    """Returns the model directory: the one that was named, or runs/ and the configuration's name.

    Raises:
        ConfigError: None was named, and the configuration is no file.
    """
    if model_dir is not None:
        return to_location(model_dir)
    if isinstance(config, str | os.PathLike) and not is_url(os.fspath(config)):
        return Path("runs") / Path(config).stem
    raise ConfigError(
        "there is no model directory", remedy="pass model_dir, or the path of a configuration file"
    )


def train_here(
    config: ExperimentConfig,
    model_dir: Location,
    *,
    accept_changes: bool = False,
    actions: Sequence[Action] = (),
    silent: bool = False,
    topology: Topology | None = None,
    began: float | None = None,
) -> Training:
    """Trains in this process, alone or as a part of a cluster.

    Args:
        config: The resolved configuration.
        model_dir: The model directory. The chief of a cluster alone holds its lock.
        accept_changes: As in `train`.
        actions: As in `train`.
        silent: Whether to show nothing on stderr.
        topology: The processes that train together; None for one.
        began: When a time budget began, in seconds of `time.monotonic`; None for now.

    Raises:
        DetflowError: As in `train`.
    """
    from detflow.runs.run_dir import RunDir
    from detflow.runs.states import is_checkpoint, read_state
    from detflow.training.preflight import prepare_start

    run = RunDir(model_dir)
    with run.locked() if topology is None or topology.is_chief else contextlib.nullcontext():
        start = prepare_start(
            config, run, accept_changes=accept_changes, topology=topology, began=began
        )

        from detflow.training.recipe import train as run_recipe

        result = run_recipe(run, start, actions, silent=silent)
        best = result.state.best_step if result.state else None
        # A best checkpoint that somebody has removed since is still named.
        path = None if best is None else run.checkpoint_path(best)
        return Training(
            model_dir=model_dir,
            step=result.state.step if result.state else 0,
            best_checkpoint=None if best is None else model_dir / f"ckpt-{best}",
            metrics=read_state(path).metrics if path and is_checkpoint(path) else {},
            stopped_by=result.stopped_by,
        )
