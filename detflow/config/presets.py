"""The presets: what each sets of the section `model` beside the schema's defaults.

Levels, filters, convolutions and activations are those of Model Garden's published COCO models, so
that their weights fit. `retinanet_lite0` and `retinanet_mobilenet_v2_light` have a backbone that
weights fit, and the light pyramid and head of `retinanet_resnet10`. One anchor a cell is enough for
ATSS (arXiv:1912.02424, section 4.4.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

ModelPreset: TypeAlias = Mapping[str, Any]
"""Settings of the section `model` by name; those that it leaves out keep the schema's defaults."""

_MOBILE: ModelPreset = {
    "width_multiplier": 1.0,
    "max_level": 7,
    "num_filters": 128,
    "num_head_convs": 4,
}
_SEPARABLE: ModelPreset = {"use_separable_conv": True}
_MOBILENET_GARDEN: ModelPreset = {
    "decoder": _SEPARABLE,
    "head": _SEPARABLE,
    "norm_activation": {"activation": "relu6"},
}
# What the weights of both backbones were trained with.
_LIGHT: ModelPreset = {
    "width_multiplier": 1.0,
    "garden": {"norm_activation": {"activation": "relu6"}},
}

PRESETS: dict[str, ModelPreset] = {
    "retinanet_resnet10": {},
    "retinanet_lite0": {**_LIGHT, "backbone": "efficientnet_lite0"},
    "retinanet_mobilenet_v2_light": {**_LIGHT, "backbone": "mobilenet_v2"},
    "retinanet_mobilenet_v2": {
        **_MOBILE,
        "backbone": "mobilenet_v2",
        "garden": _MOBILENET_GARDEN,
    },
    "retinanet_mobilenet_v3": {
        **_MOBILE,
        "backbone": "mobilenet_v3_large",
        "garden": _MOBILENET_GARDEN,
    },
    "retinanet_spinenet49_mobile": {
        **_MOBILE,
        "backbone": "spinenet49_mobile",
        "num_filters": 48,
        "garden": {"head": _SEPARABLE, "norm_activation": {"activation": "hard_swish"}},
    },
    "retinanet_resnet50": {
        "backbone": "resnet50",
        "width_multiplier": 1.0,
        "max_level": 7,
        "num_filters": 256,
        "num_head_convs": 4,
    },
    "faster_rcnn_resnet50": {
        "architecture": "faster_rcnn",
        "backbone": "resnet50",
        "width_multiplier": 1.0,
        "min_level": 2,
        "max_level": 6,
        "num_filters": 256,
        "num_head_convs": 4,
        "anchor_scale": 8.0,
        "aspect_ratios": [0.5, 1.0, 2.0],
    },
    "yolo_v7_tiny": {
        "architecture": "yolo",
        "backbone": "yolov7_tiny",
        "width_multiplier": 1.0,
        "anchor_scale": 3.0,
        "aspect_ratios": [0.5, 1.0, 2.0],
    },
}
"""By the name that `model.preset` takes."""

TRAINING: Mapping[str, Mapping[str, Any]] = {
    name: {"learning_rate": 0.001} for name in ("retinanet_lite0", "retinanet_mobilenet_v2_light")
}
"""What a preset sets of the section `train`. Weights that are good already, and what a mobile
network computes with few multiplications, take half the learning rate of a resnet from scratch."""
