"""The one place that makes a model from its configuration."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from detflow.config.schema import ModelConfig
from detflow.distributed.replicas import unbiased_statistics
from detflow.models.base import DetectionModel
from detflow.models.faster_rcnn import FasterRCNN
from detflow.models.retinanet import RetinaNet
from detflow.models.yolo import Yolo

_ARCHITECTURES: dict[str, Callable[[ModelConfig, int], DetectionModel]] = {
    "retinanet": RetinaNet,
    "faster_rcnn": FasterRCNN,
    "yolo": Yolo,
}


# Autograph would rewrite Model Garden's layers, which need it no more here than inside the step: it
# takes time, and a process that is killed leaves a file for each of them in the folder for
# temporary files.
@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def build_model(config: ModelConfig, num_classes: int) -> DetectionModel:
    """Builds the model that the configuration names.

    Args:
        config: The model's section of the configuration.
        num_classes: Without background.

    Returns:
        The model, its weights drawn from TensorFlow's global seed.

    Raises:
        ConfigError: `model.garden` says what Model Garden cannot build.
    """
    model = _ARCHITECTURES[config.architecture](config, num_classes)
    unbiased_statistics(model.network)
    return model
