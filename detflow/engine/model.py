"""The one place that makes a model from its configuration."""

from __future__ import annotations

from detflow.config import ModelConfig
from detflow.engine.architecture import DetectionModel
from detflow.engine.retinanet import RetinaNet

__all__ = ["build_model"]


def build_model(config: ModelConfig, num_classes: int) -> DetectionModel:
    """Builds the model that the configuration names.

    Args:
        config: The model's section of the configuration.
        num_classes: Without background.

    Returns:
        The model, its weights drawn from TensorFlow's global seed.
    """
    return RetinaNet(config, num_classes)
