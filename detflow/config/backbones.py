"""The backbones that a configuration can name, and what each goes with. Imports no TensorFlow.

A further backbone of a family is a further row. A further family needs a builder too:
`models.garden.backbones` has one for each.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """What backbones of one kind have in common.

    Attributes:
        name: What `models.garden.backbones` finds the builder by.
        architectures: The architectures that take it.
        finest_level: First level of its features; level l has one cell for each 2^l pixels.
        coarsest_level: Last level of its features. A feature pyramid goes on from there.
        min_width: Least `model.width_multiplier`; None for a family that has the width 1 alone.
        is_pyramid: Its features are a pyramid as they are, so that none is built behind it.
        needs_all_levels: The model has the levels of its features, no more and no fewer.
        takes_several_sizes: Whether the network takes images of several sizes.
    """

    name: str
    architectures: tuple[str, ...] = ("retinanet", "faster_rcnn")
    finest_level: int = 2
    coarsest_level: int = 5
    min_width: float | None = 0.0
    is_pyramid: bool = False
    needs_all_levels: bool = False
    takes_several_sizes: bool = True


@dataclass(frozen=True, slots=True)
class Backbone:
    """A backbone: its family, and what Model Garden calls this member of it."""

    family: Family
    model_id: str | int


# Below 16 filters the gradient of a strided 1x1 convolution in TensorFlow 2.20's oneDNN writes
# outside its memory (docs/decisions/0003-onednn.md).
_RESNET = Family("resnet", min_width=0.25)
_MOBILENET = Family("mobilenet")
_EFFICIENTNET = Family("efficientnet", min_width=None)
_SPINENET = Family(
    "spinenet_mobile",
    finest_level=3,
    coarsest_level=7,
    min_width=None,
    is_pyramid=True,
    takes_several_sizes=False,
)
_YOLO = Family(
    "yolov7", architectures=("yolo",), finest_level=3, min_width=None, needs_all_levels=True
)

BACKBONES: dict[str, Backbone] = {
    "resnet10": Backbone(_RESNET, 10),
    "resnet18": Backbone(_RESNET, 18),
    "resnet34": Backbone(_RESNET, 34),
    "resnet50": Backbone(_RESNET, 50),
    "mobilenet_v2": Backbone(_MOBILENET, "MobileNetV2"),
    "mobilenet_v3_small": Backbone(_MOBILENET, "MobileNetV3Small"),
    "mobilenet_v3_large": Backbone(_MOBILENET, "MobileNetV3Large"),
    # EfficientNet-Lite0 is B0 without squeeze and excitation, its activation relu6. B1 and B2 are
    # not the Lite ones: Model Garden scales stem and last block, and Lite keeps them.
    "efficientnet_lite0": Backbone(_EFFICIENTNET, "b0"),
    "spinenet49_mobile": Backbone(_SPINENET, "49"),
    "spinenet49s_mobile": Backbone(_SPINENET, "49S"),
    "spinenet49xs_mobile": Backbone(_SPINENET, "49XS"),
    "yolov7_nano": Backbone(_YOLO, "yolov7-nano"),
    "yolov7_tiny": Backbone(_YOLO, "yolov7-tiny"),
}
"""By the name that `model.backbone` takes."""
