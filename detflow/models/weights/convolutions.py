"""What a convolution with its batch norm computes, in arrays, whichever file they came from.

This file imports no TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from detflow.geometry import MEAN_RGB, STDDEV_RGB

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NormedConvolution:
    """A convolution without a bias, and the batch norm behind it.

    Attributes:
        kernel: [height, width, input channels, output channels], or [height, width, channels, 1] of
            a convolution of each channel by itself.
        gamma: [output channels] factor of the norm.
        beta: [output channels] what the norm adds.
        mean: [output channels] what the norm takes for the mean of the convolution's output.
        variance: [output channels] for its variance, the norm's epsilon included.
        has_statistics: Whether mean and variance are those of images. Where they are not, since a
            converter has folded the norm into the kernel, the norm normalises nothing.
    """

    kernel: Floats
    gamma: Floats
    beta: Floats
    mean: Floats
    variance: Floats
    has_statistics: bool = True

    @classmethod
    def from_bias(cls, kernel: Floats, bias: Floats) -> NormedConvolution:
        """Returns the convolution and a norm that adds its bias, and does nothing else."""
        one, zero = np.ones_like(bias), np.zeros_like(bias)
        return cls(kernel, one, bias, zero, one, has_statistics=False)


def take_own_input(first: NormedConvolution, centre: float, scale: float) -> NormedConvolution:
    """Makes the first convolution of a network take what detflow gives it.

    Inside of the image its norm gives the same numbers as before. At the border it sees what
    detflow pads with, the mean colour, where it saw the colour `centre`.

    Args:
        first: It takes (pixel − centre) / scale, pixel values from 0 to 255.
        centre: See `first`.
        scale: See `first`.

    Returns:
        The convolution for pixels as `models.preprocess.normalize` gives them.
    """
    # (pixel − centre) / scale = ours · deviation / scale + (mean − centre) / scale
    deviation = np.array(STDDEV_RGB, np.float64) / scale
    shift = (np.array(MEAN_RGB, np.float64) - centre) / scale
    kernel = first.kernel.astype(np.float64)
    constant = np.einsum("hwio,i->o", kernel, shift)
    return replace(
        first,
        kernel=(kernel * deviation[:, np.newaxis]).astype(np.float32),
        mean=(first.mean - constant).astype(np.float32),
    )
