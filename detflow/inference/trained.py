"""A model directory or one of its checkpoints as a model that is ready to serve."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from detflow.config.schema import ExperimentConfig
from detflow.inference.serving import ServingModel
from detflow.label_map import LabelMap
from detflow.models.build import build_model
from detflow.runs.checkpoints import WeightAverage, restore_weights
from detflow.runs.run_dir import RunDir
from detflow.runs.states import CheckpointState, find_checkpoint, read_state

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """A network that holds a checkpoint's averaged weights.

    Attributes:
        serving: The network, ready to serve.
        label_map: The classes.
        config: The configuration that the checkpoint was made with.
        run: The run's model directory.
        checkpoint_path: The checkpoint's folder.
        state: Step and metrics of the checkpoint.
    """

    serving: ServingModel
    label_map: LabelMap
    config: ExperimentConfig
    run: RunDir
    checkpoint_path: Path
    state: CheckpointState


def load_trained_model(
    path: Path, *, score_threshold: float | None = None, max_detections: int | None = None
) -> TrainedModel:
    """Builds the network of a run and loads a checkpoint into it.

    Args:
        path: A model directory, whose best checkpoint is meant, or a checkpoint's folder inside
            one.
        score_threshold: Least score of a detection; None for the run's own.
        max_detections: Most detections of one image; None for the run's own.

    Raises:
        ArtifactError: The run or the checkpoint is missing or damaged, or label_map.pbtxt beside it
            names other classes.
    """
    run, checkpoint_path = find_checkpoint(path)
    state = read_state(checkpoint_path)
    # What a checkpoint belongs to it says itself: files beside it prove nothing.
    config, label_map = state.record.config, state.record.label_map
    run.require_classes(label_map)
    if edit := run.find_edit():
        _log.warning(edit)
    model = build_model(config.model, len(label_map))
    restore_weights(
        checkpoint_path, model.network, WeightAverage(model.network, config.train.ema_decay)
    )
    changes = {"score_threshold": score_threshold, "max_detections": max_detections}
    serving = config.evaluate.model_copy(
        update={key: value for key, value in changes.items() if value is not None}
    )
    return TrainedModel(
        ServingModel(model, serving), label_map, config, run, checkpoint_path, state
    )
