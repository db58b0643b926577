"""Random contrast, brightness and colour."""

from __future__ import annotations

from detflow.config.schema import AugmentConfig
from detflow.training.augment.canvases import Canvases, Originals
from detflow.training.augment.noise import Noise


def change_colours(
    canvases: Canvases, originals: Originals, noise: Noise, config: AugmentConfig
) -> Canvases:
    """Multiplies each canvas and each of its channels by a factor, and adds to its brightness.

    Args:
        canvases: The canvases.
        originals: Not used.
        noise: The random numbers.
        config: The ranges.
    """
    # [B, 1, 1, 5] in [-1, 1): for all channels, for each of them, for the brightness.
    signed = noise.uniform("colour", [1, 1, 5]) * 2.0 - 1.0
    gain = (1.0 + config.gain * signed[..., :1]) * (1.0 + config.channel_gain * signed[..., 1:4])
    # Normalised values deviate by about 1 over 57 grey levels.
    return canvases._replace(
        pixels=canvases.pixels * gain + config.offset * (255.0 / 57.0) * signed[..., 4:]
    )
