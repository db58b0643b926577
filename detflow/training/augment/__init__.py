"""Random changes to training images, as functions of (seed, step). This file imports no TensorFlow.

`pipeline` holds the list of them. Each draws its random numbers from the seed, the step and its own
name, so that a further one changes no number of the others.
"""

from typing import Final

RANDOM_NUMBERS: Final = 2
"""Version of the way from (seed, step) to random numbers. A run that is resumed under another one
is a different run, and `training.provenance` says so."""
