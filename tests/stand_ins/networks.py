"""Which network the tests compute with: Model Garden's RetinaNet, or a small one in its place.

What surrounds a network is tested on the small one, which is built, differentiated, compiled and
converted in a tenth of the time. What is about networks is marked `whole_network`.
"""

import os

import small_network

from detflow.models import retinanet
from detflow.models.garden.retinanet import build_retinanet_network
from detflow.training import curves_picture

# Python imports sitecustomize from there, which does in other processes what is done here.
_SITE = os.path.join(os.path.dirname(__file__), "site")
_draw_curves = curves_picture.draw_curves


def use(*, is_small):
    """Lets this process, and those that it starts, build one of the networks from here on.

    With the small one this process leaves out the picture of a run's curves, which takes as long as
    some steps.
    """
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    others = [path for path in others if path != _SITE]
    os.environ["PYTHONPATH"] = os.pathsep.join([_SITE, *others] if is_small else others)
    retinanet.build_retinanet_network = (
        small_network.build_retinanet_network if is_small else build_retinanet_network
    )
    curves_picture.draw_curves = (lambda losses, metrics: b"") if is_small else _draw_curves


def is_small():
    """Returns whether this process builds the small network."""
    return retinanet.build_retinanet_network is not build_retinanet_network
