"""Which model a TensorFlow checkpoint fits that says nothing about itself."""

from __future__ import annotations

from collections.abc import Mapping

from detflow.config.presets import PRESETS, ModelPreset
from detflow.config.schema import ModelConfig
from detflow.models.build import build_model
from detflow.models.weights.restore import restore_parts
from detflow.models.weights.sources import InitialWeights


def find_fitting_preset(
    weights: InitialWeights, presets: Mapping[str, ModelPreset] = PRESETS
) -> str | None:
    """Returns the preset whose network takes the most of a checkpoint.

    Each network is built, which takes seconds, and filled.

    Args:
        weights: The checkpoint.
        presets: The candidates, as in `config.presets`.

    Returns:
        The first of those that take equally much; None where the checkpoint fills no backbone.

    Raises:
        ArtifactError: It is damaged, or holds numbers that are not finite.
    """
    counts: dict[str, int] = {}
    for name, preset in presets.items():
        parts = restore_parts(weights, build_model(ModelConfig.model_validate(dict(preset)), 1))
        if parts["backbone"].restored == parts["backbone"].total:
            counts[name] = sum(part.restored for part in parts.values())
    return max(counts, key=lambda name: counts[name], default=None)
